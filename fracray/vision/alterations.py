"""Altered pictures: a part shifted and turned along a cut, or a line drawn, at places that are known.

Finding them needs no labels and asks for the course of contours and lines (in the spirit of CutPaste, Li et
al. 2021).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ALTERED_SHARE = 0.6
"""Share of pictures that are altered."""


def alter(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return pictures `x` `[n, 1, s, s]`, some altered, and float32 `[n, 1, s, s]`, 1 where they are.

    Places are drawn in proportion to the squared brightness above the darkest pixel, so mostly on bone.
    Lengths are shares of the side: a part up to 0.2 across moves by up to 0.04 and turns by up to 25 degrees
    along a cut; a line 0.004 to 0.012 wide darkens or brightens. Each altered picture has one of these or
    both.
    """
    n, _, size, _ = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, 1, 1)).astype(np.float32))

    weight = (x - x.amin(dim=(2, 3), keepdim=True)).flatten(1).square().cumsum(dim=1).double()
    drawn = torch.from_numpy(rng.random((n, 1))) * weight[:, -1:]
    place = torch.searchsorted(weight, drawn).clamp(max=size * size - 1).view(n, 1, 1)
    altered = (uniform(0, 1) < ALTERED_SHARE).float()
    kind = uniform(0, 1)
    shifts, drawn_on = (kind < 0.6).float() * altered, (kind > 0.4).float() * altered

    angle, reach = uniform(0, math.pi), uniform(0.06, 0.2) * size
    down, right = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    down, right = down - place // size, right - place % size
    across = right * torch.cos(angle) + down * torch.sin(angle)
    along = down * torch.cos(angle) - right * torch.sin(angle)
    near = torch.exp(-(((across.square() + along.square()) / reach.square()).square()))

    moving = shifts * near * (across > 0)
    turn, distance, heading = uniform(-0.44, 0.44), uniform(0.01, 0.04) * size, uniform(0, 2 * math.pi)
    to_right = right - moving * (distance * torch.cos(heading) - turn * down)
    to_down = down - moving * (distance * torch.sin(heading) + turn * right)
    columns, rows = to_right + place % size, to_down + place // size
    grid = (torch.stack([columns, rows], dim=-1) * 2 + 1) / size - 1
    moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    depth = uniform(0.15, 0.6) * torch.where(uniform(0, 1) < 0.8, -1.0, 0.5)
    width = uniform(0.004, 0.012) * size
    line = torch.exp(-(across / width).square()) * (along.abs() < reach * 0.7)
    darkest = moved.amin(dim=(2, 3), keepdim=True)
    changed = darkest + (moved - darkest) * (1 + drawn_on * depth * line).unsqueeze(1)
    spot = (across.abs() < 0.02 * size + 1) & (along.abs() < reach * 0.8)
    return changed, (altered * spot).unsqueeze(1)
