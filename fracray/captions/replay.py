"""Captions made before, anywhere, answered again from their table.

Which caption belongs to a radiograph is decided by the identity of its file, never by its pixels: the table
holds no pixels, and another preprocessing must not change which radiograph is meant. So `caption` needs
`image_ids` here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fracray.captions.captioner import Caption, Status
from fracray.errors import CaptionerError
from fracray.fingerprint import file_hash

IMAGE_SIZE = 32
"""Nothing looks at the pixels, so they are kept small."""

IDENTITIES = ("image_id", "path", "uri")
TEXTS = ("caption", "text")


class ReplayCaptioner:
    """Answers with stored captions, looked up by `image_id`."""

    image_size = IMAGE_SIZE
    self_test = None

    def __init__(self, captions: Mapping[str, Caption], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._captions = captions

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each radiograph of `image_ids`; an unknown one gets status failed."""
        if image_ids is None:
            return [Caption(None, "failed", "a replay needs to be told the image_ids") for _ in pixels]
        if len(image_ids) != len(pixels):
            raise ValueError(f"{len(image_ids)} image_ids for {len(pixels)} pictures")
        unknown = Caption(None, "failed", "the captions table has no row for this image_id")
        return [self._captions.get(image_id, unknown) for image_id in image_ids]


def open_replay(path: Path, fingerprint: str) -> ReplayCaptioner:
    """Read a table of captions: Parquet or CSV with image_id or path (or uri), and caption or text.

    Relative paths start at the table's folder. The table of a feature store fits as it is. Raises
    `CaptionerError` if a column or a file is missing, or an image stands there twice.
    """
    table = _read(path)
    identity = _column(table, IDENTITIES, path)
    text = _column(table, TEXTS, path)
    captions: dict[str, Caption] = {}
    for row in table.to_pylist():
        image = str(row[identity])
        image_id = image if identity == "image_id" else _hash(path.parent / image, path)
        if image_id in captions:
            raise CaptionerError(
                f"{path}: image {image} appears twice; keep one fingerprint, or one row, in the table"
            )
        captions[image_id] = _caption(row, text)
    return ReplayCaptioner(captions, fingerprint)


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".csv":
            texts = dict.fromkeys((*IDENTITIES, *TEXTS), pa.string())
            options = pa.csv.ConvertOptions(column_types=texts, strings_can_be_null=True)
            return pa.csv.read_csv(
                path,
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=options,
            )
        return pa.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CaptionerError(
            f"{path}: captions cannot be replayed ({reason}); name a Parquet or CSV file"
        ) from None


def _column(table: pa.Table, names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise CaptionerError(f"{path}: captions cannot be replayed, no column {' or '.join(names)}; add one")


def _hash(file: Path, table: Path) -> str:
    try:
        return file_hash(file)
    except OSError:
        raise CaptionerError(f"{table}: names {file}, which is not there; correct its paths") from None


def _caption(row: Mapping[str, Any], text: str) -> Caption:
    written = row[text]
    status: Status = row.get("status") or ("ok" if written else "empty")
    if status not in get_args(Status):
        status = "failed"
    vector = row.get("image_vector")
    return Caption(
        text=written or None,
        status=status,
        reason=row.get("reason"),
        tokens=row.get("tokens"),
        seconds=row.get("seconds"),
        image_vector=None if vector is None else np.asarray(vector, np.float32),
    )
