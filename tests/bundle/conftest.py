from pathlib import Path

import numpy as np
import pytest

from fracray.bundle.bundle import save_bundle
from fracray.config import Config, load_config
from fracray.fusion.classifier import SYSTEMS, fit_classifier
from fracray.fusion.training import Pipeline
from fracray.vision.backbone import load_backbone

NOTE = "Made-up rows: these figures say nothing."


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config(
        overrides=[
            "captions.captioner=fake",
            "vision.backbone.weights=random",
            "vision.preprocessing.size=64",
        ]
    )


@pytest.fixture(scope="session")
def pipeline(config: Config) -> Pipeline:
    backbone = load_backbone(config.vision.backbone)
    numbers = np.random.default_rng(5).normal(size=(20, backbone.embedding_dim))
    labels = np.tile([0, 1], 10).astype(np.int8)
    captions = ["Fracture of the shaft." if label else "No fracture seen." for label in labels]
    classifiers = {
        name: fit_classifier(name, numbers, captions, labels, config.fusion, 7) for name in SYSTEMS
    }
    return Pipeline(backbone, classifiers)


@pytest.fixture
def bundle_folder(tmp_path: Path, pipeline: Pipeline, config: Config) -> Path:
    folder = tmp_path / "bundle"
    save_bundle(folder, pipeline, config, training_ids=["b" * 64, "a" * 64], data_note=NOTE)
    return folder
