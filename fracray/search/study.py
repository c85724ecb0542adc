"""The Optuna studies behind a search: one SQLite file, one study per stage."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from fracray.errors import SearchError

FILE = "study.db"

_FAILURE = "failure of trial "


def storage_url(folder: Path) -> str:
    """Return the URL of a search folder's studies, as `optuna.load_study` and optuna-dashboard take it."""
    return f"sqlite:///{(folder / FILE).resolve()}"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging every trial for as long as the context lasts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def open_storage(folder: Path) -> RDBStorage:
    """Open, or make, the file that holds a search's studies."""
    return RDBStorage(storage_url(folder), engine_kwargs={"connect_args": {"timeout": 60}})


def open_study(
    storage: RDBStorage, name: str, direction: str, first: Sequence[dict[str, Any]], seed: int
) -> optuna.Study:
    """Open the study `name`, ready to be asked for its next trial.

    A new study gets the points `first` as its first trials. In one that was cut off, trials that were running
    wait again under their own number and with their own values, so that each number is finished once. The
    sampler's seed depends on the trials there are: a resumed search does not draw its first points again.
    """
    study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    identity = storage.get_study_id_from_name(name)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        number = storage.get_trial_id_from_study_id_trial_number(identity, trial.number)
        storage.set_trial_state_values(number, state=TrialState.WAITING)
    for point in first:
        study.enqueue_trial(point, skip_if_exists=True)
    stream = np.random.SeedSequence([seed, len(study.trials)]).generate_state(1)[0]
    study.sampler = _sampler(int(stream))
    return study


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that need no more work: complete, pruned or failed."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=states)
    return trials


def count(study: optuna.Study, state: TrialState) -> int:
    """Return how many trials of `study` are in `state`."""
    return len(study.get_trials(deepcopy=False, states=(state,)))


def note_failure(study: optuna.Study, number: int, reason: str) -> None:
    """Keep why trial `number` failed; Optuna itself keeps no reasons."""
    study.set_user_attr(f"{_FAILURE}{number}", reason)


def best_trial(study: optuna.Study) -> FrozenTrial:
    """Return the best complete trial; raises `SearchError` with the first reason if there is none."""
    if count(study, TrialState.COMPLETE):
        return study.best_trial
    reasons = {
        int(key.removeprefix(_FAILURE)): reason
        for key, reason in study.user_attrs.items()
        if key.startswith(_FAILURE)
    }
    first = reasons[min(reasons)] if reasons else "no trial ran to its end"
    raise SearchError(
        f"search stage '{study.study_name}': none of {len(finished(study))} trials succeeded; the first "
        f"failed with: {first}; mend that and search again in a new folder"
    )
