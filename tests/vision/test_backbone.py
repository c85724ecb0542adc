from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet18, resnet34, resnet50, resnet101

from fracray.config import BackboneSettings, Preprocessing, VisionSettings
from fracray.errors import BackboneError
from fracray.vision.backbone import Backbone, backbone_fingerprint, load_backbone, save_backbone
from fracray.vision.normalise import normalise


@pytest.mark.parametrize(
    ("architecture", "make"),
    [
        ("resnet18", resnet18),
        ("resnet34", resnet34),
        ("resnet50", resnet50),
        ("resnet101", resnet101),
    ],
)
def test_grey_input_gives_what_its_rgb_copy_gives_in_the_rgb_network(
    architecture: str, make: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rgb = make(weights=None).eval()
    save_file(rgb.state_dict(), tmp_path / "rgb.safetensors")
    backbone = load_backbone(
        BackboneSettings(architecture=architecture, weights=str(tmp_path / "rgb.safetensors"))
    )
    grey = normalise(np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8))
    rgb.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = rgb(grey.repeat(1, 3, 1, 1))
        torch.testing.assert_close(backbone(grey), expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize(("architecture", "dim"), [("resnet10", 512), ("resnet34", 512), ("resnet101", 2048)])
def test_the_embedding_is_the_mean_of_the_feature_map(architecture: str, dim: int) -> None:
    backbone = load_backbone(BackboneSettings(architecture=architecture, weights="random"))
    x = normalise(np.random.default_rng(0).integers(0, 256, (2, 96, 64), dtype=np.uint8))
    feature_map = backbone.feature_map(x)
    assert feature_map.shape == (2, dim, 3, 2) == (2, backbone.embedding_dim, 96 // backbone.stride, 2)
    torch.testing.assert_close(backbone(x), feature_map.mean(dim=(2, 3)))


@pytest.mark.parametrize("architecture", ["resnet10", "resnet18"])
def test_a_place_of_the_feature_map_looks_at_the_pixel_its_stride_says(architecture: str) -> None:
    """The heat map is laid out by it: the centre of what a place answers to, by the gradient's energy."""
    backbone = load_backbone(BackboneSettings(architecture=architecture, weights="random"))
    x = torch.randn(2, 1, 288, 288, generator=torch.Generator().manual_seed(0), requires_grad=True)
    place = backbone.feature_map(x)[:, :, 4, 5].sum()
    (gradient,) = torch.autograd.grad(place, x)
    energy = gradient.square().sum(dim=(0, 1))
    pixel = torch.arange(288)
    assert float((energy.sum(1) * pixel).sum() / energy.sum()) == pytest.approx(4 * backbone.stride, abs=8)
    assert float((energy.sum(0) * pixel).sum() / energy.sum()) == pytest.approx(5 * backbone.stride, abs=8)


def test_random_weights_are_the_same_each_time_and_leave_the_global_seed_alone() -> None:
    settings = BackboneSettings(weights="random")
    torch.manual_seed(5)
    first, after = load_backbone(settings).state_dict(), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    second = load_backbone(settings).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_saved_weights_come_back_bit_for_bit(backbone: Backbone, tmp_path: Path) -> None:
    save_backbone(backbone, tmp_path / "b.safetensors")
    again = load_backbone(BackboneSettings(weights=str(tmp_path / "b.safetensors"))).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in backbone.state_dict().items())


def test_the_embedded_weights_load_and_are_small() -> None:
    backbone = load_backbone(BackboneSettings())
    assert backbone.architecture == "resnet10"
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_embedded_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(BackboneError, match="resnet10, not a resnet50"):
        load_backbone(BackboneSettings(architecture="resnet50"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BackboneError, match=r"nowhere\.safetensors"):
        load_backbone(BackboneSettings(weights="nowhere.safetensors"))


def test_weights_that_do_not_fit_say_which_and_what_to_do(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    names = {name.removeprefix("stages.").removeprefix("stem."): name for name in backbone.state_dict()}
    good = {name: backbone.state_dict()[own].contiguous() for name, own in names.items()}

    def refused(tensors: dict[str, torch.Tensor], reason: str) -> None:
        save_file(tensors, path)
        with pytest.raises(BackboneError, match=reason):
            load_backbone(BackboneSettings(weights=str(path)))

    refused(
        {name: good[name] for name in good if name != "layer2.0.conv1.weight"}, "layer2.0.conv1.weight' of"
    )
    refused(good | {"layer1.1.conv1.weight": torch.zeros(1)}, "'layer1.1.conv1.weight' is no weight")
    refused(good | {"bn1.weight": torch.zeros(3)}, r"'bn1.weight' has shape \[3\], resnet10 needs \[64\]")
    save_backbone(backbone, path)
    with pytest.raises(BackboneError, match="holds a resnet10, not a resnet18"):
        load_backbone(BackboneSettings(architecture="resnet18", weights=str(path)))
    path.write_bytes(b"not weights")
    with pytest.raises(BackboneError, match="not a readable safetensors file"):
        load_backbone(BackboneSettings(weights=str(path)))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    backbone = load_backbone(BackboneSettings(weights="random"))
    next(backbone.parameters()).data[0] = 1e6
    with pytest.raises(BackboneError, match=r"'conv1.weight' is not finite"):
        save_backbone(backbone, tmp_path / "b.safetensors", torch.float16)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_names_the_file_to_bring_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(type(ResNet50_Weights.IMAGENET1K_V1), "get_state_dict", offline)
    named = r"no network.*resnet50-0676ba61\.pth.*checkpoints"
    with pytest.raises(BackboneError, match=named):
        load_backbone(BackboneSettings(architecture="resnet50", weights="imagenet"))


@pytest.mark.parametrize("content", [b"", b"<html>proxy says no</html>", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_file_of_imagenet_weights_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(content)
    with pytest.raises(BackboneError, match=r"resnet18-f37072fd\.pth: damaged"):
        load_backbone(BackboneSettings(architecture="resnet18", weights="imagenet"))


def test_there_are_no_imagenet_weights_for_resnet10() -> None:
    with pytest.raises(BackboneError, match="no ImageNet weights for resnet10"):
        load_backbone(BackboneSettings(weights="imagenet"))


def test_the_fingerprint_follows_all_that_changes_an_embedding_and_nothing_else(
    backbone: Backbone, tmp_path: Path
) -> None:
    path = tmp_path / "b.safetensors"
    save_backbone(backbone, path)
    at_path = VisionSettings(backbone=BackboneSettings(weights=str(path)))
    base = backbone_fingerprint(at_path)
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(path.read_bytes())
    same = VisionSettings(backbone=BackboneSettings(weights=str(copy)), batch_size=3, device="cpu")
    assert backbone_fingerprint(same) == base

    save_backbone(backbone, path, torch.float16)
    others = [
        backbone_fingerprint(at_path),
        backbone_fingerprint(same.model_copy(update={"preprocessing": Preprocessing(size=160)})),
        backbone_fingerprint(same.model_copy(update={"preprocessing": Preprocessing(keep_proportions=True)})),
        backbone_fingerprint(same.model_copy(update={"preprocessing": Preprocessing(crop_borders=True)})),
        backbone_fingerprint(same.model_copy(update={"preprocessing": Preprocessing(clahe=True)})),
        backbone_fingerprint(same.model_copy(update={"precision": "bfloat16"})),
        backbone_fingerprint(VisionSettings(backbone=BackboneSettings(weights="random"))),
        backbone_fingerprint(
            VisionSettings(backbone=BackboneSettings(architecture="resnet18", weights="imagenet"))
        ),
    ]
    assert len({base, *others}) == 9


def test_features_that_were_stored_before_a_setting_existed_stay_valid() -> None:
    random = BackboneSettings(weights="random")
    padded = Preprocessing(keep_proportions=True)
    assert backbone_fingerprint(VisionSettings(backbone=random)) == "e247153ff2b1b192"
    assert backbone_fingerprint(VisionSettings(backbone=random, preprocessing=padded)) == "4093ac98e468758d"
