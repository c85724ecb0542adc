import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fracray import schema
from fracray.errors import LocationError, StoreError, TableError
from fracray.extraction.span import Span
from fracray.extraction.store import FeatureStore

FINGERPRINT = "0123456789abcdef"
STATUSES = ("ok", "truncated", "repetitive", "empty", "failed")


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def captions(rows: list[tuple[int, str, str]], fingerprint: str = FINGERPRINT) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": name(number),
                "fingerprint": fingerprint,
                "caption": text,
                "verdict": "none",
                "findings": "unparsed",
                "image_vector": None,
                "tokens": 3,
                "seconds": 0.5,
                "status": status,
                "reason": None if status == "ok" else status,
            }
            for number, status, text in rows
        ],
        schema=schema.CAPTIONS,
    )


def embeddings(numbers: list[int]) -> pa.Table:
    rows = [
        {
            "image_id": name(number),
            "fingerprint": FINGERPRINT,
            "embedding": [float(number), 0.5],
            "status": "ok",
            "reason": None,
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=schema.EMBEDDINGS)


ROW = st.tuples(st.integers(0, 6), st.sampled_from(STATUSES), st.text(max_size=5))


@settings(max_examples=40, deadline=None)
@given(runs=st.lists(st.lists(ROW, min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_image_is_read_once_and_by_its_best_row(runs: list[list[tuple[int, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        for run in runs:
            store.write("captions", FINGERPRINT, captions(run))
        table = store.read("captions", FINGERPRINT)
        written = {(name(number), status, text) for run in runs for number, status, text in run}
        read = list(
            zip(
                *(table[column].to_pylist() for column in ("image_id", "status", "caption")),
                strict=True,
            )
        )
        assert [row[0] for row in read] == sorted({row[0] for row in written})
        assert set(read) <= written
        for image_id, status, _ in read:
            offered = {row[1] for row in written if row[0] == image_id}
            if "ok" in offered:
                assert status == "ok"
            elif status == "failed":
                assert offered == {"failed"}
        assert store.read("captions", FINGERPRINT).equals(table)
        found = store.statuses("captions", FINGERPRINT)
        pairs = set(zip(found["image_id"].to_pylist(), found["status"].to_pylist(), strict=True))
        assert pairs == {row[:2] for row in written}


def test_the_same_rows_read_the_same_however_they_were_split(tmp_path: Path) -> None:
    rows = [(number, "ok", f"text {number}") for number in range(20)]
    whole, split = FeatureStore(tmp_path / "whole"), FeatureStore(tmp_path / "split")
    whole.write("captions", FINGERPRINT, captions(rows))
    for start in range(0, 20, 3):
        split.write("captions", FINGERPRINT, captions(rows[start : start + 3]))
    assert whole.read("captions", FINGERPRINT).equals(split.read("captions", FINGERPRINT))


def test_other_tools_read_the_folder_as_it_stands(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.write_settings("embeddings", FINGERPRINT, {"size": 224})
    store.write("embeddings", FINGERPRINT, embeddings([1, 2]))
    store.write("embeddings", FINGERPRINT, embeddings([3]))
    folder = tmp_path / "embeddings" / FINGERPRINT
    (folder / ".part-1.parquet.unfinished").write_bytes(b"half a file")

    query = f"select image_id, embedding[1] as first from '{folder}/*.parquet'"
    by_duckdb = sorted(duckdb.execute(query).fetchall())
    by_pandas = pd.read_parquet(folder)
    by_pyarrow = ds.dataset(folder, format="parquet").to_table()

    assert by_duckdb == sorted((name(number), float(number)) for number in (1, 2, 3))
    assert sorted(by_pandas["image_id"]) == [row[0] for row in by_duckdb]
    assert by_pyarrow.schema.equals(schema.EMBEDDINGS)
    assert by_pyarrow.num_rows == 3


def test_an_unfinished_file_is_not_part_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path)
    store.write("captions", FINGERPRINT, captions([(1, "ok", "kept")]))

    def full_disk(table: pa.Table, file: object, **_: object) -> None:
        file.write(b"PAR1 and then")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(LocationError, match="No space left"):
        store.write("captions", FINGERPRINT, captions([(2, "ok", "lost")]))
    assert store.read("captions", FINGERPRINT)["image_id"].to_pylist() == [name(1)]
    assert len(list((tmp_path / "captions" / FINGERPRINT).iterdir())) == 1


WRITER_ON_A_SMALL_DISK = """
import resource, signal, sys
import pyarrow as pa
from fracray import schema
from fracray.errors import LocationError
from fracray.extraction.span import Span
from fracray.extraction.store import FeatureStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
row = {"image_id": "b" * 64, "fingerprint": "f" * 16, "status": "ok", "reason": None}
rows = [row | {"embedding": [float(i * j % 977) for j in range(3000)]} for i in range(3)]
try:
    table = pa.Table.from_pylist(rows, schema=schema.EMBEDDINGS)
    FeatureStore(sys.argv[1]).write("embeddings", "f" * 16, table)
except LocationError as error:
    sys.exit(str(error))
"""


def test_a_file_for_which_there_is_no_room_leaves_no_trace(tmp_path: Path) -> None:
    """The operating system itself refuses, through its limit on the size of a file."""
    run = subprocess.run(
        [sys.executable, "-c", WRITER_ON_A_SMALL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert "File too large" in run.stderr
    assert "check space" in run.stderr
    assert "Traceback" not in run.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_search_for_a_span_opens_only_files_that_can_hold_it(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    ids = sorted(name(number) for number in range(64))
    table = embeddings(list(range(64))).sort_by("image_id")
    for start in range(0, 64, 8):
        store.write("embeddings", FINGERPRINT, table.slice(start, 8))
    found = []
    for number in range(4):
        span = Span.of(number, 4)
        assert len(store.parts("embeddings", FINGERPRINT, span)) < 8
        found.append(store.statuses("embeddings", FINGERPRINT, span)["image_id"].to_pylist())
    assert [image for part in found for image in part] == ids
    assert all(found)


def test_writing_again_keeps_what_was_there(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    first = store.write("captions", FINGERPRINT, captions([(1, "ok", "text")]))
    before = first.read_bytes()
    second = store.write("captions", FINGERPRINT, captions([(1, "failed", "other")]))
    assert first != second
    # The same rows come again when a machine vanishes after writing them.
    again = store.write("captions", FINGERPRINT, captions([(1, "ok", "text of the second time")]))
    assert again == first
    assert first.read_bytes() == before
    store.write_settings("captions", FINGERPRINT, {"prompt": "first"})
    store.write_settings("captions", FINGERPRINT, {"prompt": "second"})
    assert store.settings("captions", FINGERPRINT) == {"prompt": "first"}


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    path = Path(store.write("captions", FINGERPRINT, captions([(1, "ok", "text")])).uri)
    path.write_bytes(path.read_bytes()[:-20])
    for look in (store.read, store.statuses):
        with pytest.raises(StoreError, match=path.name):
            look("captions", FINGERPRINT)


def test_a_file_with_another_schema_is_named_with_its_column(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    path = Path(store.write("captions", FINGERPRINT, captions([(1, "ok", "text")])).uri)
    pq.write_table(pq.read_table(path).drop_columns(["verdict"]), path)
    with pytest.raises(TableError, match=f"{path.name}.*'verdict'"):
        store.read("captions", FINGERPRINT)


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    strangers = captions([(1, "ok", "text")], fingerprint="ffffffffffffffff")
    with pytest.raises(StoreError, match="ffffffffffffffff"):
        store.write("captions", FINGERPRINT, strangers)
    path = Path(store.write("captions", FINGERPRINT, captions([(1, "ok", "text")])).uri)
    pq.write_table(strangers, path)
    with pytest.raises(StoreError, match=path.name):
        store.read("captions", FINGERPRINT)


def test_features_and_fingerprints_stay_apart(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    assert store.fingerprints("captions") == []
    assert store.statuses("captions", FINGERPRINT).num_rows == 0
    with pytest.raises(StoreError, match="fracray extract"):
        store.read("captions", FINGERPRINT)
    store.write("captions", "b" * 16, captions([(1, "ok", "text")], fingerprint="b" * 16))
    store.write("captions", "a" * 16, captions([(2, "ok", "text")], fingerprint="a" * 16))
    store.write_settings("captions", FINGERPRINT, {})
    assert store.fingerprints("captions") == ["a" * 16, "b" * 16]
    assert store.fingerprints("embeddings") == []
    assert store.statuses("captions", "a" * 16)["image_id"].to_pylist() == [name(2)]
