"""One epoch of fine-tuning: stages and the heads they learn through, which are dropped afterwards."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fracray.config import FinetuneSettings
from fracray.errors import UsageError
from fracray.vision.attention import PlaceAttention, place_logits
from fracray.vision.backbone import pool
from fracray.vision.device import training_arithmetic, training_pass
from fracray.vision.frozen import FrozenStages
from fracray.vision.localisation import FracturePlaces, localisation_losses

WARM_UP = 0.1
"""Share of all steps in which the learning rate rises; afterwards it falls along a cosine to zero."""
MOMENTUM = 0.9
HEAD_RATE = 10.0
"""The new head learns this many times faster than the pretrained stages."""


@dataclass(frozen=True)
class Lesson:
    """What is taught: the `labels` `[k]`, 0 or 1, of the `rows` `[k]` of `frozen`.

    `validation`: other radiographs and their labels, to watch the learning by. `places` knows where the
    fractures are on all of `frozen`; with them the feature map learns this too, by a second loss of weight
    `localisation`.
    """

    frozen: FrozenStages
    rows: NDArray[np.intp]
    labels: NDArray[np.int8]
    validation: tuple[FrozenStages, NDArray[np.int8]] | None = None
    places: FracturePlaces | None = None


class Learner:
    """Takes the steps of a fine-tuning of `stages`, in place.

    `kept` and `kept_head` are the running mean of the stages and of the head on their embedding, and
    `class_weights` float32 `[2]` what a row of each class counts. Raises `UsageError` unless the labels hold
    both classes.
    """

    def __init__(self, stages: nn.Sequential, lesson: Lesson, settings: FinetuneSettings, seed: int) -> None:
        self.lesson, self._settings = lesson, settings
        counts = np.bincount(lesson.labels, minlength=2)
        if counts.min() == 0:
            raise UsageError(
                "fine-tuning needs radiographs of both classes; check the labels of the rows it is given"
            )
        self.class_weights = torch.tensor(len(lesson.labels) / (2 * counts), dtype=torch.float32)
        self._rng = np.random.default_rng(seed)
        self._batches = max(1, len(lesson.rows) // settings.batch_size)
        self._stages = stages.requires_grad_(True).eval()
        device, dim = lesson.frozen.device, self._width(lesson)
        self._head = _new_head(dim, seed, device)
        self._place_head = _place_head(stages, dim, seed, device)
        heads = nn.ModuleList([self._head, self._place_head])
        self._optimiser, self._schedule = _optimiser(stages, heads, settings, settings.epochs * self._batches)
        self._learning = nn.Sequential(OrderedDict[str, nn.Module](stages=stages, head=self._head))
        mean = get_ema_multi_avg_fn(settings.weight_average)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self._learning, multi_avg_fn=mean)
        self.kept, self.kept_head = cast(tuple[nn.Sequential, nn.Linear], self._average.module.children())
        has_weights = bool(list(stages.parameters()))
        self._places = lesson.places if settings.localisation > 0 and has_weights else None

    def _width(self, lesson: Lesson) -> int:
        """Channels that the stages make of an activation."""
        with torch.no_grad():
            blank = torch.zeros(1, *lesson.frozen.shape, device=lesson.frozen.device)
            return int(self._stages(blank).shape[1])

    def epoch(self, number: int) -> float:
        """Learn from every row once, in the augmentation draws of epoch `number`, counted from 0.

        Returns the mean loss of the labels, as each row was met.
        """
        order = self._rng.permutation(len(self.lesson.rows))
        losses = np.zeros(len(order))
        at_once = training_pass(self.lesson.frozen.device)
        for position, batch in enumerate(np.array_split(order, self._batches)):
            draw = (position + number) % self.lesson.frozen.draws
            self._optimiser.zero_grad(set_to_none=True)
            for start in range(0, len(batch), at_once):
                part = batch[start : start + at_once]
                of_labels, of_places = self._losses(part, draw)
                losses[part] = of_labels.detach().cpu().numpy()
                torch.autograd.backward((of_labels + of_places).sum() / len(batch))
            self._optimiser.step()
            self._schedule.step()
            self._average.update_parameters(self._learning)
        return float(losses.mean())

    def _losses(self, part: NDArray[np.intp], draw: int) -> tuple[Tensor, Tensor]:
        """Losses of the labels and of the fractures' places, each `[len(part)]`; `part` indexes the lesson's
        rows."""
        frozen, rows = self.lesson.frozen, self.lesson.rows[part]
        activations = frozen.activations(rows, draw)
        with training_arithmetic(frozen.device):
            feature_map = self._stages(activations)
            embeddings = pool(feature_map)
        targets = torch.tensor(self.lesson.labels[part], dtype=torch.int64)
        of_labels = label_losses(
            self._head(embeddings.float()), targets, self.class_weights, self._settings.label_smoothing
        )
        if self._places is None:
            return of_labels, torch.zeros_like(of_labels)
        wanted = self._places.targets(rows, frozen.changes(rows, draw), tuple(feature_map.shape[2:]))
        of_places = localisation_losses(self._place_head, feature_map, *wanted)
        return of_labels, self._settings.localisation * of_places


def label_losses(logits: Tensor, targets: Tensor, class_weights: Tensor, smoothing: float) -> Tensor:
    """Return the class-weighted cross entropy `[n]` of `logits` `[n, 1]` against label-smoothed `targets`."""
    targets = targets.to(logits.device)
    smoothed = targets * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits.squeeze(1), smoothed, reduction="none")
    return loss * class_weights.to(logits.device)[targets]


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
