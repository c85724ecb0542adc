"""Selective fine-tuning: the last stages of a backbone learn to tell fractured from not fractured."""

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fracray.config import FinetuneSettings
from fracray.errors import UsageError
from fracray.memory import keep_freed_memory
from fracray.vision.attention import PlaceAttention, place_logits
from fracray.vision.backbone import Backbone, pool
from fracray.vision.device import (
    Precision,
    choose_device,
    embedding_arithmetic,
    training_arithmetic,
    training_pass,
)
from fracray.vision.frozen import FrozenStages, split
from fracray.vision.localisation import FracturePlaces, localisation_losses

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Epochs without a better validation loss after which fine-tuning stops."""
WARM_UP = 0.1
"""Share of all steps in which the learning rate rises; afterwards it falls along a cosine to zero."""
MOMENTUM = 0.9
HEAD_RATE = 10.0
"""The new head learns this many times faster than the pretrained stages."""


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
    after it; `on_epoch` returning True stops as well. The same seed gives the same weights on one CPU.
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
        rows = np.arange(len(pixels))
        learn(learning, tuned.embedding_dim, frozen, rows, labels, settings, seed, checked, on_epoch)
    return tuned.eval().requires_grad_(False)


def learn(
    stages: nn.Sequential,
    embedding_dim: int,
    frozen: FrozenStages,
    rows: NDArray[np.intp],
    labels: NDArray[np.int8],
    settings: FinetuneSettings,
    seed: int,
    validation: tuple[FrozenStages, NDArray[np.int8]] | None = None,
    on_epoch: OnEpoch | None = None,
    places: FracturePlaces | None = None,
) -> None:
    """Teach `stages`, in place, the `labels` of the `rows` of `frozen`; the rest as in `finetune`.

    `places` knows the fractures' places on all of `frozen`; with them the feature map learns these too, by a
    second loss of weight `localisation`.
    """
    keep_freed_memory()
    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        raise UsageError(
            "fine-tuning needs radiographs of both classes; check the labels of the rows it is given"
        )
    class_weights = torch.tensor(len(labels) / (2 * counts), dtype=torch.float32)
    rng = np.random.default_rng(seed)
    stages.requires_grad_(True).eval()
    head = _new_head(embedding_dim, seed, frozen.device)
    learning = nn.Sequential(OrderedDict[str, nn.Module](stages=stages, head=head))
    mean = get_ema_multi_avg_fn(settings.weight_average)  # type: ignore[no-untyped-call]
    average = AveragedModel(learning, multi_avg_fn=mean)
    kept, kept_head = cast(tuple[nn.Sequential, nn.Linear], average.module.children())
    batches = max(1, len(rows) // settings.batch_size)
    place_head = _place_head(stages, embedding_dim, seed, frozen.device)
    asks_where = places is not None and settings.localisation > 0 and bool(list(stages.parameters()))
    heads = nn.ModuleList([head, place_head])
    optimiser, schedule = _optimiser(stages, heads, settings, settings.epochs * batches)
    frozen.fill(rows)
    at_once = training_pass(frozen.device)
    best: tuple[float, dict[str, Tensor]] | None = None
    since_best = 0
    for epoch in range(settings.epochs):
        losses = np.zeros(len(rows))
        for number, batch in enumerate(np.array_split(rng.permutation(len(rows)), batches)):
            draw = (number + epoch) % frozen.draws
            optimiser.zero_grad(set_to_none=True)
            for start in range(0, len(batch), at_once):
                part = batch[start : start + at_once]
                activations = frozen.activations(rows[part], draw)
                targets = torch.tensor(labels[part], dtype=torch.int64)
                with training_arithmetic(frozen.device):
                    feature_map = stages(activations)
                    embeddings = pool(feature_map)
                loss = _losses(head(embeddings.float()), targets, class_weights, settings.label_smoothing)
                losses[part] = loss.detach().cpu().numpy()
                if places is not None and asks_where:
                    changes = frozen.changes(rows[part], draw)
                    wanted = places.targets(rows[part], changes, tuple(feature_map.shape[2:]))
                    loss = loss + settings.localisation * localisation_losses(
                        place_head, feature_map, *wanted
                    )
                torch.autograd.backward(loss.sum() / len(batch))
            optimiser.step()
            schedule.step()
            average.update_parameters(learning)
        report = _report(epoch + 1, float(losses.mean()), kept, kept_head, class_weights, validation)
        logger.info("%s", report)
        stop = on_epoch is not None and on_epoch(report) is True
        if report.validation_loss is not None:
            if best is None or report.validation_loss < best[0]:
                best, since_best = (report.validation_loss, copy.deepcopy(kept.state_dict())), 0
            else:
                since_best += 1
        if stop or since_best >= PATIENCE:
            break
    stages.load_state_dict(kept.state_dict() if best is None else best[1])


def embed_rows(
    stages: nn.Sequential,
    frozen: FrozenStages,
    rows: NDArray[np.intp],
    precision: Precision = "float32",
    pooling: Callable[[Tensor], Tensor] = pool,
) -> Tensor:
    """Return the embeddings float32 `[len(rows), d]` of unaugmented `rows` after `stages`, on the CPU.

    With `precision` bfloat16 only the learning stages compute in it. `pooling` makes a row of numbers of each
    feature map.
    """
    parts, at_once = [], training_pass(frozen.device)
    with torch.no_grad(), embedding_arithmetic(frozen.device, precision):
        for start in range(0, len(rows), at_once):
            activations = frozen.activations(rows[start : start + at_once], 0)
            parts.append(pooling(stages(activations).float()).cpu())
    return torch.cat(parts)


def _new_head(embedding_dim: int, seed: int, device: torch.device) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(embedding_dim, 1).to(device)


def _place_head(stages: nn.Sequential, embedding_dim: int, seed: int, device: torch.device) -> nn.Conv2d:
    """What says where a fracture is: the attention's own, which stays, or one that is dropped at the end."""
    for module in stages.modules():
        if isinstance(module, PlaceAttention):
            return module.logits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return place_logits(embedding_dim).to(device)


