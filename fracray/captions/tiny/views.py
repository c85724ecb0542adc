"""What the vision tower is shown of a pair: its planes, cut, moved and exposed anew each time."""

import numpy as np
import torch
from torch import Tensor

from fracray.captions.tiny.architecture import IMAGE_SIZE, PATCH
from fracray.captions.tiny.heads import SIDE
from fracray.captions.tiny.phantom_set import PhantomSet

PIXELS, MASK, CHANGE = range(3)
"""Planes of a picture: grey values, where the fracture is, what it changed there."""

TOUCHED = 0.04
"""Share of a patch that the fracture's mask must cover."""


def pair_planes(data: PhantomSet, pair: int) -> np.ndarray:
    """Both pictures of a pair, fractured first, int16 [2, 3, s, s]: pixels, mask, and what the fracture
    changed."""
    mask = np.unpackbits(data.masks[2 * pair], axis=-1).astype(np.int16)
    fractured, sound = (data.pixels[2 * pair + i].astype(np.int16) for i in (0, 1))
    nothing = np.zeros_like(mask)
    return np.stack(
        [np.stack([fractured, mask, (fractured - sound) * mask]), np.stack([sound, nothing, nothing])]
    )


def crops_around(
    data: PhantomSet, pairs: np.ndarray, crop: int, rng: np.random.Generator
) -> tuple[np.ndarray, Tensor]:
    """Planes [2 n, 3, crop, crop] of each pair at one place near the fracture, and the places of the
    patches."""
    crops, places = [], []
    grid = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    reach, side = IMAGE_SIZE - crop, crop // PATCH
    for pair in pairs:
        planes = pair_planes(data, int(pair))
        ys, xs = np.nonzero(planes[0, MASK])
        y, x = (IMAGE_SIZE // 2, IMAGE_SIZE // 2)
        if len(ys):
            chosen = rng.integers(len(ys))
            y, x = ys[chosen], xs[chosen]
        top = int(np.clip(y - rng.integers(crop // 6, crop - crop // 6), 0, reach))
        left = int(np.clip(x - rng.integers(crop // 6, crop - crop // 6), 0, reach))
        both = np.rot90(planes[..., top : top + crop, left : left + crop], int(rng.integers(4)), (2, 3))
        crops.append(both[..., ::-1] if rng.integers(2) else both)
        gy, gx = rng.integers(0, SIDE - side + 1, 2)
        places += 2 * [grid[gy : gy + side, gx : gx + side].ravel()]
    return np.concatenate(crops), torch.from_numpy(np.stack(places))


def moved(planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror pairs at random, left to right, and move by up to half a patch so that patches cut anew."""
    which = np.repeat(rng.random(len(planes) // 2) < 0.5, 2)
    planes[which] = np.flip(planes[which], 3)
    margin = PATCH // 2
    top, left = rng.integers(0, 2 * margin + 1, 2)
    padded = np.pad(planes, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    return padded[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def exposed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary brightness and contrast a little, the same for both pictures of a pair."""
    gain = np.repeat(rng.uniform(0.88, 1.1, len(pixels) // 2), 2)[:, None, None]
    shift = np.repeat(rng.uniform(-10, 10, len(pixels) // 2), 2)[:, None, None]
    return np.clip(pixels * gain + shift, 0, 255).astype(np.uint8)


def bony_places(pixels: np.ndarray, shown: int, rng: np.random.Generator) -> Tensor:
    """Return the brightest, most structured patches int64 [n, shown] of each picture, with some chance."""
    patches = pixels.astype(np.float32).reshape(-1, SIDE, PATCH, SIDE, PATCH)
    score = (patches.mean((2, 4)) + 2 * patches.std((2, 4))).reshape(len(patches), -1)
    order = np.argsort(-score * rng.uniform(0.75, 1.25, score.shape), axis=1)
    return torch.from_numpy(np.sort(order[:, :shown], axis=1))


def in_patches(plane: np.ndarray) -> np.ndarray:
    """[n, h, w] to float32 [n, patches, pixels of a patch]."""
    n, height, width = plane.shape
    cut = plane.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH).transpose(0, 1, 3, 2, 4)
    return cut.reshape(n, -1, PATCH * PATCH).astype(np.float32)


def touched_patches(masks: np.ndarray) -> Tensor:
    """Masks 0/1 [n, h, w] to 1 where the fracture touches a patch, float32 [n, t]."""
    return torch.from_numpy((in_patches(masks).mean(-1) > TOUCHED).astype(np.float32))
