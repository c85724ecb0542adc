"""Phantoms rendered once, as the captioner will see them, into arrays that training reads many times."""

import io
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fracray.captions.captioner import prepare
from fracray.radiographs.phantoms import PhantomTruth, make_phantom

log = logging.getLogger(__name__)

FIRST_TRAINING_SEED = 1_000_000
FIRST_WORDS_SEED = 1_500_000
FIRST_HELD_OUT_SEED = 2_000_000
FIRST_CARD_SEED = 2_100_000
"""Demos, tests and benchmarks draw from seeds below one million, so no asset has ever seen their phantoms."""


@dataclass(frozen=True)
class PhantomSet:
    """Prepared phantoms: pixels uint8 [n, s, s], fracture masks packed along the last axis [n, s, s / 8],
    truths."""

    pixels: np.ndarray
    masks: np.ndarray
    truths: list[PhantomTruth]

    def __len__(self) -> int:
        return len(self.truths)


def render_pairs(folder: Path, first_seed: int, pairs: int, size: int, workers: int = 2) -> PhantomSet:
    """Render each seed with and without its fracture (rows 2i and 2i + 1) into `folder`, or reuse what is
    there.

    The two pictures of a pair show the same person in the same view, so that only the fracture tells them
    apart.
    """
    name = f"{first_seed}-{pairs}-{size}"
    truths_file = folder / f"{name}.json"
    shape, packed = (2 * pairs, size, size), (2 * pairs, size, size // 8)
    if not truths_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.memmap(folder / f"{name}.pixels", np.uint8, "w+", shape=shape)
        masks = np.memmap(folder / f"{name}.masks", np.uint8, "w+", shape=packed)
        truths: list[dict[str, Any]] = []
        jobs = [(first_seed + i, size) for i in range(pairs)]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for i, pair in enumerate(pool.map(_render_pair, jobs, chunksize=8)):
                for j, (picture, mask, truth) in enumerate(pair):
                    pixels[2 * i + j], masks[2 * i + j] = picture, mask
                    truths.append(asdict(truth))
        pixels.flush()
        masks.flush()
        truths_file.write_text(json.dumps(truths))
    return PhantomSet(
        np.memmap(folder / f"{name}.pixels", np.uint8, "r", shape=shape),
        np.memmap(folder / f"{name}.masks", np.uint8, "r", shape=packed),
        [_truth(row) for row in json.loads(truths_file.read_text())],
    )


def joined(sets: Sequence[PhantomSet]) -> PhantomSet:
    """Return one set with the rows of all; its arrays are in memory."""
    return PhantomSet(
        np.concatenate([part.pixels for part in sets]),
        np.concatenate([part.masks for part in sets]),
        [truth for part in sets for truth in part.truths],
    )


def share(data: PhantomSet, rank: int, of: int) -> PhantomSet:
    """Return every `of`-th pair of a set, from pair `rank` on."""
    rows = np.arange(len(data)).reshape(-1, 2)[rank::of].ravel()
    return PhantomSet(data.pixels[rows], data.masks[rows], [data.truths[i] for i in rows])


def _truth(row: dict[str, Any]) -> PhantomTruth:
    box = row["box"]
    return PhantomTruth(**{**row, "box": tuple(box) if box else None, "lookalikes": tuple(row["lookalikes"])})


def _render_pair(job: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray, PhantomTruth]]:
    seed, size = job
    rng = np.random.default_rng(seed)
    # Half as wide as files usually are, at a quarter of the time; some at full width.
    long_side = int(rng.integers(420, 520) if rng.random() < 0.8 else rng.integers(520, 1001))
    quality = int(rng.integers(80, 98)) if rng.random() < 0.4 else None
    pair = []
    for fractured in (True, False):
        phantom = make_phantom(seed, fractured=fractured, long_side=long_side)
        picture = prepare(_stored(phantom.pixels, quality), size)
        mask = Image.fromarray(phantom.mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BOX)
        pair.append((picture, np.packbits(np.asarray(mask) > 40, axis=-1), phantom.truth))
    return pair


def _stored(pixels: np.ndarray, jpeg_quality: int | None) -> np.ndarray:
    """The pixels after a file: 8 bits, and JPEG where a quality is given."""
    picture = np.rint(pixels * 255).astype(np.uint8)
    if jpeg_quality is not None:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=jpeg_quality)
        picture = np.asarray(Image.open(buffer))
    return np.asarray(picture, np.float32) / 255
