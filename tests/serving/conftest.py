import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracray.bundle.bundle import save_bundle
from fracray.captions.captioner import prepare
from fracray.captions.choose import open_captioner
from fracray.config import Config, ServingSettings, load_config
from fracray.fusion.rows import Rows
from fracray.fusion.training import fit_pipeline
from fracray.radiographs.phantoms import make_phantom
from fracray.serving.service import Service, serve_bundle
from fracray.vision.preprocess import preprocess

DATA_NOTE = "Phantoms, not patients."
SETTINGS = (
    "captions.captioner=fake",
    "vision.backbone.weights=random",
    "vision.preprocessing.size=64",
    "vision.finetune.unfrozen=none",
    "vision.device=cpu",
    "radiographs.max_bytes=2000000",
    "radiographs.max_pixels=1000000",
)
PORT = 8123


def png(seed: int = 1, *, fractured: bool = True) -> bytes:
    """Return a phantom as a PNG file."""
    pixels = make_phantom(seed, fractured=fractured, long_side=160).pixels
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def small_rows(config: Config, count: int = 24) -> Rows:
    """Return phantoms with the captioner's words, in three folds."""
    captioner = open_captioner(config.captions)
    phantoms = [make_phantom(seed, fractured=seed % 2 == 0, long_side=128) for seed in range(count)]
    captions = captioner.caption([prepare(p.pixels, captioner.image_size) for p in phantoms])
    return Rows(
        image_ids=[f"{seed:064x}" for seed in range(count)],
        uris=[f"phantom-{seed}" for seed in range(count)],
        labels=np.array([p.truth.label for p in phantoms], np.int8),
        groups=[f"g{seed}" for seed in range(count)],
        folds=np.array([1 + seed // 2 % 3 for seed in range(count)], np.int16),
        pixels=np.stack([preprocess(p.pixels, config.vision.preprocessing) for p in phantoms]),
        captions=[caption.text or "" for caption in captions],
    )


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small bundle: fake captioner, random backbone, 64 pixels."""
    return save_small_bundle(tmp_path_factory.mktemp("serving") / "bundle")


@pytest.fixture(scope="session")
def image_alone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small bundle without a captioner."""
    return save_small_bundle(tmp_path_factory.mktemp("serving") / "bundle", "captions.captioner=none")


def save_small_bundle(folder: Path, *overrides: str) -> Path:
    """Fit and write the small bundle into `folder`, and return that."""
    config = load_config(overrides=[*SETTINGS, *overrides])
    rows = small_rows(config)
    save_bundle(
        folder,
        fit_pipeline(rows, config).pipeline,
        config,
        training_ids=rows.image_ids,
        data_kind="phantoms",
        data_note=DATA_NOTE,
    )
    return folder


@pytest.fixture(scope="session")
def service(bundle_folder: Path) -> Iterator[Service]:
    """Return a real Ray Serve with the small bundle, started once for all tests."""
    with serve_bundle(bundle_folder, ServingSettings(port=PORT, max_batch=2, max_queued=8)) as running:
        yield running
