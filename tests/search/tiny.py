"""Rows and settings on which a whole search takes seconds."""

import numpy as np

from fracray.config import Config
from fracray.fusion.rows import Rows


def tiny_rows(folds: tuple[int, ...] = (1, 2, 3)) -> Rows:
    """Return 60 rows of 32 x 32 pixels: a dark line and the word 'gap' come with a fracture, mostly."""
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 2
    pixels = rng.integers(90, 160, (60, 32, 32))
    pixels[(labels == 1) ^ (rng.random(60) < 0.1), 14:18] -= 70
    noisy = (labels == 1) ^ (rng.random(60) < 0.2)
    captions = [f"bone {'gap' if seen else 'intact'} {rng.choice(['left', 'right'])}" for seen in noisy]
    return Rows(
        image_ids=[f"{row:064d}" for row in range(60)],
        uris=[f"{row}.png" for row in range(60)],
        labels=labels.astype(np.int8),
        groups=[str(row) for row in range(60)],
        folds=np.array([folds[row // 2 % len(folds)] for row in range(60)], np.int16),
        pixels=pixels.astype(np.uint8),
        captions=captions,
    )


def tiny_config(**search: float) -> Config:
    """Return settings for `tiny_rows`, with the given settings of the search."""
    return Config.model_validate(
        {
            "vision": {
                "preprocessing": {"size": 32},
                "backbone": {"architecture": "resnet10", "weights": "random"},
                "finetune": {"epochs": 1},
                "device": "cpu",
            },
            "search": {"vision_trials": 2, "fusion_trials": 8, "concurrent": 1} | search,
        }
    )
