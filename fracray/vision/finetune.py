"""Selective fine-tuning: the last stages of a backbone learn to tell fractured from not fractured."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fracray.config import FinetuneSettings
from fracray.memory import keep_freed_memory
from fracray.vision.backbone import Backbone, pool, round_to_half
from fracray.vision.device import Precision, choose_device, embedding_arithmetic, training_pass
from fracray.vision.frozen import FrozenStages, split
from fracray.vision.learner import Learner, Lesson, label_losses
from fracray.vision.members import learning_apart

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Epochs without a better validation loss after which fine-tuning stops."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch, counted from 1: mean loss over its training rows, and loss and AUROC on validation rows.

    Losses are class-weighted cross entropies of the label; the training one is label-smoothed. The validation
    figures are None without validation rows, the AUROC also when these hold one class only.
    """

    epoch: int
    training_loss: float
    validation_loss: float | None
    validation_auroc: float | None


OnEpoch = Callable[[EpochReport], bool | None]


def finetune(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int8],
    settings: FinetuneSettings,
    seed: int,
    *,
    validation: tuple[NDArray[np.uint8], NDArray[np.int8]] | None = None,
    on_epoch: OnEpoch | None = None,
    device: str = "auto",
) -> Backbone:
    """Return a copy of `backbone` whose unfrozen stages learned `labels` `[n]` from `pixels` `[n, s, s]`.

    Labels are 0 or 1. A linear head on the embedding learns along and is dropped at the end. With `unfrozen`
    "none" nothing learns; with "fc" the head alone learns, which shows in the reports but leaves the
    backbone as it was. Frozen stages keep every weight, and all stages keep their batch-norm statistics:
    those of a few hundred radiographs would be worse, and would lag behind the weights. The weights returned
    are the running mean that `weight_average` sets; validation rows are scored by it. With `validation`
    rows the weights of the epoch of lowest validation loss are returned and training stops `PATIENCE` epochs
    after it; `on_epoch` returning True stops as well. What learned is rounded to float16. The same seed gives
    the same weights on one CPU.
    Raises `UsageError` unless `labels` hold both classes, `BackboneError` for a missing device.
    """
    tuned = copy.deepcopy(backbone)
    place = choose_device(device)
    if settings.unfrozen != "none":
        learning = split(tuned, settings.unfrozen)[1].to(place)
        frozen = FrozenStages(tuned, pixels, settings, seed, place)
        checked = None
        if validation is not None:
            checked = FrozenStages(tuned, validation[0], settings, seed, place), validation[1]
        learn(learning, Lesson(frozen, np.arange(len(pixels)), labels, checked), settings, seed, on_epoch)
    return tuned.eval().requires_grad_(False)


def learn(
    stages: nn.Sequential,
    lesson: Lesson,
    settings: FinetuneSettings,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Teach `stages` the `lesson`, in place; the rest as in `finetune`.

    The members of a last stage learn one after the other, each with a seed of its own.
    """
    keep_freed_memory()
    for number, member in enumerate(learning_apart(stages)):
        _learn_one(member, lesson, settings, seed + number, on_epoch)
    round_to_half(stages)


def _learn_one(
    stages: nn.Sequential, lesson: Lesson, settings: FinetuneSettings, seed: int, on_epoch: OnEpoch | None
) -> None:
    learner = Learner(stages, lesson, settings, seed)
    lesson.frozen.fill(lesson.rows)
    best: tuple[float, dict[str, Tensor]] | None = None
    since_best = 0
    for epoch in range(settings.epochs):
        report = _report(epoch + 1, learner.epoch(epoch), learner)
        logger.info("%s", report)
        stop = on_epoch is not None and on_epoch(report) is True
        if report.validation_loss is not None:
            if best is None or report.validation_loss < best[0]:
                best, since_best = (report.validation_loss, copy.deepcopy(learner.kept.state_dict())), 0
            else:
                since_best += 1
        if stop or since_best >= PATIENCE:
            break
    stages.load_state_dict(learner.kept.state_dict() if best is None else best[1])


def embed_rows(
    stages: nn.Sequential,
    frozen: FrozenStages,
    rows: NDArray[np.intp],
    precision: Precision = "float32",
    pooling: Callable[[Tensor], Tensor] = pool,
    draw: int = 0,
) -> Tensor:
    """Return the embeddings float32 `[len(rows), d]` of `rows` in `draw` after `stages`, on the CPU.

    With `precision` bfloat16 only the learning stages compute in it. `pooling` makes a row of numbers of each
    feature map.
    """
    parts, at_once = [], training_pass(frozen.device)
    with torch.no_grad(), embedding_arithmetic(frozen.device, precision):
        for start in range(0, len(rows), at_once):
            activations = frozen.activations(rows[start : start + at_once], draw)
            parts.append(pooling(stages(activations).float()).cpu())
    return torch.cat(parts)


def _report(epoch: int, training_loss: float, learner: Learner) -> EpochReport:
    if learner.lesson.validation is None:
        return EpochReport(epoch, training_loss, None, None)
    frozen, labels = learner.lesson.validation
    with torch.no_grad():
        embeddings = embed_rows(learner.kept, frozen, np.arange(len(labels)))
        logits = learner.kept_head(embeddings.to(frozen.device)).cpu()
    targets = torch.tensor(labels, dtype=torch.int64)
    loss = float(label_losses(logits, targets, learner.class_weights, 0.0).mean())
    auroc = float(roc_auc_score(labels, logits.squeeze(1).numpy())) if len(np.unique(labels)) == 2 else None
    return EpochReport(epoch, training_loss, loss, auroc)
