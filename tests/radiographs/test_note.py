from pathlib import Path

import pytest

from fracray.location import Location
from fracray.radiographs.phantoms.note import are_phantoms


@pytest.mark.parametrize("scheme", ["path", "file", "memory"])
def test_phantoms_are_known_by_the_truth_beside_them_wherever_they_lie(scheme: str, tmp_path: Path) -> None:
    place = {"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": f"memory://{tmp_path}"}[scheme]
    folder = Location.of(place)
    (folder / "phantoms" / "truth.parquet").write_whole(lambda file: file.write(b"truth"))
    phantom = str(folder / "phantoms" / "Fractured" / "a.png")
    radiograph = str(folder / "radiographs" / "Fractured" / "a.png")
    assert are_phantoms([phantom])
    assert not are_phantoms([radiograph])
    assert not are_phantoms([phantom, radiograph])
    assert not are_phantoms([])
