"""How the embedded backbone was made: from sound phantoms alone, by tasks that are not fracture detection.

The network names the region, the projection and the look-alikes of a phantom without any fracture, tells
from its third stage in which directions edges run at each place, and finds where a picture was altered by
chance. So it knows bones and their contours, and has left to fine-tuning what a fracture is.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from fracray.config import FinetuneSettings, Preprocessing
from fracray.memory import keep_freed_memory
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.phantoms.anatomy import REGIONS
from fracray.radiographs.phantoms.lookalikes import LOOKALIKES
from fracray.vision.alterations import alter
from fracray.vision.augment import augment, draw_augmentations
from fracray.vision.backbone import Backbone, pool
from fracray.vision.device import training_arithmetic
from fracray.vision.folds import FineTuning, iterate_by_folds
from fracray.vision.normalise import normalise
from fracray.vision.preprocess import preprocess

logger = logging.getLogger(__name__)

REGION_NAMES = tuple(region.name for region in REGIONS)
PROJECTIONS = ("frontal", "lateral", "oblique")
EDGE_DIRECTIONS = 8
AUGMENTATION = 0.5


@dataclass(frozen=True)
class PhantomSet:
    """Preprocessed phantoms `pixels` uint8 `[n, s, s]` and their truth.

    `regions` and `projections` `[n]` are indices into `REGION_NAMES` and `PROJECTIONS`, `lookalikes` `[n,
    7]` is 1 where that one of `LOOKALIKES` is present, `fractured` `[n]` is 0 or 1.
    """

    pixels: NDArray[np.uint8]
    regions: NDArray[np.int64]
    projections: NDArray[np.int64]
    lookalikes: NDArray[np.float32]
    fractured: NDArray[np.int8]


def draw_phantoms(
    seeds: Sequence[int], preprocessing: Preprocessing, *, fractured: bool | None, processes: int = 2
) -> PhantomSet:
    """Return the phantoms of `seeds` as the backbone sees them; `fractured` None lets each seed decide."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        draw = partial(_draw, preprocessing=preprocessing, fractured=fractured)
        drawn = list(workers.map(draw, seeds, chunksize=32))
    pixels, regions, projections, lookalikes, labels = zip(*drawn, strict=True)
    return PhantomSet(
        np.stack(pixels),
        np.array(regions, np.int64),
        np.array(projections, np.int64),
        np.array(lookalikes, np.float32),
        np.array(labels, np.int8),
    )


