"""Random flips, rotations and contrast on preprocessed radiographs, all governed by one strength."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MAX_ROTATION_DEG = 30.0
MAX_LOG_CONTRAST = 0.4
"""Largest rotation and largest change of contrast (a factor of 0.67 to 1.49) at strength 1."""


def draw_augmentations(n: int, strength: float, seed: list[int]) -> NDArray[np.float32]:
    """Return `[n, 4]` random changes: horizontal and vertical flip (-1 or 1), angle (rad), contrast factor.

    `strength` in [0, 1]: a flip's probability is half of it; angle and contrast scale with it; at 0 nothing
    changes.
    """
    rng = np.random.default_rng(seed)
    flips = np.where(rng.random((n, 2)) < strength / 2, -1.0, 1.0)
    angles = rng.uniform(-1, 1, (n, 1)) * math.radians(MAX_ROTATION_DEG) * strength
    contrasts = np.exp(rng.uniform(-1, 1, (n, 1)) * MAX_LOG_CONTRAST * strength)
    return np.hstack([flips, angles, contrasts]).astype(np.float32)


def augment(pixels: Tensor, changes: NDArray[np.float32]) -> Tensor:
    """Return radiographs `pixels` uint8 `[n, s, s]` changed by the rows of `changes`, uint8 `[n, s, s]`.

    Corners that a rotation uncovers are black; contrast is scaled about each picture's own mean.
    """
    horizontal, vertical, angle, contrast = torch.from_numpy(changes).to(pixels.device).unbind(1)
    cos, sin, none = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    affine = torch.stack(
        [horizontal * cos, -horizontal * sin, none, vertical * sin, vertical * cos, none], dim=1
    )
    picture = pixels.unsqueeze(1).to(torch.float32)
    grid = functional.affine_grid(affine.view(-1, 2, 3), list(picture.shape), align_corners=False)
    moved = functional.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = (moved - mean) * contrast.view(-1, 1, 1, 1) + mean
    return changed.round().clamp(0, 255).to(torch.uint8).squeeze(1)
