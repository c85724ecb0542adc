"""Several last stages side by side: each learned apart from the others, and they are asked together."""

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn


class Members(nn.ModuleList):
    """Copies of a network's last `stage` on the same activations: `[n, c, h, w]` to `[n, count * d, h, w]`.

    Networks that begin alike and meet the radiographs in another order err on different ones, so that their
    mean is right more often than each of them (deep ensembles, Lakshminarayanan 2017). All stages before the
    last, which cost most, are computed once for all.
    """

    def __init__(self, stage: nn.Module, count: int) -> None:
        super().__init__(copy.deepcopy(stage) for _ in range(count))

    def forward(self, activations: Tensor) -> Tensor:
        """Return the members' channels, those of the first member first."""
        return torch.cat([member(activations) for member in self], dim=1)


def learning_apart(stages: nn.Sequential) -> list[nn.Sequential]:
    """Return what learns by itself: each member where `stages` are nothing else, else all together."""
    if len(stages) != 1 or not isinstance(stages[0], Members):
        return [stages]
    (name,) = dict(stages.named_children())
    return [nn.Sequential(OrderedDict({name: member})) for member in stages[0]]