def _draw(
    seed: int, preprocessing: Preprocessing, fractured: bool | None
) -> tuple[NDArray[np.uint8], int, int, list[bool], int]:
    # Drawn a little finer than the network's input, as real radiographs are finer too.
    phantom = make_phantom(seed, fractured=fractured, long_side=preprocessing.size * 3 // 2)
    truth = phantom.truth
    return (
        preprocess(phantom.pixels, preprocessing),
        REGION_NAMES.index(truth.region),
        PROJECTIONS.index(truth.projection),
        [name in truth.lookalikes for name in LOOKALIKES],
        truth.label,
    )


class PretextOutput(NamedTuple):
    """What the heads of a `PretextNetwork` say about n pictures, all in float32.

    Logits `[n, 8]`, `[n, 3]`, `[n, 7]`, edge strengths `[n, 8, h, w]`, and logits of having been altered,
    for each place of the last feature map `[n, 1, h', w']` and for the whole picture `[n]`.
    """

    regions: Tensor
    projections: Tensor
    lookalikes: Tensor
    edges: Tensor
    altered_places: Tensor
    altered: Tensor


class PretextNetwork(nn.Module):
    """A new backbone with one head per task; the seed alone decides its weights."""

    def __init__(self, architecture: str, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = Backbone(architecture).to(memory_format=torch.channels_last)
            self.widths = [len(REGION_NAMES), len(PROJECTIONS), len(LOOKALIKES)]
            self.head = nn.Linear(self.backbone.embedding_dim, sum(self.widths))
            self.edge_head = nn.LazyConv2d(EDGE_DIRECTIONS, kernel_size=1)
            self.altered_head = nn.Linear(self.backbone.embedding_dim, 2)
            with torch.no_grad():
                self(torch.zeros(2, 1, 64, 64))

    def forward(self, x: Tensor) -> PretextOutput:
        """Return what the heads say about normalised pictures `x` `[n, 1, s, s]`."""
        before_last = self.backbone.stages[:-1](x)
        feature_map = self.backbone.stages[-1:](before_last)
        embedding = pool(feature_map)
        regions, projections, lookalikes = self.head(embedding).float().split(self.widths, dim=1)
        edges = self.edge_head(before_last).float()
        places = self.altered_head(feature_map.movedim(1, -1))[..., :1].movedim(-1, 1).float()
        altered = self.altered_head(embedding)[:, 1].float()
        return PretextOutput(regions, projections, lookalikes, edges, places, altered)


def edge_directions(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return how strong edges of each direction are in the cells of a `shape` grid, `[n, 8, *shape]`.

    `x` is `[n, 1, s, s]`. A histogram of oriented gradients (Dalal and Triggs 2005) per cell, directions of
    opposite sign counted as one, square-rooted and divided by the picture's own mean.
    """
    across = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    strength = torch.hypot(across, down)
    direction = (torch.atan2(down, across) / torch.pi * EDGE_DIRECTIONS).floor().long() % EDGE_DIRECTIONS
    by_direction = torch.zeros(len(x), EDGE_DIRECTIONS, *strength.shape[2:]).scatter_(1, direction, strength)
    cells = functional.adaptive_avg_pool2d(by_direction, shape).sqrt()
    return cells / cells.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)


def pretrain(
    network: PretextNetwork,
    phantoms: PhantomSet,
    *,
    epochs: int,
    seed: int,
    sizes: Sequence[int],
    altered: bool,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
) -> None:
    """Train `network` in place on sound `phantoms`, on the CPU, and leave it in evaluation mode.

    Batches are shown at the `sizes` (pixels) in turn, so that the features hold for bones of any size. With
    `altered` a part of the pictures is altered and the network has to find where. AdamW under a one-cycle
    learning rate. The same seed gives the same weights on one machine.
    """
    keep_freed_memory()
    network.requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.05)
    count = len(phantoms.pixels)
    batches = count // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=epochs * batches, pct_start=0.15
    )
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(phantoms.pixels)
    for epoch in range(epochs):
        network.train()
        changes = draw_augmentations(count, AUGMENTATION, [seed, epoch])
        total = 0.0
        for number, batch in enumerate(np.array_split(rng.permutation(count), batches)):
            x = normalise(augment(pixels[batch], changes[batch]))
            where = None
            if altered:
                x, where = alter(x, rng)
            size = sizes[number % len(sizes)]
            x = functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
            with training_arithmetic(torch.device("cpu")):
                output = network(x)
            loss = _pretext_loss(output, x, phantoms, batch)
            if where is not None:
                loss = loss + _altered_loss(output, where)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        logger.info("epoch %d of %d: mean loss %.3f", epoch + 1, epochs, total / count)
    network.eval().requires_grad_(False)


def _pretext_loss(output: PretextOutput, x: Tensor, phantoms: PhantomSet, batch: NDArray[np.intp]) -> Tensor:
    wanted = edge_directions(x, (output.edges.shape[2], output.edges.shape[3]))
    return (
        functional.cross_entropy(output.regions, torch.from_numpy(phantoms.regions[batch]))
        + functional.cross_entropy(output.projections, torch.from_numpy(phantoms.projections[batch]))
        + functional.binary_cross_entropy_with_logits(
            output.lookalikes, torch.from_numpy(phantoms.lookalikes[batch])
        )
        + functional.smooth_l1_loss(output.edges, wanted)
    )


def _altered_loss(output: PretextOutput, where: Tensor) -> Tensor:
    places = output.altered_places
    # Place i of the feature map is centred on pixel i times its share of the side, so pooling is centred
    # there too.
    share = where.shape[2] // places.shape[2]
    wanted = functional.max_pool2d(where, share + 1, stride=share, padding=share // 2)
    found = functional.binary_cross_entropy_with_logits(places, wanted, pos_weight=torch.tensor(3.0))
    return found + functional.binary_cross_entropy_with_logits(output.altered, wanted.amax(dim=(1, 2, 3)))


def pretext_figures(
    network: PretextNetwork, phantoms: PhantomSet, seed: int, batch_size: int = 64
) -> dict[str, float]:
    """Return how well `network` does its own tasks on `phantoms` it never saw: accuracies and AUROCs.

    "altered AUROC" is that of telling altered pictures from others.
    """
    outputs, altered = [], []
    rng = np.random.default_rng(seed)
    with torch.inference_mode():
        for start in range(0, len(phantoms.pixels), batch_size):
            x = normalise(phantoms.pixels[start : start + batch_size])
            changed, where = alter(x, rng)
            outputs.append((*network(x)[:3], network(changed).altered))
            altered.append(where.amax(dim=(1, 2, 3)))
    joined = (torch.cat(part).numpy() for part in zip(*outputs, strict=True))
    regions, projections, lookalikes, scores = joined
    aurocs = [
        roc_auc_score(there, score)
        for there, score in zip(phantoms.lookalikes.T, lookalikes.T, strict=True)
        if len(np.unique(there)) == 2
    ]
    return {
        "region accuracy": float(np.mean(regions.argmax(1) == phantoms.regions)),
        "projection accuracy": float(np.mean(projections.argmax(1) == phantoms.projections)),
        "look-alike AUROC": float(np.mean(aurocs)),
        "altered AUROC": float(roc_auc_score(torch.cat(altered).numpy(), scores)),
    }


def fracture_auroc(
    backbone: Backbone, phantoms: PhantomSet, settings: FinetuneSettings, seed: int, folds: int = 5
) -> float:
    """Return the mean AUROC over stratified `folds` of a logistic regression on embeddings, fracture or not.

    Within each fold network and regression see the rows of the other folds only.
    """
    labels = phantoms.fractured
    fold_of = np.empty(len(labels), np.int16)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(labels, labels)):
        fold_of[rows] = fold
    aurocs = []
    training = FineTuning(backbone, phantoms.pixels, labels, settings, seed)
    for fold, numbers in iterate_by_folds(training, fold_of):
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        )
        classifier.fit(numbers[fold_of != fold], labels[fold_of != fold])
        scores = classifier.decision_function(numbers[fold_of == fold])
        aurocs.append(roc_auc_score(labels[fold_of == fold], scores))
    return float(np.mean(aurocs))
