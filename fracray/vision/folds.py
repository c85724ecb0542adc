"""Embeddings for inner folds: one fine-tuned network per fold, the frozen stages computed once for all."""

import copy
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fracray.config import FinetuneSettings
from fracray.vision.backbone import Backbone
from fracray.vision.device import Precision, choose_device
from fracray.vision.embed import embed
from fracray.vision.finetune import embed_rows, learn
from fracray.vision.frozen import FrozenStages, split


def iterate_by_folds(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int8],
    folds: NDArray[np.integer],
    settings: FinetuneSettings,
    seed: int,
    *,
    batch_size: int = 32,
    device: str = "auto",
    precision: Precision = "float32",
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each value f of `folds` `[n]` with embeddings `[n, d]` of all rows, made without fold f's labels.

    The network of fold f is `backbone` fine-tuned on the rows of all other folds, as by `finetune` without
    validation; it embeds all rows, as by `embed`. Where `settings` leave the backbone as it is, all folds
    share one array. Raises `UsageError` when the other folds of a fold hold one class only.
    """
    values = [int(value) for value in np.unique(folds)]
    if settings.unfrozen in ("none", "fc"):
        shared = embed(backbone, pixels, batch_size, device, precision)
        yield from ((value, shared) for value in values)
        return
    place = choose_device(device)
    pretrained = copy.deepcopy(backbone).to(place)
    frozen = FrozenStages(pretrained, pixels, settings, seed, place)
    for value in values:
        stages = copy.deepcopy(split(pretrained, settings.unfrozen)[1])
        rows = np.flatnonzero(folds != value)
        learn(stages, backbone.embedding_dim, frozen, rows, labels[rows], settings, seed)
        yield value, embed_rows(stages, frozen, np.arange(len(pixels)), precision).numpy()


def embed_by_folds(
    backbone: Backbone,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int8],
    folds: NDArray[np.integer],
    settings: FinetuneSettings,
    seed: int,
    *,
    batch_size: int = 32,
    device: str = "auto",
    precision: Precision = "float32",
) -> dict[int, NDArray[np.float32]]:
    """Return what `iterate_by_folds` yields, by fold."""
    return dict(
        iterate_by_folds(
            backbone,
            pixels,
            labels,
            folds,
            settings,
            seed,
            batch_size=batch_size,
            device=device,
            precision=precision,
        )
    )
