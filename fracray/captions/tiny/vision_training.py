"""Teaching the vision tower to see: first on crops around the fracture, then on whole pictures.

Fine detail is what a transformer without pretraining learns last, so it comes first and with the densest
signal that phantoms offer: for every patch, whether the fracture touches it. Both pictures of a pair stand
in one batch.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fracray.captions.tiny.heads import FractureMap, Heads, encode, held_out_figures
from fracray.captions.tiny.parallel import steps
from fracray.captions.tiny.phantom_set import PhantomSet
from fracray.captions.tiny.views import (
    CHANGE,
    MASK,
    PIXELS,
    bony_places,
    crops_around,
    exposed,
    in_patches,
    moved,
    pair_planes,
    touched_patches,
)

log = logging.getLogger(__name__)

EASY_SHARE = 0.3
"""Part of the crop stage that leaves out the kinds which hardly show (they keep the loss on its first
plateau)."""

CHANGE_SCALE = 12.0
"""Grey levels that a fracture changes a pixel by, roughly."""

SHOWN = ((0.4, 130), (0.85, 200), (1.0, None))
"""Until which share of the picture stage how many of a picture's 400 patches are looked at (None: all, as an
answer will). Looking at a third costs a quarter of the time and still meets most of the bones."""

REPORT_EVERY = 0.2
"""Share of the picture stage between two looks at held-out phantoms."""

HARD_KINDS = ("hairline", "greenstick", "buckle")

WORD_WEIGHTS = (1.0, 1.0, 0.4, 0.4, 0.4)
"""What a whole picture shows counts more than what only the fracture shows."""


def train_on_crops(
    tower: Any,
    heads: Heads,
    data: PhantomSet,
    count: int,
    seed: int,
    *,
    crop: int = 96,
    pairs: int = 16,
) -> None:
    """Teach fine detail on crops around the fracture's site, turned and mirrored, both of a pair alike."""
    rng = np.random.default_rng(seed)
    parameters = [*tower.parameters(), *heads.parameters()]
    positions = [tower.embeddings.position_embedding.weight]
    hard = np.array([truth.kind in HARD_KINDS for truth in data.truths[0::2]])
    every, easy = np.arange(len(hard)), np.flatnonzero(~hard)
    for progress, step in steps(parameters, count, 1.5e-3, log.info, positions):
        chosen = rng.choice(easy if progress < EASY_SHARE else every, pairs, replace=False)
        planes, places = crops_around(data, chosen, crop, rng)
        touched = touched_patches(planes[:, MASK])
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, exposed(planes[:, PIXELS], rng), places)
            fracture = heads.picture(tokens.mean(1))[:, 0].float()
            dense = _dense_loss(heads, tokens, planes)
        step(dense + 0.3 * functional.binary_cross_entropy_with_logits(fracture, touched.amax(1)))


def train_on_pictures(
    tower: Any,
    heads: Heads,
    data: PhantomSet,
    held_out: PhantomSet,
    count: int,
    seed: int,
    record: Callable[[dict[str, float]], None],
    *,
    pairs: int = 8,
) -> None:
    """Teach whole pictures: the fracture map still, and everything the findings will mention."""
    rng = np.random.default_rng(seed)
    parameters = [*tower.parameters(), *heads.parameters()]
    positions = [tower.embeddings.position_embedding.weight]
    checked = 0.0
    for progress, step in steps(parameters, count, 1e-3, log.info, positions):
        shown = next(shown for until, shown in SHOWN if progress < until)
        chosen = rng.choice(len(data) // 2, pairs if shown else pairs // 2, replace=False)
        planes = moved(np.concatenate([pair_planes(data, pair) for pair in chosen]), rng)
        rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
        flags, words = heads.targets([data.truths[i] for i in rows])
        # Chosen on the sound picture for both: the choice says nothing about the fracture.
        places = bony_places(planes[1::2, PIXELS], shown, rng).repeat_interleave(2, 0) if shown else None
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, exposed(planes[:, PIXELS], rng), places)
            picture = heads.picture(tokens.mean(1)).float()
            dense, anywhere = map_losses(heads, tokens, planes[:, MASK], flags[:, 0], places)
        step(2 * dense + anywhere + _picture_loss(heads, picture, flags, words))
        if progress >= checked + REPORT_EVERY:
            checked = progress
            record({"share of steps": progress} | held_out_figures(tower, heads, held_out))
    record({"share of steps": 1.0} | held_out_figures(tower, heads, held_out))


def map_losses(
    heads: FractureMap, tokens: Tensor, masks: np.ndarray, fractured: Tensor, places: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the losses of the fracture map. Per patch: whether the fracture touches it. Per picture: whether
    any patch says so (log-sum-exp), which teaches on the patches that look like a fracture and are none.

    `masks` 0/1 [n, s, s]; `fractured` float32 [n]; `places` [n, t]: the patches that `tokens` are of.
    """
    touched = touched_patches(masks)
    touched = touched if places is None else touched.gather(1, places)
    logits = heads.patches(tokens)[..., 0].float()
    where = functional.binary_cross_entropy_with_logits(logits, touched, pos_weight=torch.tensor(4.0))
    highest = heads.anywhere[0] * torch.logsumexp(logits, dim=1) + heads.anywhere[1]
    return where, functional.binary_cross_entropy_with_logits(highest, fractured)


def _picture_loss(heads: Heads, picture: Tensor, flags: Tensor, words: Tensor) -> Tensor:
    flag_losses = functional.binary_cross_entropy_with_logits(
        picture[:, : heads.flags], flags, reduction="none"
    ).mean(0)
    loss = flag_losses[0] + 0.5 * flag_losses[1:].mean()
    groups = torch.split(picture[:, heads.flags :], [len(names) for names in heads.words.values()], dim=1)
    for i, logits in enumerate(groups):
        if bool((words[:, i] >= 0).any()):
            loss = loss + WORD_WEIGHTS[i] * functional.cross_entropy(logits, words[:, i])
    return loss


def _dense_loss(heads: Heads, tokens: Tensor, planes: np.ndarray) -> Tensor:
    """Per patch: whether the fracture touches it (touched patches count four times), and what it changed
    there."""
    touched = touched_patches(planes[:, MASK])
    changes = torch.from_numpy(in_patches(planes[:, CHANGE])) / CHANGE_SCALE
    logits = heads.patches(tokens)[..., 0].float()
    where = functional.binary_cross_entropy_with_logits(logits, touched, pos_weight=torch.tensor(4.0))
    missed = functional.smooth_l1_loss(heads.changes(tokens).float(), changes, reduction="none").mean(-1)
    return where + 3 * (missed * (0.1 + touched)).mean() / (0.1 + touched).mean()
