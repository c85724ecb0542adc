"""The network that turns a preprocessed radiograph into an embedding.

Weights are safetensors files under the names by which the network's makers publish them, so those of a
torchvision ResNet or of timm load as they are: a three-channel first convolution is summed over its channels,
and the classes' layer is left out.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from fracray.config import BackboneSettings, Preprocessing, VisionSettings
from fracray.errors import BackboneError
from fracray.fingerprint import fingerprint
from fracray.vision.architectures import build_network
from fracray.vision.attention import PlaceAttention
from fracray.vision.members import Members
from fracray.vision.weights import RANDOM_SEED, read_weights, weights_identity

VERSION = 1
"""Raised when preprocessing or the forward pass changes its result: stored embeddings are then made again."""
_ATTENTION = "attention"
_MEMBER = ".member"


class Backbone(nn.Module):
    """Stages from the picture to the last feature map, and their average as the embedding.

    Attributes: `architecture` (as in the settings), `embedding_dim`, `stride` and `offset` (pixels between
    two places of the feature map, and left of the first one's middle), `stages` (an `nn.Sequential` with
    named modules, the first seeing the picture), `members` and `mirror`. There are `members` of the last
    stage, beside each other (`Members`) where more than one. With `attention` it ends in a `PlaceAttention`
    and makes twice as many channels; without `plain_mean` the first half of them helps it to learn and is no
    part of the feature map. With `mirror` it looks at a radiograph and at its mirror image. New weights are
    random; `load_backbone` fills them.
    """

    def __init__(
        self,
        architecture: str,
        attention: bool = False,
        plain_mean: bool = True,
        mirror: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        network = build_network(architecture)
        self.architecture = architecture
        self.members = members
        self.embedding_dim = network.embedding_dim * (2 if attention and plain_mean else 1) * members
        self.stride = network.stride
        self.offset = network.offset
        self.mirror = mirror
        self.stages = nn.Sequential(network.stages)
        if attention:
            self.stages[-1].add_module(_ATTENTION, PlaceAttention(network.embedding_dim))
        if members > 1:
            self.stages[-1] = Members(self.stages[-1], members)
        self._published = network.published

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last stage's activation `[n, d, h', w']` for normalised pictures `x` `[n, 1, s, s]`.

        With `mirror` that of the mirror image stands to the right of it, as it comes: `[n, d, h', 2 w']`.
        """
        return self._beside_mirrored(x, self.stages(x))

    def embedding_and_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings `[n, d]` and the `channel_statistics` `[n, 2 c]` before the last stage."""
        before: Tensor = self.stages[:-1](x)
        feature_map = self._beside_mirrored(x, self.stages[-1](before))
        return pool(feature_map.float()), channel_statistics(before.float())

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings `[n, d]`: the mean of `feature_map` over its places."""
        return pool(self.feature_map(x))

    def _beside_mirrored(self, x: Tensor, activation: Tensor) -> Tensor:
        if not self.mirror:
            return self.kept(activation)
        return self.kept(torch.cat([activation, self.stages(x.flip(-1))], dim=-1))

    def kept(self, channels: Tensor) -> Tensor:
        """Return those of the last stage's `channels` `[n, c, ...]` that the embedding has."""
        width = self.embedding_dim // self.members
        return torch.cat([member[:, -width:] for member in channels.chunk(self.members, dim=1)], dim=1)

    def published_name(self, name: str) -> str:
        """Return the name under which the parameter `name` of `state_dict` is published.

        Those of a second member, which nobody publishes, are the first one's with `.member1` behind.
        """
        name = name.removeprefix("stages.")
        stage, _, rest = name.partition(".")
        if self.members == 1 or not isinstance(self.stages.get_submodule(stage), Members):
            return self._published(name)
        member, _, rest = rest.partition(".")
        published = self._published(f"{stage}.{rest}")
        return published if member == "0" else f"{published}{_MEMBER}{member}"


def pool(feature_map: Tensor) -> Tensor:
    """Return the mean `[n, d]` of a feature map `[n, d, h', w']` over its places."""
    return feature_map.mean(dim=(2, 3))


def channel_statistics(feature_map: Tensor) -> Tensor:
    """Return each channel's mean and standard deviation `[n, 2 d]` over the places of `[n, d, h', w']`."""
    deviation, mean = torch.std_mean(feature_map, dim=(2, 3), correction=0)
    return torch.cat([mean, deviation], dim=1)


