from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fracray import schema
from fracray.extraction import compaction
from fracray.extraction.compaction import compact
from fracray.extraction.store import FeatureStore
from fracray.location import Location


def rows(ids: list[int], status: str = "ok") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"image_id": f"{number:064x}", "fingerprint": "f", "embedding": [float(number)],
             "status": status, "reason": None}
            for number in ids
        ],
        schema=schema.EMBEDDINGS,
    )  # fmt: skip


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=8),
    st.integers(1, 40),
)
def test_compaction_changes_files_and_never_rows(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], rows_per_file: int
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    for number, part in enumerate([[99], *parts]):
        store.write("embeddings", "f", rows(part, "failed" if number % 3 == 2 else "ok"))
    before = store.read("embeddings", "f")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "ROWS_PER_FILE", rows_per_file)
        done = compact(store, "embeddings", "f")
    assert store.read("embeddings", "f").equals(before)
    assert done.after == len(store.parts("embeddings", "f")) <= done.before <= len(parts) + 1


def test_a_compaction_that_dies_between_leaves_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path)
    for part in ([1, 2], [3], [4, 5]):
        store.write("embeddings", "f", rows(part))
    before = store.read("embeddings", "f")

    def killed(self: Location) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Location, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(store, "embeddings", "f")
    monkeypatch.undo()
    assert store.read("embeddings", "f").equals(before)
    assert compact(store, "embeddings", "f").after == 1
    assert store.read("embeddings", "f").equals(before)
