from pathlib import Path

import numpy as np
import pytest

from fracray.bundle.bundle import save_bundle
from fracray.config import Config, load_config
from fracray.fusion.classifier import SYSTEMS, fit_classifier
from fracray.fusion.familiarity import fit_familiarity
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import load_backbone

NOTE = "Made-up rows: these figures say nothing."


def small_config() -> Config:
    """Return settings with which a bundle is made in a second: fake captioner, random backbone, 64 pixels."""
    return load_config(
        overrides=[
            "captions.captioner=fake",
            "vision.backbone.weights=random",
            "vision.preprocessing.size=64",
        ]
    )


def small_pipeline(config: Config) -> Pipeline:
    """Return a random backbone and classifiers fitted on made-up embeddings and captions."""
    backbone = load_backbone(config.vision.backbone)
    numbers = np.random.default_rng(5).normal(size=(20, backbone.embedding_dim))
    labels = np.tile([0, 1], 10).astype(np.int8)
    captions = ["Fracture of the shaft." if label else "No fracture seen." for label in labels]
    classifiers = {
        name: fit_classifier(name, numbers, captions, labels, config.fusion, 7) for name in SYSTEMS
    }
    statistics = np.random.default_rng(6).normal(size=(20, 2 * 256)).astype(np.float32)
    return Pipeline(backbone, classifiers, fit_familiarity(statistics, np.arange(20) % 2))


@pytest.fixture(scope="session")
def config() -> Config:
    return small_config()


@pytest.fixture(scope="session")
def pipeline(config: Config) -> Pipeline:
    return small_pipeline(config)


@pytest.fixture
def bundle_folder(tmp_path: Path, pipeline: Pipeline, config: Config) -> Path:
    folder = tmp_path / "bundle"
    save_bundle(
        folder, pipeline, config, training_ids=["b" * 64, "a" * 64], data_kind="phantoms", data_note=NOTE
    )
    return folder
