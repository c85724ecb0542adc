"""What is storing the frozen stages' activations worth? Seconds per epoch, with them and in a plain loop.

For each depth the same training runs twice: `learn` with stored activations, and `learn` that computes
everything afresh in each step, as a plain loop does. Seed, batches, augmentations, optimiser and validation
are the same, so the losses must agree. The bars, from the second epoch on: 2 times as fast with layer4
unfrozen, 20 times with the head alone. Validation, once per epoch, is part of the time. Phantoms, rendered by
the script; random weights, as speed does not depend on them.

    python benchmarks/finetune.py [--images 32] [--epochs 3] [--depths fc layer4 layer3+4 all]
"""

import argparse
import copy
import json
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fracray.config import BackboneSettings, FinetuneSettings, Preprocessing
from fracray.radiographs.phantoms import make_phantom
from fracray.vision.backbone import Backbone, load_backbone
from fracray.vision.device import choose_device
from fracray.vision.finetune import EpochReport, learn
from fracray.vision.frozen import FrozenStages, split
from fracray.vision.learner import Lesson
from fracray.vision.preprocess import preprocess

FIRST_SEED = 4_920_000
BARS = {"fc": 20.0, "layer4": 2.0}
DEPTHS = ("fc", "layer4", "layer3+4", "all")


def phantoms(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Return `count` preprocessed phantoms, every third one fractured, and their labels."""
    labels = (np.arange(count) % 3 == 0).astype(np.int8)
    pixels = [
        preprocess(
            make_phantom(FIRST_SEED + row, fractured=bool(label), long_side=336).pixels, Preprocessing()
        )
        for row, label in enumerate(labels)
    ]
    return np.stack(pixels), labels


def train(
    backbone: Backbone,
    settings: FinetuneSettings,
    training: tuple[NDArray[np.uint8], NDArray[np.int8]],
    validation: tuple[NDArray[np.uint8], NDArray[np.int8]],
) -> tuple[list[float], list[EpochReport]]:
    """Return the seconds of each epoch, the first with all that precedes it, and its report."""
    place = choose_device("auto")
    moments, reports = [time.perf_counter()], []

    def note(report: EpochReport) -> None:
        if place.type == "cuda":
            torch.cuda.synchronize()
        moments.append(time.perf_counter())
        reports.append(report)

    tuned = copy.deepcopy(backbone).to(place)
    frozen = FrozenStages(tuned, training[0], settings, 7, place)
    checked = FrozenStages(tuned, validation[0], settings, 7, place), validation[1]
    stages = split(tuned, settings.unfrozen)[1]
    lesson = Lesson(frozen, np.arange(len(training[0])), training[1], checked)
    learn(stages, lesson, settings, 7, note)
    return list(np.diff(moments)), reports


def compare(
    backbone: Backbone,
    settings: FinetuneSettings,
    training: tuple[NDArray[np.uint8], NDArray[np.int8]],
    validation: tuple[NDArray[np.uint8], NDArray[np.int8]],
) -> dict[str, Any]:
    """Train both ways and return what is printed about one depth."""
    stored, with_store = train(backbone, settings, training, validation)
    uncached = settings.model_copy(update={"cache_gb": 0.0})
    plain, without = train(backbone, uncached, training, validation)
    epochs = min(len(stored), len(plain))
    # The median of the later epochs; the plain loop's first epoch is as long as its others.
    ratio = float(np.median(plain[1:]) / np.median(stored[1:])) if epochs > 1 else None
    return {
        "stored_seconds": [round(seconds, 2) for seconds in stored],
        "plain_seconds": [round(seconds, 2) for seconds in plain],
        "times_as_fast_from_second_epoch": None if ratio is None else round(ratio, 2),
        "times_as_fast_overall": round(sum(plain[:epochs]) / sum(stored[:epochs]), 2),
        "bar": BARS.get(settings.unfrozen),
        "stored_validation_losses": [_rounded(report) for report in with_store],
        "plain_validation_losses": [_rounded(report) for report in without],
    }


def _rounded(report: EpochReport) -> float | None:
    return None if report.validation_loss is None else round(report.validation_loss, 6)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--depths", nargs="+", choices=DEPTHS, default=list(DEPTHS))
    asked = parser.parse_args()
    chosen = BackboneSettings.model_validate({"architecture": asked.architecture, "weights": "random"})
    backbone = load_backbone(chosen)
    pixels, labels = phantoms(asked.images + max(4, asked.images // 4))
    training, validation = (
        (pixels[: asked.images], labels[: asked.images]),
        (pixels[asked.images :], labels[asked.images :]),
    )
    depths = {}
    for depth in asked.depths:
        # A low rate: random weights diverge at the default one, and a comparison of losses needs finite ones.
        settings = FinetuneSettings(
            unfrozen=depth, epochs=asked.epochs, batch_size=asked.batch_size, learning_rate=1e-5
        )
        depths[depth] = compare(backbone, settings, training, validation)
    result = {
        **vars(asked),
        "depths": depths,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy")},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
