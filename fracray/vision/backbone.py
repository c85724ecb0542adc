"""The network that turns a preprocessed radiograph into an embedding, and its weights.

Weights are safetensors files with torchvision's parameter names, so those of a torchvision ResNet that were
converted to safetensors load as they are: a three-channel first convolution is summed over its channels, and
`fc` is left out.
"""

from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fracray.config import BackboneSettings, Preprocessing, VisionSettings
from fracray.errors import BackboneError
from fracray.fingerprint import file_hash, fingerprint
from fracray.vision.architectures import ARCHITECTURES

GREY_MEAN = 0.449
GREY_STD = 0.226
"""Mean and standard deviation of a grey pixel in [0, 1]: ImageNet's three channel values averaged, so that an
RGB network whose first weights were summed over the channels sees the range it was trained on."""
EMBEDDED_ARCHITECTURE = "resnet10"
VERSION = 1
"""Raised when preprocessing or the forward pass changes its result: stored embeddings are then made again."""
RANDOM_SEED = 0
"""Seed of `weights: random`, which serves as a baseline and in tests."""


class Backbone(nn.Module):
    """Stages from the picture to the last feature map, and their average as the embedding.

    Attributes: `architecture` (a key of `ARCHITECTURES`), `embedding_dim`, `stride` (pixels between two
    places of the feature map), `stages` (an `nn.Sequential` with named members, the first seeing the
    picture). New weights are random; `load_backbone` fills them.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise BackboneError(f"architecture '{architecture}' is not known; choose one of: {names}")
        self.architecture = architecture
        self.embedding_dim = ARCHITECTURES[architecture].embedding_dim
        self.stride = ARCHITECTURES[architecture].stride
        self.stages = nn.Sequential(ARCHITECTURES[architecture].stages())

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last stage's activation `[n, d, h', w']` for normalised pictures `x` `[n, 1, s, s]`."""
        activation: Tensor = self.stages(x)
        return activation

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings `[n, d]`: the mean of `feature_map` over its places."""
        return pool(self.feature_map(x))


def pool(feature_map: Tensor) -> Tensor:
    """Return the mean `[n, d]` of a feature map `[n, d, h', w']` over its places."""
    return feature_map.mean(dim=(2, 3))


def normalise(pixels: NDArray[np.uint8] | Tensor) -> Tensor:
    """Return preprocessed uint8 pictures `[n, s, s]` as the backbone's float32 input `[n, 1, s, s]`."""
    grey = (torch.tensor(pixels) if isinstance(pixels, np.ndarray) else pixels).unsqueeze(1)
    grey = grey.to(torch.float32).div(255.0)
    return ((grey - GREY_MEAN) / GREY_STD).contiguous(memory_format=torch.channels_last)


def load_backbone(settings: BackboneSettings) -> Backbone:
    """Return the backbone that `settings` name, in float32, in evaluation mode, no parameter learning.

    Raises `BackboneError` when weights are missing, cannot be downloaded, or do not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        backbone = Backbone(settings.architecture)
    if settings.weights == "imagenet":
        _fill(backbone, _download(settings.architecture), "the ImageNet weights")
    elif settings.weights != "random":
        path = _weights_file(settings)
        _fill(backbone, _read(path, settings.architecture), str(path))
    return backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def save_backbone(backbone: Backbone, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights of `backbone` to `path` (safetensors), floating-point ones as `dtype`.

    Raises `BackboneError` when a weight is not finite in that type.
    """
    tensors = {
        _published(name): (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BackboneError(f"{path}: weight '{name}' is not finite; train at a lower learning rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata={"architecture": backbone.architecture}))


def backbone_fingerprint(settings: VisionSettings) -> str:
    """Return what identifies how an embedding is made: preprocessing, architecture, weights, code version.

    Hashes the weights' file but does not load it; fine-tuning, batch size and device have no part in it.
    Raises `BackboneError` when the weights' file is missing.
    """
    # Later than the first stored features, so it stands here only when it is not float32.
    precision = {} if settings.precision == "float32" else {"precision": settings.precision}
    return fingerprint(
        version=VERSION,
        preprocessing=_preprocessing_identity(settings.preprocessing),
        architecture=settings.backbone.architecture,
        weights=_weights_identity(settings.backbone),
        **precision,
    )


def _preprocessing_identity(settings: Preprocessing) -> dict[str, Any]:
    # Switches that came later stand here only when on, so that features stored before them stay valid.
    later = ("crop_borders", "clahe")
    return {name: value for name, value in settings.model_dump().items() if value or name not in later}


def _weights_identity(settings: BackboneSettings) -> str:
    if settings.weights == "random":
        return f"random {RANDOM_SEED}"
    if settings.weights == "imagenet":
        # torchvision's file names end in the first digits of the file's own hash.
        return _imagenet_file(settings.architecture)
    return file_hash(_weights_file(settings))


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


def _imagenet_file(architecture: str) -> str:
    weights = ARCHITECTURES[architecture].imagenet
    if weights is None:
        raise BackboneError(
            f"there are no ImageNet weights for {architecture}; set vision.backbone.architecture to "
            "resnet50, or vision.backbone.weights to embedded"
        )
    return str(weights.url).rsplit("/", 1)[-1]


def _download(architecture: str) -> dict[str, Tensor]:
    name = _imagenet_file(architecture)
    try:
        state: dict[str, Tensor] = ARCHITECTURES[architecture].imagenet.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, HTTPException, UnpicklingError, EOFError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if (folder / name).is_file():
            raise BackboneError(
                f"{folder / name}: damaged or no weights; remove it or copy it again"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(
            f"ImageNet weights of {architecture} cannot be downloaded ({reason}); bring the file {name} from "
            f"download.pytorch.org/models to {folder}"
        ) from None
    return state


def _published(name: str) -> str:
    return name.removeprefix("stages.").removeprefix("stem.")


def _fill(backbone: Backbone, given: dict[str, Tensor], source: str) -> None:
    own = backbone.state_dict()
    extra = given.keys() - {_published(name) for name in own} - {"fc.weight", "fc.bias"}
    if extra:
        raise BackboneError(
            f"{source}: '{min(extra)}' is no weight of {backbone.architecture}; "
            "set vision.backbone.architecture"
        )
    filled: dict[str, Tensor] = {}
    for name, tensor in own.items():
        published = _published(name)
        if published not in given:
            if published.endswith("num_batches_tracked"):
                filled[name] = tensor
                continue
            raise BackboneError(f"{source}: weight '{published}' of {backbone.architecture} is missing")
        value = given[published].to(tensor.dtype)
        if published == "conv1.weight" and value.ndim == 4 and value.shape[1] == 3:
            value = value.sum(dim=1, keepdim=True)
        if value.shape != tensor.shape:
            raise BackboneError(
                f"{source}: weight '{published}' has shape {list(value.shape)}, {backbone.architecture} "
                f"needs {list(tensor.shape)}; set vision.backbone.architecture"
            )
        filled[name] = value
    backbone.load_state_dict(filled)
