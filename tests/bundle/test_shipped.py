from pathlib import Path

import pytest

import fracray
from fracray.bundle import shipped
from fracray.errors import BundleError


def test_the_shipped_bundle_lies_among_the_packages_assets() -> None:
    assert shipped.SHIPPED.parent == Path(fracray.__file__).parent / "assets"


def test_the_folder_is_returned_when_a_bundle_is_there(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", bundle_folder)
    assert shipped.shipped_bundle() == bundle_folder


@pytest.mark.parametrize("name", ["absent", "."], ids=["no folder", "empty folder"])
def test_a_missing_one_is_told_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / name)
    with pytest.raises(BundleError, match="--bundle FOLDER") as caught:
        shipped.shipped_bundle()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
