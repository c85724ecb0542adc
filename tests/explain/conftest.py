"""A network that sees: it learned, in seconds, bright squares in noise whose places are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fracray.bundle.bundle import Bundle
from fracray.config import Config, load_config
from fracray.fusion.classifier import SYSTEMS, fit_classifier
from fracray.fusion.familiarity import fit_familiarity
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import Backbone
from fracray.vision.embed import embed_with_statistics
from fracray.vision.normalise import normalise

SIDE, SQUARE = 64, 14


@dataclass(frozen=True)
class Squares:
    """Pictures uint8 [n, 64, 64], labels (1: holds a bright square), boxes [n, 4] (zeros: none)."""

    pixels: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def squares(n: int, seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> Squares:
    """Every second picture holds a bright square; all hold a dark one of the same size somewhere."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 140, (n, *shape))
    labels = np.arange(n) % 2
    boxes = np.zeros((n, 4), int)
    for index in range(n):
        places = rng.integers(0, np.array(shape) - SQUARE, (2, 2))
        for change, (top, left) in zip((-50, 70 * labels[index]), places, strict=True):
            pixels[index, top : top + SQUARE, left : left + SQUARE] += change
        if labels[index]:
            boxes[index] = left, top, left + SQUARE, top + SQUARE
    return Squares(pixels.astype(np.uint8), labels.astype(np.int8), boxes)


def small_backbone(seed: int) -> Backbone:
    """A chain of four convolutions, 32 numbers, one place per 8 pixels; random weights."""
    torch.manual_seed(seed)
    backbone = Backbone("resnet10")
    widths = (1, 8, 16, 32, 32)
    strides = (2, 2, 2, 1)
    stages: list[nn.Module] = []
    for before, after, stride in zip(widths, widths[1:], strides, strict=False):
        stages += [nn.Conv2d(before, after, 3, stride, 1), nn.ReLU()]
    backbone.stages = nn.Sequential(*stages)
    backbone.embedding_dim, backbone.stride = 32, 8
    return backbone.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def seeing() -> Backbone:
    with torch.random.fork_rng(devices=[]):
        backbone = small_backbone(0)
        head = nn.Linear(32, 1)
        backbone.requires_grad_(True)
        optimiser = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 3e-3)
        for step in range(150):
            batch = squares(32, 1000 + step)
            loss = functional.binary_cross_entropy_with_logits(
                head(backbone(normalise(batch.pixels)))[:, 0], torch.tensor(batch.labels).float()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    backbone.zero_grad()
    return backbone.requires_grad_(False)


@pytest.fixture(scope="session")
def pipeline(seeing: Backbone) -> Pipeline:
    """The seeing network and classifiers of its embeddings and of captions that know half of the answers."""
    shown = squares(200, 7)
    numbers, statistics = embed_with_statistics(seeing, shown.pixels, 64, "cpu")
    captions = [
        "Bright square." if label and index % 4 == 1 else "Nothing seen."
        for index, label in enumerate(shown.labels)
    ]
    fusion = load_config().fusion
    fitted = {
        name: fit_classifier(name, numbers, captions, shown.labels, fusion, 7).with_calibration(0.8, 0.1, 0.5)
        for name in SYSTEMS
    }
    return Pipeline(seeing, fitted, fit_familiarity(statistics, np.arange(200) % 4))


def bundle_of(pipeline: Pipeline, *overrides: str) -> Bundle:
    config: Config = load_config(overrides=[f"vision.preprocessing.size={SIDE}", *overrides])
    return Bundle("0" * 16, Path(), config, pipeline, frozenset(), "phantoms", "Squares, not patients.", None)
