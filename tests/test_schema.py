from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fracray.errors import TableError
from fracray.schema import BOXES, CAPTIONS, EMBEDDINGS, MANIFEST, read_table, write_table

ROW = {
    "image_id": "a" * 64,
    "fingerprint": "f" * 16,
    "embedding": [0.5, 1.5],
    "status": "ok",
    "reason": None,
}


def test_a_table_comes_back_as_written(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW], schema=EMBEDDINGS)
    write_table(table, EMBEDDINGS, tmp_path / "new" / "t.parquet")
    assert read_table(tmp_path / "new" / "t.parquet", EMBEDDINGS).to_pylist() == [ROW]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.parquet"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": None}, "'status' has 1 empty"),
        ({"extra": 1}, "'extra' is not part"),
        ({"embedding": "text"}, "'embedding' is string"),
        ({"embedding": ...}, "'embedding' is missing"),
    ],
)
def test_a_table_that_does_not_fit_names_file_and_column(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    row = {name: value for name, value in {**ROW, **change}.items() if value is not ...}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "bad.parquet")
    with pytest.raises(TableError, match=rf"bad\.parquet.*{says}"):
        read_table(tmp_path / "bad.parquet", EMBEDDINGS)


def test_what_is_no_parquet_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("hello")
    for path in (tmp_path / "t.parquet", tmp_path / "absent.parquet"):
        with pytest.raises(TableError, match=path.name) as caught:
            read_table(path, CAPTIONS)
        assert "\n" not in str(caught.value)


def test_every_field_says_what_it_means() -> None:
    for schema in (MANIFEST, BOXES, CAPTIONS, EMBEDDINGS):
        for field in schema:
            assert field.metadata[b"meaning"]
            assert not field.nullable or b"null" in field.metadata[b"meaning"]
