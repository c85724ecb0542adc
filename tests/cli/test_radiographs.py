from pathlib import Path

import pytest

from fracray.cli.radiographs import make_manifest
from fracray.config import RadiographSettings
from fracray.schema import BOXES, MANIFEST, read_table
from tests.radiographs.archive import write_archive


def test_fracatlas_becomes_a_manifest_and_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, out, boxes = write_archive(tmp_path / "a"), tmp_path / "m.parquet", tmp_path / "b.parquet"
    make_manifest(archive, out, RadiographSettings(folds=2), 7, boxes=str(boxes))
    assert read_table(out, MANIFEST).num_rows == 7
    assert set(read_table(boxes, BOXES)["image_id"].to_pylist()) < set(
        read_table(out, MANIFEST)["image_id"].to_pylist()
    )
    assert f"made {boxes}: 3 boxes on 2 radiographs" in capsys.readouterr().out