def _optimiser(
    stages: nn.Sequential, heads: nn.ModuleList, settings: FinetuneSettings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    new = list(heads.parameters())
    pretrained = [parameter for parameter in stages.parameters() if all(parameter is not one for one in new)]
    groups = [
        {"params": new, "lr": settings.learning_rate * HEAD_RATE},
        {"params": pretrained, "lr": settings.learning_rate},
    ]
    learning = [group for group in groups if group["params"]]
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            learning, momentum=MOMENTUM, nesterov=True, weight_decay=settings.weight_decay
        )
    else:
        optimiser = torch.optim.AdamW(learning, weight_decay=settings.weight_decay)
    warm = max(1, round(steps * WARM_UP))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _losses(logits: Tensor, targets: Tensor, class_weights: Tensor, smoothing: float) -> Tensor:
    targets = targets.to(logits.device)
    smoothed = targets * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits.squeeze(1), smoothed, reduction="none")
    return loss * class_weights.to(logits.device)[targets]


def _report(
    epoch: int,
    training_loss: float,
    stages: nn.Sequential,
    head: nn.Linear,
    class_weights: Tensor,
    validation: tuple[FrozenStages, NDArray[np.int8]] | None,
) -> EpochReport:
    if validation is None:
        return EpochReport(epoch, training_loss, None, None)
    frozen, labels = validation
    with torch.no_grad():
        logits = head(embed_rows(stages, frozen, np.arange(len(labels))).to(frozen.device)).cpu()
    loss = float(_losses(logits, torch.tensor(labels, dtype=torch.int64), class_weights, 0.0).mean())
    auroc = float(roc_auc_score(labels, logits.squeeze(1).numpy())) if len(np.unique(labels)) == 2 else None
    return EpochReport(epoch, training_loss, loss, auroc)
