from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fracray.config import Config
from fracray.fusion.rows import Rows

FOLDS = 4
WORDS = ["cortex", "intact", "step", "line", "swelling", "radius"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks as small as these only wait for each other on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def configured(unfrozen: str) -> Config:
    return Config.model_validate(
        {
            "vision": {
                "preprocessing": {"size": 32},
                "backbone": {"weights": "random"},
                "finetune": {"unfrozen": unfrozen, "epochs": 1, "batch_size": 16, "learning_rate": 0.01},
                "device": "cpu",
            }
        }
    )


def make_rows(n: int = 48, seed: int = 0, telling: float = 0.7) -> Rows:
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(n) % 3 == 0).astype(np.int8)
    pixels = rng.integers(0, 200, (n, 32, 32), dtype=np.uint8)
    pixels[labels == 1, 10:20, 10:20] += 50
    captions = [
        " ".join([*rng.choice(WORDS, 4), *(["displaced"] if label and rng.random() < telling else [])])
        for label in labels
    ]
    names = [f"{number:064x}" for number in range(n)]
    return Rows(names, names, labels, names, (np.arange(n) % FOLDS).astype(np.int16), pixels, captions)
