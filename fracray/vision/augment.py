"""Random flips, rotation, zoom, contrast and brightness on preprocessed radiographs, of one strength."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MAX_ROTATION_DEG = 30.0
MAX_LOG_ZOOM = 0.2
MAX_LOG_CONTRAST = 0.4
MAX_BRIGHTNESS = 0.1
"""Largest changes at strength 1: rotation, zoom (a factor of 0.82 to 1.22), contrast (0.67 to 1.49), and
brightness as a share of the whole range."""


def draw_augmentations(n: int, strength: float, seed: list[int]) -> NDArray[np.float32]:
    """Return `[n, 6]` changes: flips across and along (-1 or 1), angle (rad), zoom, contrast, brightness.

    Zoom and contrast are factors, brightness a share of the whole range. `strength` in [0, 1]: a flip's
    probability is half of it; all else scales with it; at 0 nothing changes.
    """
    rng = np.random.default_rng(seed)
    flips = np.where(rng.random((n, 2)) < strength / 2, -1.0, 1.0)
    angles = rng.uniform(-1, 1, (n, 1)) * math.radians(MAX_ROTATION_DEG) * strength
    zooms = np.exp(rng.uniform(-1, 1, (n, 1)) * MAX_LOG_ZOOM * strength)
    contrasts = np.exp(rng.uniform(-1, 1, (n, 1)) * MAX_LOG_CONTRAST * strength)
    brightness = rng.uniform(-1, 1, (n, 1)) * MAX_BRIGHTNESS * strength
    return np.hstack([flips, angles, zooms, contrasts, brightness]).astype(np.float32)


def without_grey_changes(changes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `changes` `[n, 6]` that only move: what is drawn over a radiograph moves with it so."""
    moves = changes.copy()
    moves[:, 4:] = (1.0, 0.0)
    return moves


def augment(pixels: Tensor, changes: NDArray[np.float32]) -> Tensor:
    """Return radiographs `pixels` uint8 `[n, s, s]` changed by the rows of `changes`, uint8 `[n, s, s]`.

    What a rotation or a zoom uncovers is black and stays so; contrast is scaled about each picture's mean.
    """
    across, along, angle, zoom, contrast, brightness = torch.from_numpy(changes).to(pixels.device).unbind(1)
    cos, sin, none = torch.cos(angle) / zoom, torch.sin(angle) / zoom, torch.zeros_like(angle)
    affine = torch.stack([across * cos, -across * sin, none, along * sin, along * cos, none], dim=1)
    picture = pixels.unsqueeze(1).to(torch.float32)
    grid = functional.affine_grid(affine.view(-1, 2, 3), list(picture.shape), align_corners=False)
    moved = functional.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = (moved - mean) * contrast.view(-1, 1, 1, 1) + mean
    changed = changed + 255 * brightness.view(-1, 1, 1, 1) * (moved > 0)
    return changed.round().clamp(0, 255).to(torch.uint8).squeeze(1)
