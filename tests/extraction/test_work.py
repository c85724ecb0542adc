from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fracray import schema
from fracray.errors import TableError
from fracray.extraction import work
from fracray.extraction.span import Span
from fracray.extraction.store import FeatureStore
from fracray.extraction.work import missing_work
from fracray.fingerprint import image_id
from fracray.location import Location

NAMES = {"captions": "c", "embeddings": "e"}
IDS = st.integers(0, 30).map(lambda number: image_id(str(number).encode()))
HELD = st.dictionaries(IDS, st.sampled_from(["ok", "failed"]))


def write_manifest(path: Path, rows: list[tuple[str, str]]) -> Location:
    """Rows of image_id and status."""
    nothing = dict.fromkeys(schema.MANIFEST.names)
    table = [
        nothing | {"image_id": image, "uri": f"/{number}.png", "group": "g", "status": status}
        for number, (image, status) in enumerate(rows)
    ]
    schema.write_table(pa.Table.from_pylist(table, schema=schema.MANIFEST), schema.MANIFEST, path)
    return Location.of(path)


def fill(store: FeatureStore, captions: dict[str, str], embeddings: dict[str, str]) -> None:
    row = {"fingerprint": "c", "verdict": "none", "findings": "unparsed"}
    for image, status in captions.items():
        table = pa.Table.from_pylist([row | {"image_id": image, "status": status}], schema=schema.CAPTIONS)
        store.write("captions", "c", table)
    if embeddings:
        rows = [{"image_id": i, "fingerprint": "e", "status": status} for i, status in embeddings.items()]
        store.write("embeddings", "e", pa.Table.from_pylist(rows, schema=schema.EMBEDDINGS))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(IDS, st.sampled_from(["ok", "ok", "duplicate"])), min_size=1, max_size=25),
    captions=HELD, embeddings=HELD, retry=st.booleans(), rows_per_span=st.integers(1, 30),
)  # fmt: skip
def test_the_spans_together_are_the_manifest_minus_the_store(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    captions: dict[str, str],
    embeddings: dict[str, str],
    retry: bool,
    rows_per_span: int,
) -> None:
    folder = tmp_path_factory.mktemp("work")
    manifest, store = write_manifest(folder / "manifest.parquet", rows), FeatureStore(folder / "store")
    fill(store, captions, embeddings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "ROWS_PER_SPAN", rows_per_span)
        missing = missing_work(manifest, store.place, NAMES, retry_failed=retry)
    found = [row for number in range(missing.spans) for row in missing.rows(number).to_pylist()]
    counts = [missing.counts(number) for number in range(missing.spans)]

    usable = {image for image, status in rows if status == "ok"}
    wishes = {}
    for image in usable:
        lacks = tuple(
            held.get(image) is None or (retry and held[image] == "failed") for held in (captions, embeddings)
        )
        if any(lacks):
            wishes[image] = lacks
    assert {row["image_id"]: (row["want_captions"], row["want_embeddings"]) for row in found} == wishes
    assert len(found) == len(wishes)
    assert sum(count.rows for count in counts) == len(usable)
    assert sum(count.todo for count in counts) == len(wishes)
    assert sum(count.present["captions"] for count in counts) == len(usable & set(captions))
    stay = {image for image in usable if not retry and embeddings.get(image) == "failed"}
    assert sum(count.failed["embeddings"] for count in counts) == len(stay)


def test_a_feature_without_a_fingerprint_is_wanted_of_no_row(tmp_path: Path) -> None:
    ids = [image_id(bytes([number])) for number in range(3)]
    manifest = write_manifest(tmp_path / "manifest.parquet", [(image, "ok") for image in ids])
    store = FeatureStore(tmp_path / "store")
    fill(store, {ids[0]: "failed"}, {ids[0]: "ok", ids[1]: "failed"})
    found = missing_work(manifest, store.place, {"embeddings": "e"}, retry_failed=True)
    wishes = {
        row["image_id"]: (row["want_captions"], row["want_embeddings"]) for row in found.rows(0).to_pylist()
    }
    assert wishes == {ids[1]: (False, True), ids[2]: (False, True)}
    counts = found.counts(0)
    assert (counts.wanted["captions"], counts.present["captions"], counts.failed["captions"]) == (0, 0, 0)


@given(st.binary(max_size=4).map(image_id), st.integers(1, 5000))
def test_every_id_lies_in_exactly_one_span(image: str, count: int) -> None:
    middle = int(image[:8], 16) * count >> 32
    table = pa.table({"id": [image]})
    near = range(max(0, middle - 2), min(count, middle + 3))
    holding = [number for number in near if table.filter(Span.of(number, count).condition("id")).num_rows]
    assert len(holding) == 1
    assert Span.of(holding[0], count).meets(image[:8], image[:8])


def test_a_folder_of_manifests_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    ids = [image_id(bytes([number])) for number in range(6)]
    for part in range(2):
        write_manifest(tmp_path / "manifests" / f"{part}.parquet", [(i, "ok") for i in ids[part::2]])
    found = missing_work(Location.of(tmp_path / "manifests"), Location.of(tmp_path / "store"), NAMES)
    assert found.rows(0)["image_id"].to_pylist() == sorted(ids)


def test_what_is_no_manifest_is_named(tmp_path: Path) -> None:
    store = Location.of(tmp_path / "store")
    for name, content in (("gone", None), ("text", b"no parquet")):
        place = tmp_path / f"{name}.parquet"
        if content is not None:
            place.write_bytes(content)
        with pytest.raises(TableError, match=rf"{name}\.parquet"):
            missing_work(Location.of(place), store, NAMES)
    other = pa.table({"image_id": ["a"]})
    schema.pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(TableError, match="column 'uri' is missing"):
        missing_work(Location.of(tmp_path / "other.parquet"), store, NAMES)
