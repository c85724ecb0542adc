"""Does Ray Tune make cheap trials expensive? Fusion trials in Ray Tune against plain Optuna in one process.

Both do the same work: made-up rows, four inner folds, the same space, sampler, seed and first points, and a
study in an SQLite file. Ray Tune's time holds everything `run_stage` does (start of its actors, their
imports, sharing the data, end of the run) but not `ray.init`, which a process pays once and which is given
apart; plain Optuna's holds no imports. One trial at a time, as in a search on so few rows. The bar is a ratio
of 3.

    python benchmarks/search.py [--trials 100] [--rows 336] [--dimensions 512]
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ray import tune

from fracray.config import Config
from fracray.extraction.cluster import connected
from fracray.fusion.rows import Rows
from fracray.fusion.training import FoldEmbeddings
from fracray.search.scoring import fused_log_loss
from fracray.search.space import PAPER_FUSION, apply, point_of, suggest_fusion
from fracray.search.study import best_trial, open_storage, open_study, quiet_optuna
from fracray.search.trials import FusionTrial
from fracray.search.tuning import Stage, run_stage

FOLDS = (1, 2, 3, 4)
WORDS = [
    *("cortex", "intact", "fracture", "line", "oblique", "transverse", "spiral", "displaced", "angulated"),
    *("swelling", "soft", "tissue", "joint", "effusion", "distal", "proximal", "shaft", "radius", "ulna"),
    *("femur", "tibia", "fibula", "humerus", "wrist", "alignment", "normal", "acute", "lucency", "callus"),
]

Outcome = tuple[float, float]
"""Seconds, and the best score."""


def made_up(rows: int, dimensions: int) -> tuple[Rows, FoldEmbeddings]:
    """Return rows whose embeddings and captions of 30 words say something of their labels."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < 0.31).astype(np.int8)
    folds = rng.permutation(np.arange(rows) % len(FOLDS) + 1).astype(np.int16)
    captions = [
        " ".join([*rng.choice(WORDS, 30), "break" if label and rng.random() < 0.7 else "clear"])
        for label in labels
    ]
    pixels = np.zeros((rows, 1, 1), np.uint8)
    names = [str(row) for row in range(rows)]
    embeddings = {
        fold: (rng.normal(size=(rows, dimensions)) + 0.08 * labels[:, None]).astype(np.float32)
        for fold in FOLDS
    }
    return Rows(names, names, labels, names, folds, pixels, captions), FoldEmbeddings(embeddings)


def plain(rows: Rows, embeddings: FoldEmbeddings, config: Config, folder: Path, trials: int) -> Outcome:
    """Run Optuna alone."""
    began = time.perf_counter()
    first = [PAPER_FUSION, point_of(config.fusion)]
    study = open_study(open_storage(folder), "fusion", "minimize", first, config.seed)
    for _ in range(trials):
        trial = study.ask()
        suggest_fusion(trial)
        study.tell(trial, fused_log_loss(rows, embeddings, apply(config.fusion, trial.params), config.seed))
    return time.perf_counter() - began, float(study.best_value)


def tuned(rows: Rows, embeddings: FoldEmbeddings, config: Config, folder: Path, trials: int) -> Outcome:
    """Run the search's own fusion stage."""
    began = time.perf_counter()
    stage = Stage(
        name="fusion",
        suggest=suggest_fusion,
        first=[PAPER_FUSION, point_of(config.fusion)],
        direction="minimize",
        trainable=lambda: tune.with_parameters(
            FusionTrial, rows=rows, embeddings=embeddings, settings=config
        ),
        steps=1,
    )
    study = run_stage(stage, trials, open_storage(folder), folder, config.search, config.seed, None)
    return time.perf_counter() - began, float(best_trial(study).value)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rows", type=int, default=336)
    parser.add_argument("--dimensions", type=int, default=512)
    asked = parser.parse_args()
    config = Config.model_validate({"search": {"concurrent": 1}})
    rows, embeddings = made_up(asked.rows, asked.dimensions)
    fused_log_loss(rows, embeddings, config.fusion, config.seed)
    with tempfile.TemporaryDirectory() as folder, quiet_optuna():
        (Path(folder) / "plain").mkdir()
        alone, alone_best = plain(rows, embeddings, config, Path(folder) / "plain", asked.trials)
        began = time.perf_counter()
        (Path(folder) / "tune").mkdir()
        with connected():
            start = time.perf_counter() - began
            ours, ours_best = tuned(rows, embeddings, config, Path(folder) / "tune", asked.trials)
    result = {
        **vars(asked),
        "optuna_seconds": round(alone, 2),
        "tune_seconds": round(ours, 2),
        "ratio": round(ours / alone, 2),
        "ray_init_seconds": round(start, 2),
        "optuna_best_log_loss": round(alone_best, 4),
        "tune_best_log_loss": round(ours_best, 4),
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("ray", "optuna", "scikit-learn", "numpy")},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
