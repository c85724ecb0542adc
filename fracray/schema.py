"""The Arrow schema of every Parquet table, each stated once.

Readers and writers go through `write_table` and `read_table`, which refuse a table that does not fit and
name the column. A field's metadata says what it holds, in which unit, and what null means.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fracray.errors import TableError
from fracray.location import Location


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


_IMAGE_ID = _field("image_id", pa.string(), "SHA-256 of the file's bytes, 64 hex digits")
_FINGERPRINT = _field("fingerprint", pa.string(), "hash of all settings that can change this feature")

MANIFEST = pa.schema(
    [
        _field("image_id", pa.string(), "SHA-256 of the file's bytes; null: unreadable", nullable=True),
        _field("uri", pa.string(), "absolute path or URI of the file"),
        _field("label", pa.int8(), "1 fractured, 0 not; null: not known", nullable=True),
        _field("region", pa.string(), "hand, leg, hip, shoulder or mixed; null: not known", nullable=True),
        _field(
            "projection",
            pa.string(),
            "frontal, lateral, oblique, or several joined by '+'; null: not known",
            nullable=True,
        ),
        _field("several_views", pa.bool_(), "several views in one picture; null: not known", nullable=True),
        _field("hardware", pa.bool_(), "metal hardware in the picture; null: not known", nullable=True),
        _field("group", pa.string(), "rows of one group never stand on two sides of a split"),
        _field("fold", pa.int16(), "outer fold, 0 to k-1; null: not usable for fitting", nullable=True),
        _field("width", pa.int32(), "pixels as stored in the file; null: unreadable", nullable=True),
        _field("height", pa.int32(), "pixels as stored in the file; null: unreadable", nullable=True),
        _field("bits", pa.int16(), "bits per pixel and channel; null: unreadable", nullable=True),
        _field("format", pa.string(), "PNG, JPEG, TIFF or DICOM; null: unreadable", nullable=True),
        _field("warnings", pa.string(), "what looks wrong, joined by '; '; null: nothing", nullable=True),
        _field("status", pa.string(), "ok, unreadable or duplicate"),
        _field("reason", pa.string(), "why status is not ok; null: it is", nullable=True),
    ]
)

BOXES = pa.schema(
    [
        _IMAGE_ID,
        _field("xmin", pa.float32(), "left edge of a fracture's box, pixels of the radiograph as read"),
        _field("ymin", pa.float32(), "top edge, pixels"),
        _field("xmax", pa.float32(), "right edge, pixels"),
        _field("ymax", pa.float32(), "bottom edge, pixels"),
    ]
)

CAPTIONS = pa.schema(
    [
        _IMAGE_ID,
        _FINGERPRINT,
        _field("caption", pa.string(), "the captioner's answer as written; null: none", nullable=True),
        _field("verdict", pa.string(), "positive, negative, uncertain or none"),
        _field("findings", pa.string(), "labelled lines found in the caption: ok, partial or unparsed"),
        _field("tokens", pa.int32(), "tokens generated; null: none", nullable=True),
        _field(
            "seconds", pa.float32(), "seconds of the batch divided by its rows; null: none", nullable=True
        ),
        _field(
            "image_vector",
            pa.list_(pa.float32()),
            "mean of the image tokens shown to the language model; null: no image tower, or failed",
            nullable=True,
        ),
        _field("status", pa.string(), "ok, truncated, repetitive, empty or failed"),
        _field("reason", pa.string(), "why status is not ok; null: it is", nullable=True),
    ]
)

EMBEDDINGS = pa.schema(
    [
        _IMAGE_ID,
        _FINGERPRINT,
        _field("embedding", pa.list_(pa.float32()), "averaged last feature map; null: failed", nullable=True),
        _field("status", pa.string(), "ok or failed"),
        _field("reason", pa.string(), "why status is not ok; null: it is", nullable=True),
    ]
)

PREDICTIONS = pa.schema(
    [
        _IMAGE_ID,
        _field("uri", pa.string(), "absolute path or URI of the file"),
        _field("group", pa.string(), "group of the manifest"),
        _field("fold", pa.int16(), "outer fold of the manifest"),
        _field("label", pa.int8(), "1 fractured, 0 not"),
        _field("system", pa.string(), "majority, caption_verdict, image, words or fused"),
        _field("probability", pa.float64(), "probability of a fracture, 0 to 1"),
        _field("decision", pa.int8(), "1 at or above the system's operating point, else 0"),
        _field("caption", pa.string(), "the caption the words came from; null: none", nullable=True),
    ]
)

OUT_OF_FOLD = pa.schema(
    [
        _IMAGE_ID,
        _field("fold", pa.int16(), "fold whose network and classifiers did not see the row"),
        _field("label", pa.int8(), "1 fractured, 0 not"),
        _field("image", pa.float64(), "calibrated probability of a fracture by the image, 0 to 1"),
        _field("words", pa.float64(), "the same by the words"),
        _field("fused", pa.float64(), "the same by both"),
    ]
)

PHANTOM_TRUTH = pa.schema(
    [
        _field("file", pa.string(), "path below the phantom folder"),
        _field("seed", pa.int64(), "seed of the scene"),
        _field("label", pa.int8(), "1 fractured, 0 not"),
        _field("region", pa.string(), "body region shown"),
        _field("projection", pa.string(), "direction of view"),
        _field("bone", pa.string(), "the fractured bone; null: none", nullable=True),
        _field("place", pa.string(), "third of the bone that is fractured; null: none", nullable=True),
        _field("kind", pa.string(), "kind of fracture; null: none", nullable=True),
        _field("xmin", pa.int32(), "left edge of the fracture's box, pixels; null: none", nullable=True),
        _field("ymin", pa.int32(), "top edge, pixels; null: none", nullable=True),
        _field("xmax", pa.int32(), "right edge, exclusive, pixels; null: none", nullable=True),
        _field("ymax", pa.int32(), "bottom edge, exclusive, pixels; null: none", nullable=True),
        _field(
            "displacement_mm", pa.float32(), "shift of the distal fragment, mm; null: none", nullable=True
        ),
        _field("angulation_deg", pa.float32(), "bend at the fracture, degrees; null: none", nullable=True),
        _field("lookalikes", pa.list_(pa.string()), "features that resemble a fracture and are none"),
        _field("soft_tissue_swelling", pa.bool_(), "swollen soft tissue beside the fracture"),
        _field("hardware", pa.bool_(), "metal hardware in the picture"),
        _field("pixel_spacing_mm", pa.float32(), "size of a pixel, mm"),
    ]
)


def check(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return `table` with the columns, order and types of `schema`.

    Raises `TableError` naming `where` and the column that is missing, unknown, of another type, or null
    where it must not be.
    """
    for name in schema.names:
        if name not in table.column_names:
            raise TableError(f"{where}: column '{name}' is missing; make the file again with this version")
    for name in table.column_names:
        if name not in schema.names:
            raise TableError(f"{where}: column '{name}' is not part of this table; remove it")
    columns = []
    for field in schema:
        column = table.column(field.name)
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise TableError(f"{where}: column '{field.name}' is {column.type}, not {field.type}") from None
        if not field.nullable and column.null_count:
            raise TableError(f"{where}: column '{field.name}' has {column.null_count} empty values")
        columns.append(column)
    return pa.table(columns, schema=schema)


ROWS_PER_GROUP = 65_536
"""Rows that a reader of a part of a table has to hold at least."""


def write_table(table: pa.Table, schema: pa.Schema, place: str | Path | Location) -> None:
    """Write `table` to `place` as Parquet so that the file appears whole or not at all; raises `TableError`
    or `LocationError`."""
    checked = check(table, schema, str(place))
    Location.of(place).write_whole(lambda file: pq.write_table(checked, file, row_group_size=ROWS_PER_GROUP))


def read_table(place: str | Path | Location, schema: pa.Schema) -> pa.Table:
    """Read the Parquet file at `place` and check it; raises `TableError` or `LocationError`."""
    location = Location.of(place)
    if location.is_folder:
        raise TableError(f"{location}: is a folder; name the Parquet file in it")
    if not location.is_file:
        raise TableError(f"{location}: no such file; check the path")
    filesystem, path = location.opened()
    try:
        table = pq.read_table(path, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{location}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    return check(table, schema, str(place))
