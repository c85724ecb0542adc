"""The table of networks that can be a backbone; the one place to extend for another.

A network is a chain of named stages from the one-channel picture to its last feature map. The names are
torchvision's, so that its weights fit.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, ResNet101_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Stages = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Architecture:
    """One row of `ARCHITECTURES`.

    `stages` builds the network with random weights; `stride` is how many pixels of the picture lie between
    two places of the last feature map; `imagenet` are torchvision's weights, if there are any.
    """

    stages: Callable[[], Stages]
    embedding_dim: int
    stride: int
    imagenet: Any = None


def _resnet(block: type[BasicBlock] | type[Bottleneck], layers: list[int]) -> Stages:
    network = ResNet(block, layers)
    first = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    stem = OrderedDict(conv1=first, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool)
    return OrderedDict(
        stem=nn.Sequential(stem),
        layer1=network.layer1,
        layer2=network.layer2,
        layer3=network.layer3,
        layer4=network.layer4,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "resnet10": Architecture(partial(_resnet, BasicBlock, [1, 1, 1, 1]), 512, 32),
    "resnet18": Architecture(
        partial(_resnet, BasicBlock, [2, 2, 2, 2]), 512, 32, ResNet18_Weights.IMAGENET1K_V1
    ),
    "resnet34": Architecture(
        partial(_resnet, BasicBlock, [3, 4, 6, 3]), 512, 32, ResNet34_Weights.IMAGENET1K_V1
    ),
    "resnet50": Architecture(
        partial(_resnet, Bottleneck, [3, 4, 6, 3]), 2048, 32, ResNet50_Weights.IMAGENET1K_V1
    ),
    "resnet101": Architecture(
        partial(_resnet, Bottleneck, [3, 4, 23, 3]), 2048, 32, ResNet101_Weights.IMAGENET1K_V1
    ),
}
