"""A bundle fitted on made-up pictures and captions, and rows that it never saw."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from fracray.bundle.bundle import Bundle
from fracray.config import Config, FusionSettings
from fracray.fusion.classifier import SYSTEMS, fit_classifier
from fracray.fusion.familiarity import fit_familiarity
from fracray.fusion.rows import Rows
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import Backbone
from fracray.vision.embed import embed

SIZE = 32
NOTE = "Made-up pictures: these figures say nothing about patients."
CONFIG = Config.model_validate(
    {"vision": {"preprocessing": {"size": SIZE}, "device": "cpu"}, "evaluation": {"bootstrap": 200}}
)
CAPTIONS = {
    1: "Bones: cortical step of the {place} radius.\nImpression: {sure}fracture of the {place} radius.",
    0: "Bones: intact cortex of the {place} radius.\nImpression: no fracture.",
}


class Blocks(torch.nn.Module):
    """A stand-in for the backbone: mean brightness of 16 blocks."""

    embedding_dim = 16

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        # As a convolution, which lower precision changes.
        side = SIZE // 4
        means = torch.nn.functional.conv2d(x, torch.full((1, 1, side, side), side**-2.0), stride=side)
        return means.flatten(1)[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.feature_map(x).flatten(1)


def make_rows(n: int, seed: int, *, per_group: int = 1, honest: float = 0.8) -> Rows:
    """Every third row is fractured; `honest` is the share of captions that fit the label."""
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(n) % 3 == 0).astype(np.int8)
    pixels = rng.integers(0, 160, (n, SIZE, SIZE), dtype=np.uint8)
    pixels[labels == 1, 8:16, 8:16] += 12
    captions = []
    for label in labels:
        told = int(label) if rng.random() < honest else 1 - int(label)
        sure = "possible " if rng.random() < 0.1 else ""
        captions.append(CAPTIONS[told].format(place=rng.choice(["distal", "proximal"]), sure=sure))
    names = [f"{seed * 100_000 + number:064x}" for number in range(n)]
    groups = [names[number // per_group * per_group] for number in range(n)]
    return Rows(names, names, labels, groups, np.zeros(n, dtype=np.int16), pixels, captions)


@dataclass(frozen=True)
class Study:
    bundle: Bundle
    rows: Rows


@pytest.fixture(scope="session")
def study() -> Study:
    train = make_rows(240, seed=1)
    backbone = cast(Backbone, Blocks())
    embeddings = embed(backbone, train.pixels, 32, "cpu")
    classifiers = {
        system: fit_classifier(system, embeddings, train.captions, train.labels, FusionSettings(), 1)
        for system in SYSTEMS
    }
    bundle = Bundle(
        id="0123456789abcdef",
        folder=Path("bundle"),
        config=CONFIG,
        pipeline=Pipeline(
            backbone,
            {name: c.with_calibration(1, 0, 0.4) for name, c in classifiers.items()},
            fit_familiarity(embeddings, np.arange(len(train)) % 2),
        ),
        training_ids=frozenset(train.image_ids),
        data_kind="phantoms",
        data_note=NOTE,
        figures=None,
    )
    return Study(bundle, make_rows(90, seed=2))


@pytest.fixture(scope="session")
def image_alone(study: Study) -> Study:
    """The bundle and the rows without a captioner."""
    captions = CONFIG.captions.model_copy(update={"captioner": "none"})
    bundle = replace(study.bundle, config=CONFIG.model_copy(update={"captions": captions}))
    return Study(bundle, replace(study.rows, captions=[""] * len(study.rows)))
