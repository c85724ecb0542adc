"""Networks fine-tuned on different rows of the same radiographs, the frozen stages computed once for all."""

import copy
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fracray.config import FinetuneSettings
from fracray.vision.backbone import Backbone, channel_statistics
from fracray.vision.device import Precision, choose_device
from fracray.vision.embed import embed_with_statistics
from fracray.vision.finetune import embed_rows, learn
from fracray.vision.frozen import FrozenStages, split
from fracray.vision.learner import Lesson
from fracray.vision.localisation import FracturePlaces


class FineTuning:
    """Fine-tunes one backbone on any rows of `pixels` uint8 `[n, s, s]` with `labels` `[n]`; embeds all.

    What frozen stages make of a radiograph serves every network that is made. `learned_from` are the same
    radiographs at another size, uint8 `[n, r, r]`; None: `pixels`. Learning takes time with the area, and a
    network may well answer on larger pictures than it learned from (Touvron et al., "Fixing the train-test
    resolution discrepancy", 2019). `boxes`, in pixels of what is learned from, say where the fractures are,
    as `FracturePlaces` takes them; None: nobody knows. `batch_size` and `precision` are those of the
    embeddings.
    """

    def __init__(
        self,
        backbone: Backbone,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int8],
        settings: FinetuneSettings,
        seed: int,
        *,
        learned_from: NDArray[np.uint8] | None = None,
        boxes: Sequence[NDArray[np.float32]] | None = None,
        batch_size: int = 32,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> None:
        self._pixels, self._labels = pixels, labels
        self._settings, self._seed = settings, seed
        learned_from = pixels if learned_from is None else learned_from
        self._places = None if boxes is None else FracturePlaces(boxes, labels, learned_from.shape[-1])
        self._batch_size, self._device, self._precision = batch_size, device, precision
        self._frozen: FrozenStages | None = None
        self._whole: FrozenStages | None = None
        self._shared: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._pretrained = backbone
        if settings.unfrozen not in ("none", "fc"):
            place = choose_device(device)
            self._pretrained = copy.deepcopy(backbone).to(place)
            self._frozen = FrozenStages(self._pretrained, learned_from, settings, seed, place)
            self._whole = self._frozen
            if learned_from is not pixels:
                plain = settings.model_copy(update={"augmentation": 0.0})
                self._whole = FrozenStages(self._pretrained, pixels, plain, seed, place)

    def on(self, rows: NDArray[np.intp]) -> Backbone:
        """Return the backbone fine-tuned on `rows`, as by `finetune` without validation.

        Where the settings leave the backbone as it is, it is the pretrained one itself. Raises `UsageError`
        when the rows hold one class only.
        """
        if self._frozen is None:
            return self._pretrained
        tuned = copy.deepcopy(self._pretrained)
        lesson = Lesson(self._frozen, rows, self._labels[rows], places=self._places)
        learn(split(tuned, self._settings.unfrozen)[1], lesson, self._settings, self._seed)
        return tuned.eval().requires_grad_(False)

    def embed(self, tuned: Backbone) -> NDArray[np.float32]:
        """Return the embeddings `[n, d]` of all radiographs by a network that `on` returned."""
        if self._whole is None:
            return self._of_pretrained()[0]
        stages = split(tuned, self._settings.unfrozen)[1].to(self._whole.device)
        rows, draws = np.arange(len(self._pixels)), (0, -1) if tuned.mirror else (0,)
        of_draws = [embed_rows(stages, self._whole, rows, self._precision, draw=draw) for draw in draws]
        embeddings: NDArray[np.float32] = tuned.kept(torch.stack(of_draws).mean(dim=0)).numpy()
        return embeddings

    def statistics(self, tuned: Backbone) -> NDArray[np.float32]:
        """Return the channel statistics `[n, 2 c]` of all radiographs before the last stage of `tuned`."""
        if self._whole is None:
            return self._of_pretrained()[1]
        before_last = split(tuned, self._settings.unfrozen)[1][:-1].to(self._whole.device)
        rows = np.arange(len(self._pixels))
        numbers = embed_rows(before_last, self._whole, rows, self._precision, channel_statistics)
        statistics: NDArray[np.float32] = numbers.numpy()
        return statistics

    def _of_pretrained(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._shared is None:
            self._shared = embed_with_statistics(
                self._pretrained, self._pixels, self._batch_size, self._device, self._precision
            )
        return self._shared


def iterate_by_folds(
    training: FineTuning, folds: NDArray[np.integer], only: Collection[int] | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each value f of `folds` `[n]` with embeddings `[n, d]` of all rows, made without fold f's labels.

    The network of fold f is fine-tuned on the rows of all other folds. `only` names the folds to yield; None:
    all. Raises `UsageError` when the other folds of a fold hold one class only.
    """
    for value in np.unique(folds).tolist():
        if only is None or value in only:
            yield value, training.embed(training.on(np.flatnonzero(folds != value)))
