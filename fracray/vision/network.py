"""What a backbone is made of: a chain of five named stages, from the picture to the last feature map."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Stages = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Network:
    """A network with random weights.

    `stride` is how many pixels of the picture lie between two places of the last feature map, and `offset`
    how many lie left of the first place's middle: 0 where convolutions are padded alike on both sides.
    `published` turns a parameter's name, such as `layer1.0.conv1.weight`, into the one under which its makers
    publish it.
    """

    stages: Stages
    embedding_dim: int
    stride: int
    offset: int
    published: Callable[[str], str]