def load_backbone(settings: BackboneSettings) -> Backbone:
    """Return the backbone that `settings` name, in float32, in evaluation mode, no parameter learning.

    Raises `BackboneError` when weights are missing, cannot be downloaded, or do not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        backbone = Backbone(
            settings.architecture,
            settings.attention,
            settings.plain_mean,
            settings.mirror,
            settings.members,
        )
    if settings.weights != "random":
        _fill(backbone, *read_weights(settings))
    return backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def save_backbone(backbone: Backbone, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights of `backbone` to `path` (safetensors), floating-point ones as `dtype`.

    Those that float16 holds without a loss, as it does what was fine-tuned, are written in it. Raises
    `BackboneError` when a weight is not finite in its type.
    """
    tensors = {
        backbone.published_name(name): _compact(tensor, dtype).cpu().contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BackboneError(f"{path}: weight '{name}' is not finite; train at a lower learning rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata={"architecture": backbone.architecture}))


def round_to_half(stages: nn.Module) -> None:
    """Round the weights of `stages` to what float16 holds, in place, those beyond its range excepted.

    Half the bytes on disk for 0.05 % of a weight, which is far below what another seed changes.
    """
    for tensor in stages.state_dict().values():
        if tensor.is_floating_point() and bool(torch.isfinite(rounded := tensor.half()).all()):
            tensor.copy_(rounded)


def _compact(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor.to(dtype)


def backbone_fingerprint(settings: VisionSettings) -> str:
    """Return what identifies how an embedding is made: preprocessing, architecture, weights, code version.

    Hashes the weights' file but does not load it; fine-tuning, batch size and device have no part in it.
    Raises `BackboneError` when the weights' file is missing.
    """
    # Later than the first stored features, so they stand here only when they change them.
    later: dict[str, Any] = {} if settings.precision == "float32" else {"precision": settings.precision}
    if settings.backbone.attention:
        later["attention"] = True
        if not settings.backbone.plain_mean:
            later["plain_mean"] = False
    if settings.backbone.mirror:
        later["mirror"] = True
    if settings.backbone.members > 1:
        later["members"] = settings.backbone.members
    return fingerprint(
        version=VERSION,
        preprocessing=_preprocessing_identity(settings.preprocessing),
        architecture=settings.backbone.architecture,
        weights=weights_identity(settings.backbone),
        **later,
    )


def _preprocessing_identity(settings: Preprocessing) -> dict[str, Any]:
    # Switches that came later stand here only when on, so that features stored before them stay valid.
    later = ("crop_borders", "clahe")
    return {name: value for name, value in settings.model_dump().items() if value or name not in later}


def _fill(backbone: Backbone, given: dict[str, Tensor], source: str) -> None:
    own = backbone.state_dict()
    known = {backbone.published_name(name) for name in own}
    modules = {name.partition(".")[0] for name in known}
    # What comes after the feature map, such as the classes' layer, is left out.
    extra = {name for name in given.keys() - known if name.partition(".")[0] in modules}
    if extra:
        raise BackboneError(
            f"{source}: '{min(extra)}' is no weight of {backbone.architecture}; "
            "set vision.backbone.architecture"
        )
    filled: dict[str, Tensor] = {}
    for name, tensor in own.items():
        published = backbone.published_name(name)
        if published not in given:
            # All members begin as what is published.
            published = published.partition(_MEMBER)[0]
        if published not in given:
            # Published weights know nothing of the attention, which then weighs all places the same.
            if published.endswith("num_batches_tracked") or f"{_ATTENTION}." in published:
                filled[name] = tensor
                continue
            raise BackboneError(f"{source}: weight '{published}' of {backbone.architecture} is missing")
        value = given[published].to(tensor.dtype)
        if value.ndim == 4 and (value.shape[1], tensor.shape[1]) == (3, 1):
            value = value.sum(dim=1, keepdim=True)
        if value.shape != tensor.shape:
            raise BackboneError(
                f"{source}: weight '{published}' has shape {list(value.shape)}, {backbone.architecture} "
                f"needs {list(tensor.shape)}; set vision.backbone.architecture"
            )
        filled[name] = value
    backbone.load_state_dict(filled)
