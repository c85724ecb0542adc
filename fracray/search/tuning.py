"""One stage of the search as one Ray Tune run over an Optuna study.

The study's file is the only memory. Ray Tune's own experiment snapshot is written at intervals and so may lag
behind the study; it is not used, and going on means asking the study for the trials that are still missing.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

from fracray.config import SearchSettings
from fracray.errors import ClusterError, SearchError
from fracray.search.study import finished, note_failure, open_study

SCORE = "score"
"""Key of a trial's score so far in its results."""
FINAL = "final"
"""Key that is true in the result of a trial that ran to its end."""

StageName = Literal["vision", "fusion"]
OnTrial = Callable[[StageName, int, int, float | None], None]
"""Called with stage, finished trials, asked trials and the best score so far (None: none yet)."""

_QUIET = {
    # No result files per trial, no snapshots of an experiment that is never restored from them.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # Errors are kept in the study; no tables, no notes on Tune's own migration.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # A relative path of weights means the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
    # Ctrl-C ends the search, and not only the run of one stage.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


@dataclass(frozen=True)
class Stage:
    """What one Tune run searches.

    `trainable` makes the class whose trials report `SCORE` and, in their last result, `FINAL`; it is called
    once Ray runs, and only if trials are missing. `steps` is how many results a trial gives if nothing stops
    it. The points `first` are tried before Optuna's own.
    """

    name: StageName
    suggest: Callable[[optuna.Trial], None]
    first: Sequence[dict[str, Any]]
    direction: Literal["minimize", "maximize"]
    trainable: Callable[[], Any]
    steps: int


def run_stage(
    stage: Stage,
    trials: int,
    storage: RDBStorage,
    folder: Path,
    settings: SearchSettings,
    seed: int,
    on_trial: OnTrial | None,
) -> optuna.Study:
    """Run `stage` until its study holds `trials` finished trials; return the study.

    Ray must have been started. What ASHA knew of earlier trials is lost when a stage is resumed: at worst it
    stops fewer. Raises `SearchError` if the run ends with trials missing.
    """
    study = open_study(storage, stage.name, stage.direction, stage.first[:trials], seed)
    missing = trials - len(finished(study))
    if missing <= 0:
        return study
    mode = "min" if stage.direction == "minimize" else "max"
    search = _StudySearch(
        stage.suggest, metric=SCORE, mode=mode, sampler=study.sampler, study_name=stage.name, storage=storage
    )
    with quiet_tune():
        tune.Tuner(
            tune.with_resources(
                stage.trainable(), {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial}
            ),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=_scheduler(stage.steps),
                metric=SCORE,
                mode=mode,
                num_samples=missing,
                max_concurrent_trials=settings.concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=stage.name,
                storage_path=str((folder / "ray").resolve()),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[_Progress(stage.name, study, search, trials, on_trial)],
            ),
        ).fit()
    left = trials - len(finished(study))
    if left > 0:
        raise SearchError(f"search stage '{stage.name}': {left} trials are missing; go on with `--resume`")
    return study


def check_cluster(settings: SearchSettings, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise `ClusterError` unless `settings.concurrent` trials fit the cluster at the same time.

    `nodes` hold Ray's resource names and amounts of each machine; a trial never spans two of them.
    """
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    fit = sum(
        min(int(node.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items() if amount)
        for node in nodes
    )
    if fit < settings.concurrent:
        each = " and ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        remedy = f"search.concurrent={fit}" if fit else "a smaller search.cpus_per_trial or gpus_per_trial"
        raise ClusterError(
            f"search: {settings.concurrent} trials at a time of {each} each do not fit the cluster, "
            f"{fit} do; set {remedy}"
        )


@contextmanager
def quiet_tune() -> Iterator[None]:
    """Keep Ray Tune from tables, snapshots and its own deprecation notes while the context lasts."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _scheduler(steps: int) -> Any:
    # A single fold of some 80 radiographs has an AUROC with a standard error of about 0.05: too little to
    # drop a setting. From the second fold on the lower half is dropped.
    if steps < 3:
        return FIFOScheduler()
    return ASHAScheduler(max_t=steps, grace_period=2, reduction_factor=2)


class _StudySearch(OptunaSearch):  # type: ignore[misc]
    """OptunaSearch that tells a pruned trial from a complete one and leaves remembering to the study."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how a trial ended; without its final result it was pruned or failed."""
        final = result is not None and result.get(FINAL, False)
        if result is not None and not final:
            # Tune passes the result at which it stopped a trial only here.
            self.on_trial_result(trial_id, result)
        super().on_trial_complete(trial_id, result if final else None, error)

    def number_of(self, trial_id: str) -> int:
        """Return the number that the study gave to Tune's trial `trial_id`."""
        return int(self._ot_trials[trial_id].number)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing: a search is resumed from the study."""


class _Progress(tune.Callback):  # type: ignore[misc]
    """Keeps the reasons of failures and tells the caller about every finished trial."""

    def __init__(
        self,
        stage: StageName,
        study: optuna.Study,
        search: _StudySearch,
        trials: int,
        on_trial: OnTrial | None,
    ) -> None:
        self._stage: StageName = stage
        self._study, self._search, self._trials, self._on_trial = study, search, trials, on_trial

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report progress."""
        self._report()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep the reason, report progress."""
        # A traceback's last line names the error. Ray copies the file elsewhere only later.
        lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()
        note_failure(self._study, self._search.number_of(trial.trial_id), lines[-1])
        self._report()

    def _report(self) -> None:
        if self._on_trial is not None:
            complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            best = self._study.best_value if complete else None
            self._on_trial(self._stage, len(finished(self._study)), self._trials, best)
