"""Networks of timm as a chain of stages: whatever computes its feature map one module after the other."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from fracray.errors import BackboneError
from fracray.vision.network import Network, Stages
from fracray.vision.normalise import GREY_MEAN, GREY_STD

_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
_CONTAINERS = ("blocks", "stages", "features", "layers")
_HEADS = ("global_pool", "pool", "head", "fc", "classifier", "head_drop", "drop", "flatten")
_PROBE = 64
"""Side of the picture by which modules are told apart, pixels."""


class Rescale(nn.Module):
    """From the range that `normalise` gives to the one that the network's own weights were trained on."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.factor, self.shift = GREY_STD / std, (GREY_MEAN - mean) / std

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rescaled."""
        return x * self.factor + self.shift


def timm_network(name: str) -> Network:
    """Return timm's network `name` as stages by stride: `stem` up to 2, `layer1` at 4, to `layer4` at 32.

    Raises `BackboneError` when timm knows no such network, and when its feature map is not what its modules
    make of the picture one after the other, as with most transformers.
    """
    if name not in timm.list_models():
        raise BackboneError(f"timm knows no network '{name}'; `timm.list_models()` lists the names")
    network = timm.create_model(name, in_chans=1, num_classes=0).eval()
    probe = torch.linspace(0, 1, _PROBE * _PROBE).sin().view(1, 1, _PROBE, _PROBE)
    refused = BackboneError(f"timm's '{name}' is no chain of stages with a feature map; choose another")
    grouped: dict[str, OrderedDict[str, nn.Module]] = {stage: OrderedDict() for stage in _STAGES}
    x, stride = probe, 1
    with torch.no_grad():
        try:
            for path, module in _chain(network):
                x = module(x)
                stride = _PROBE // x.shape[2]
                # A dot would part the name; `published` puts it back.
                grouped[_stage(stride)][path.replace(".", "-")] = module
            if x.ndim != 4 or not torch.allclose(x, network.forward_features(probe), atol=1e-4):
                raise refused
        except (RuntimeError, TypeError, IndexError, AttributeError, AssertionError):
            raise refused from None
    rescale = OrderedDict[str, nn.Module](rescale=_rescale(network))
    stages = Stages(
        (stage, nn.Sequential(rescale | modules if stage == "stem" else modules))
        for stage, modules in grouped.items()
    )
    # TensorFlow pads a halving convolution on the far side only. Such networks, once trained, look at the
    # middle of each place's own cell: on radiographs the gradient's energy lies there to 2 pixels.
    one_sided = any(isinstance(module, Conv2dSame) for module in network.modules())
    return Network(stages, int(x.shape[1]), stride, stride // 2 if one_sided else 0, _published)


def _chain(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if name in _HEADS:
            return
        if name in _CONTAINERS and isinstance(child, nn.Sequential):
            yield from ((f"{name}.{number}", member) for number, member in child.named_children())
        else:
            yield name, child


def _stage(stride: int) -> str:
    return _STAGES[min(4, max(0, stride.bit_length() - 2))]


def _rescale(network: Any) -> Rescale:
    mean, std = (sum(network.pretrained_cfg[key]) / 3 for key in ("mean", "std"))
    return Rescale(mean, std)


def _published(name: str) -> str:
    """`layer1.blocks-1.0.conv_pw.weight` is timm's `blocks.1.0.conv_pw.weight`."""
    module, _, rest = name.partition(".")[2].partition(".")
    return f"{module.replace('-', '.')}.{rest}"
