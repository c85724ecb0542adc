"""Teaching the vision tower real radiographs, from annotations and boxes; it has seen phantoms before."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from fracray.captions.tiny.architecture import VISION_WIDTH
from fracray.captions.tiny.heads import FractureMap, encode
from fracray.captions.tiny.parallel import steps
from fracray.captions.tiny.radiograph_set import Annotations, RadiographSet, box_masks
from fracray.captions.tiny.views import bony_places
from fracray.captions.tiny.vision_training import map_losses

log = logging.getLogger(__name__)

FRACTURED_SHARE = 0.4
"""Of a batch; of FracAtlas it is 0.18, too few to learn fractures from."""

TURNED, ZOOMED, SHIFTED = 12.0, 0.15, 0.06
"""Largest rotation in degrees, change of size, and shift as a share of the picture."""

SHOWN, SHOWN_UNTIL = 160, 0.7
"""So many of a picture's 400 patches are looked at until this share of the steps: a quarter of the time."""


class RadiographHeads(FractureMap):
    """What the tower is taught through here: the fracture map, and from the mean over patches fracture,
    hardware, several views, region and projection."""

    FLAGS = 3

    def __init__(self, annotations: Sequence[Annotations]) -> None:
        super().__init__()
        self.regions = sorted({row.region for row in annotations})
        self.projections = sorted({row.projection for row in annotations})
        self.picture = nn.Linear(VISION_WIDTH, self.FLAGS + len(self.regions) + len(self.projections))

    def targets(self, annotations: Sequence[Annotations]) -> tuple[Tensor, Tensor]:
        """Return flags float32 [n, 3], and indices of region and projection int64 [n, 2]."""
        flags = [[float(row.fractured), float(row.hardware), float(row.several_views)] for row in annotations]
        words = [
            [self.regions.index(row.region), self.projections.index(row.projection)] for row in annotations
        ]
        return torch.tensor(flags), torch.tensor(words)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of flags, region and projection from the tower's tokens [n, t, d]."""
        logits = self.picture(tokens.mean(1)).float()
        flags, region, projection = torch.split(
            logits, [self.FLAGS, len(self.regions), len(self.projections)], dim=1
        )
        return flags, region, projection


def train_on_radiographs(
    tower: Any, heads: RadiographHeads, data: RadiographSet, count: int, seed: int, *, batch: int = 16
) -> None:
    """Teach the tower fracture map, region, projection, hardware and views in `count` steps."""
    rng = np.random.default_rng(seed)
    masks = box_masks(data.annotations)
    fractured, sound = np.flatnonzero(data.fractured), np.flatnonzero(~data.fractured)
    positions = [tower.embeddings.position_embedding.weight]
    few = round(FRACTURED_SHARE * batch)
    for progress, step in steps([*tower.parameters(), *heads.parameters()], count, 5e-4, log.info, positions):
        rows = np.concatenate(
            [rng.choice(fractured, few, replace=False), rng.choice(sound, batch - few, replace=False)]
        )
        pixels, moved, _ = altered(data.pixels[rows], masks[rows], rng)
        flags, words = heads.targets([data.annotations[i] for i in rows])
        places = bony_places(pixels, SHOWN, rng) if progress < SHOWN_UNTIL else None
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, pixels, places)
            seen, region, projection = heads.split(tokens)
            where, anywhere = map_losses(heads, tokens, moved, flags[:, 0], places)
        flag_losses = functional.binary_cross_entropy_with_logits(seen, flags, reduction="none").mean(0)
        loss = 2 * where + anywhere + flag_losses[0] + 0.5 * flag_losses[1:].mean()
        loss = loss + 0.5 * functional.cross_entropy(region, words[:, 0])
        step(loss + 0.5 * functional.cross_entropy(projection, words[:, 1]))


def altered(
    pixels: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirror, turn, zoom, shift and expose pictures anew, each in its own way, their masks alike.

    `pixels` and `masks` uint8 [n, s, s]; returns both, and which pictures were mirrored, bool [n].
    """
    n = len(pixels)
    angle = np.deg2rad(rng.uniform(-TURNED, TURNED, n))
    size = 1 + rng.uniform(-ZOOMED, ZOOMED, n)
    mirror = rng.random(n) < 0.5
    sign = np.where(mirror, -1.0, 1.0)
    shift = rng.uniform(-SHIFTED, SHIFTED, (n, 2)) * 2
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    rows = [np.stack([sign * cosine, -sine, shift[:, 0]], 1), np.stack([sign * sine, cosine, shift[:, 1]], 1)]
    grid = functional.affine_grid(
        torch.from_numpy(np.stack(rows, 1)).float(), [n, 1, *pixels.shape[1:]], align_corners=False
    )
    planes = torch.from_numpy(np.stack([pixels, 255 * masks], 1).astype(np.float32))
    moved = functional.grid_sample(planes, grid, mode="bilinear", align_corners=False).numpy()
    gain, lift = rng.uniform(0.8, 1.2, (n, 1, 1)), rng.uniform(-20, 20, (n, 1, 1))
    exposed = np.clip(moved[:, 0] * gain + lift, 0, 255).astype(np.uint8)
    return exposed, (moved[:, 1] > 127).astype(np.uint8), mirror


@torch.inference_mode()
def radiograph_figures(tower: Any, heads: RadiographHeads, data: RadiographSet) -> dict[str, float]:
    """Return how well the heads do on radiographs that were not trained on."""
    parts = []
    for first in range(0, len(data), 32):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, data.pixels[first : first + 32])
            highest = heads.patches(tokens)[..., 0].float().amax(1, keepdim=True)
            flags, region, projection = heads.split(tokens)
        parts.append(
            torch.cat([flags[:, :1], highest, region.argmax(1)[:, None], projection.argmax(1)[:, None]], 1)
        )
    picture, highest_patch, region, projection = torch.cat(parts).numpy().T
    flags, words = heads.targets(data.annotations)
    labels = flags[:, 0].numpy()
    return {
        "AUROC of a picture": float(roc_auc_score(labels, picture)),
        "AUROC of its highest patch": float(roc_auc_score(labels, highest_patch)),
        "balanced accuracy of a picture": float(balanced_accuracy_score(labels, picture > 0)),
        "region right": float((region == words[:, 0].numpy()).mean()),
        "projection right": float((projection == words[:, 1].numpy()).mean()),
    }
