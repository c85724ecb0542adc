"""Altered pictures: a part shifted and turned along a cut, or a line drawn, at a place with structure.

A network that tells altered from untouched places learns to see where contours break off and lines run that
do not belong, on any picture and without labels (in the spirit of CutPaste, Li et al. 2021).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CROP = 64
"""Side of the crops, pixels."""


def altered_pairs(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Return crops `[2 n, 1, 64, 64]` of pictures `x` `[n, 1, s, s]`: n altered, then the same n untouched.

    Each crop holds one place of its picture, drawn in proportion to the local contrast times the brightness,
    so mostly the edge of a bone, and a little off the centre.
    """
    n, _, size, _ = x.shape
    contrast = functional.max_pool2d(x, 5, 1, 2) + functional.max_pool2d(-x, 5, 1, 2)
    brightness = x - x.amin(dim=(2, 3), keepdim=True)
    weight = (contrast * brightness).flatten(1).double().cumsum(dim=1)
    drawn = torch.from_numpy(rng.random((n, 1))) * weight[:, -1:]
    place = torch.searchsorted(weight, drawn).clamp(max=size * size - 1).view(n, 1, 1)
    down, right = place // size, place % size
    both = torch.cat([_alter(x, down, right, rng), x])
    off = torch.from_numpy(rng.integers(-12, 13, (2, n, 1, 1)))
    top = (down - CROP // 2 + off[0]).clamp(0, size - CROP).repeat(2, 1, 1)
    left = (right - CROP // 2 + off[1]).clamp(0, size - CROP).repeat(2, 1, 1)
    within = torch.arange(CROP)
    picture = torch.arange(2 * n).view(-1, 1, 1)
    return both[picture, 0, top + within.view(1, -1, 1), left + within.view(1, 1, -1)].unsqueeze(1)


def _alter(x: Tensor, down: Tensor, right: Tensor, rng: np.random.Generator) -> Tensor:
    # All lengths are in pixels of a picture about 160 wide, where a shaft is about 20 wide.
    n, _, size, _ = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, 1, 1)).astype(np.float32))

    kind = uniform(0, 1)
    shifts, drawn_on = (kind < 0.65).float(), (kind > 0.35).float()
    angle, reach = uniform(0, math.pi), uniform(10, 28)
    steps = torch.arange(float(size))
    below, beside = steps.view(1, -1, 1) - down, steps.view(1, 1, -1) - right
    across = beside * torch.cos(angle) + below * torch.sin(angle)
    along = below * torch.cos(angle) - beside * torch.sin(angle)
    near = torch.exp(-(((across.square() + along.square()) / reach.square()).square()))

    moving = shifts * near * (across > 0)
    turn, distance, heading = uniform(-0.4, 0.4), uniform(2, 7), uniform(0, 2 * math.pi)
    columns = beside + right - moving * (distance * torch.cos(heading) - turn * below)
    rows = below + down - moving * (distance * torch.sin(heading) + turn * beside)
    grid = (torch.stack([columns, rows], dim=-1) * 2 + 1) / size - 1
    moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    depth, width = uniform(-0.7, -0.2), uniform(0.6, 1.6)
    line = torch.exp(-(across / width).square()) * (along.abs() < reach * 0.7)
    darkest = moved.amin(dim=(2, 3), keepdim=True)
    return darkest + (moved - darkest) * (1 + drawn_on * depth * line).unsqueeze(1)
