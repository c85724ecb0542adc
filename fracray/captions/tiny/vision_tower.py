"""The vision tower before its first step: what it would otherwise need millions of pictures to
find out.

A SigLIP tower from scratch knows neither that neighbouring patches belong together nor what a patch of a
radiograph looks like. Both can be written into its weights: the patch embedding starts as a principal
component analysis of real patches, and each attention head starts by looking at one neighbour of its patch
(the idea of "structured initialisation": an attention head over sinusoidal positions can imitate one tap of
a 3 x 3 convolution).
"""

import math
from typing import Any

import numpy as np
import torch

FREQUENCIES = (0.2, 0.4, 0.8, 1.6)
"""Radians per patch of the sinusoids that mark a patch's column and row: two channels each, per axis."""

POSITION_CHANNELS = 4 * len(FREQUENCIES)
"""The last channels of the tower's width; at the start they hold the position and nothing else."""

SHARPNESS = 2.0
"""At 2.0 a head gives most of its attention to its own neighbour."""

NEIGHBOURS = ((-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1))


@torch.no_grad()
def initialise(tower: Any, pixels: np.ndarray, seed: int) -> None:
    """Give a fresh SigLIP tower its starting weights, the patch statistics from `pixels` uint8 [n, s, s]."""
    embeddings = tower.embeddings
    patch, width = embeddings.patch_size, embeddings.embed_dim
    side = embeddings.image_size // patch
    _embed_by_components(embeddings.patch_embedding, _patches(pixels, patch, seed), width - POSITION_CHANNELS)
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[:, -POSITION_CHANNELS:] = _positions(side)
    for depth, layer in enumerate(tower.encoder.layers):
        _look_at_neighbours(layer.self_attn, depth)


def _patches(pixels: np.ndarray, patch: int, seed: int, count: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, top, left = (
        rng.integers(0, high, count) for high in (len(pixels), *(pixels.shape[1] - patch,) * 2)
    )
    found = [pixels[i, y : y + patch, x : x + patch].ravel() for i, y, x in zip(rows, top, left, strict=True)]
    return np.stack(found).astype(np.float64) / 127.5 - 1


def _embed_by_components(convolution: Any, patches: np.ndarray, components: int) -> None:
    """Filters: principal components, scaled to about unit variance, the weakest (noise) less."""
    mean = patches.mean(axis=0)
    variance, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    order = np.argsort(variance)[::-1][:components]
    floor = variance[order[min(48, len(order) - 1)]]
    scale = 1 / np.sqrt(variance[order] + floor)
    filters = (vectors[:, order] * scale).T
    channels, patch = convolution.in_channels, convolution.kernel_size[0]
    spread = filters.reshape(-1, 1, patch, patch).repeat(channels, axis=1) / channels
    convolution.weight.zero_()
    convolution.bias.zero_()
    convolution.weight[: len(spread)] = torch.from_numpy(spread).float()
    convolution.bias[: len(spread)] = torch.from_numpy(-filters @ mean).float()


def _positions(side: int) -> torch.Tensor:
    """[side * side, POSITION_CHANNELS]: cosines and sines of column, then of row."""
    place = torch.arange(side, dtype=torch.float32)
    waves = torch.stack([wave(f * place) for f in FREQUENCIES for wave in (torch.cos, torch.sin)], dim=1)
    columns = waves[None, :, :].expand(side, side, -1)
    rows = waves[:, None, :].expand(side, side, -1)
    return torch.cat([columns, rows], dim=-1).reshape(side * side, -1)


def _look_at_neighbours(attention: Any, depth: int) -> None:
    """Query and key weights so that each head of a patch attends to one of NEIGHBOURS, other ones at each
    depth."""
    size = attention.head_dim
    strength = math.sqrt(SHARPNESS * math.sqrt(size))
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.mul_(0.1)
        projection.weight[:, -POSITION_CHANNELS:] = 0
        projection.bias.zero_()
    for head in range(attention.num_heads):
        offset = NEIGHBOURS[(depth * attention.num_heads + head) % len(NEIGHBOURS)]
        rows = slice(head * size, head * size + POSITION_CHANNELS)
        attention.k_proj.weight[rows, -POSITION_CHANNELS:] = strength * torch.eye(POSITION_CHANNELS)
        attention.q_proj.weight[rows, -POSITION_CHANNELS:] = strength * _shift(offset)


def _shift(offset: tuple[int, int]) -> torch.Tensor:
    """The rotation that turns the waves at a place into those at the place `offset` patches away."""
    rotation = torch.zeros(POSITION_CHANNELS, POSITION_CHANNELS)
    for i, angle in enumerate(f * distance for distance in offset for f in FREQUENCIES):
        c, s = math.cos(angle), math.sin(angle)
        rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor([[c, -s], [s, c]])
    return rotation
