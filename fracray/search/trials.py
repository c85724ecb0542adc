"""What Ray runs for a search: a trial of either stage, in an actor that goes on to the next one."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

from fracray.config import Config
from fracray.fusion.rows import Rows
from fracray.fusion.training import FoldEmbeddings, fine_tuning, fold_embeddings, iterate_fold_embeddings
from fracray.search.scoring import fused_log_loss, image_auroc
from fracray.search.space import apply
from fracray.search.tuning import FINAL, SCORE


class VisionTrial(tune.Trainable):  # type: ignore[misc]
    """Fine-tunes fold by fold; a step is a fold, the score the mean AUROC of the folds so far.

    The mean over folds and not one AUROC over all rows: logits of different networks share no scale.
    """

    def setup(self, config: dict[str, Any], rows: Rows, settings: Config) -> None:
        """Take the shared `rows` and `settings`; once per actor."""
        use_own_cpus(settings)
        self._rows, self._settings = rows, settings
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin a trial with the point `new_config`."""
        settings = self._settings.vision
        finetune = apply(settings.finetune, new_config)
        self._folds: Iterator[tuple[int, NDArray[np.float32]]] = iterate_fold_embeddings(
            self._rows,
            fine_tuning(self._rows, settings.model_copy(update={"finetune": finetune}), self._settings.seed),
        )
        self._aurocs: list[float] = []
        return True

    def step(self) -> dict[str, Any]:
        """Fine-tune and score the next fold."""
        fold, embeddings = next(self._folds)
        settings = self._settings
        self._aurocs.append(image_auroc(self._rows, fold, embeddings, settings.fusion, settings.seed))
        last = len(self._aurocs) == len(np.unique(self._rows.folds))
        return {SCORE: float(np.mean(self._aurocs)), FINAL: last, "done": last}


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """Fits and scores the fused classifier over all inner folds in one step of some 0.1 s."""

    def setup(self, config: dict[str, Any], rows: Rows, embeddings: FoldEmbeddings, settings: Config) -> None:
        """Take what all trials share; once per actor."""
        use_own_cpus(settings)
        self._rows, self._embeddings, self._settings = rows, embeddings, settings
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin a trial with the point `new_config`."""
        self._fusion = apply(self._settings.fusion, new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Score the point."""
        score = fused_log_loss(self._rows, self._embeddings, self._fusion, self._settings.seed)
        return {SCORE: score, FINAL: True, "done": True}


def embed_folds(rows: Rows, settings: Config) -> FoldEmbeddings:
    """Return the fold embeddings of `settings.vision`, computed in a Ray task with a trial's resources."""
    use_own_cpus(settings)
    return fold_embeddings(rows, fine_tuning(rows, settings.vision, settings.seed))


def use_own_cpus(settings: Config) -> None:
    """Keep this worker's threads to the CPUs that Ray gave it."""
    # Ray does the same for OpenMP and BLAS, through OMP_NUM_THREADS, before a worker starts.
    torch.set_num_threads(max(1, int(settings.search.cpus_per_trial)))
    # Arrays shared through Ray's object store are read-only, and nothing here writes to them.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writ(e)?able")
