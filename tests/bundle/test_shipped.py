from pathlib import Path

import numpy as np
import pytest

import fracray
from fracray.bundle import shipped
from fracray.bundle.bundle import load_bundle
from fracray.captions.none import NO_CAPTION
from fracray.config import Config, load_config
from fracray.errors import BundleError
from fracray.explain.answer import answer
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import Radiograph


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


def test_the_shipped_bundle_knows_radiographs_and_says_how_well() -> None:
    bundle = load_bundle(shipped.shipped_bundle())
    assert (bundle.data_kind, bundle.image_alone) == ("radiographs", True)
    assert bundle.figures is not None
    assert bundle.figures["systems"]["fused"]["auroc"]["value"] > 0.8
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    for stated in ("CC BY 4.0", "Cross-validation", "Not seen: other hospitals", "not a medical device"):
        assert stated in card


def test_the_profile_for_radiographs_is_what_it_was_fitted_with() -> None:
    file = shipped.shipped_bundle() / "config.json"
    fitted = Config.model_validate_json(file.read_text(encoding="utf-8"))
    profile = load_config(profile="radiographs")
    assert (fitted.vision, fitted.fusion) == (profile.vision, profile.fusion)
    assert fitted.captions.captioner == profile.captions.captioner


def test_the_packages_assets_stay_small() -> None:
    def megabytes(folder: Path) -> float:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6

    assert megabytes(shipped.SHIPPED) <= 20
    assert megabytes(shipped.SHIPPED.parent) <= 40


def test_it_calls_phantoms_and_blank_film_unlike_what_it_knows() -> None:
    bundle = load_bundle(shipped.shipped_bundle())
    pictures = [make_phantom(9_000_001).pixels, np.full((400, 300), 0.3, np.float32)]
    radiographs = [Radiograph(pixels, 8, "PNG") for pixels in pictures]
    for reply in answer(bundle, radiographs, [NO_CAPTION] * 2, with_overlay=False):
        assert any(warning.startswith("unlike the radiographs") for warning in reply.warnings)
