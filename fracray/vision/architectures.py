"""The table of networks that can be a backbone; the one place to extend for another.

A network is a chain of five named stages, `stem` and `layer1` to `layer4`, from the one-channel picture to
its last feature map. Those of torchvision stand here; whatever else timm knows comes from `timm_network`.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from fracray.errors import BackboneError
from fracray.vision.network import Network

TIMM = "timm/"
"""In front of a network's name: it is one of timm's."""


def _resnet(block: type[BasicBlock] | type[Bottleneck], layers: list[int]) -> Network:
    network = ResNet(block, layers)
    first = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    stem = OrderedDict(conv1=first, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool)
    stages = OrderedDict(
        stem=nn.Sequential(stem),
        layer1=network.layer1,
        layer2=network.layer2,
        layer3=network.layer3,
        layer4=network.layer4,
    )
    return Network(stages, 512 * block.expansion, 32, 0, lambda name: name.removeprefix("stem."))


def _efficientnet_lite0() -> Network:
    from fracray.vision.timm_networks import timm_network

    return timm_network("tf_efficientnet_lite0")


ARCHITECTURES: dict[str, Callable[[], Network]] = {
    "resnet10": partial(_resnet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": partial(_resnet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": partial(_resnet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": partial(_resnet, Bottleneck, [3, 4, 6, 3]),
    "resnet101": partial(_resnet, Bottleneck, [3, 4, 23, 3]),
    "efficientnet_lite0": _efficientnet_lite0,
}


def build_network(architecture: str) -> Network:
    """Return the network that a key of `ARCHITECTURES` names, or `timm/NAME` for one of timm's.

    Raises `BackboneError` for an unknown name, and for a network of timm's that is no chain of stages.
    """
    if architecture.startswith(TIMM):
        from fracray.vision.timm_networks import timm_network

        return timm_network(architecture.removeprefix(TIMM))
    if architecture not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise BackboneError(
            f"architecture '{architecture}' is not known; choose timm/NAME or one of: {names}"
        )
    return ARCHITECTURES[architecture]()
