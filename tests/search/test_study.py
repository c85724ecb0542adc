from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from fracray.errors import SearchError
from fracray.search.study import best_trial, finished, note_failure, open_storage, open_study, storage_url


def suggest_x(trial: optuna.Trial) -> float:
    return float(trial.suggest_float("x", 0, 1))


def test_a_running_trial_of_a_cut_off_study_runs_again_under_its_number_and_values(tmp_path: Path) -> None:
    cut_off = open_study(open_storage(tmp_path), "vision", "maximize", [], seed=1)
    done, running = cut_off.ask(), cut_off.ask()
    suggest_x(done)
    x = suggest_x(running)
    running.report(0.4, 1)
    cut_off.tell(done, 0.5)

    study = open_study(open_storage(tmp_path), "vision", "maximize", [], seed=1)
    again = study.ask()
    assert (again.number, suggest_x(again)) == (running.number, x)
    study.tell(again, 0.6)
    assert [trial.number for trial in finished(study)] == [0, 1]
    assert study.ask().number == 2


def test_a_reopened_study_does_not_draw_its_first_points_again(tmp_path: Path) -> None:
    drawn = []
    for _ in range(3):
        study = open_study(open_storage(tmp_path), "vision", "maximize", [], seed=1)
        trial = study.ask()
        drawn.append(suggest_x(trial))
        study.tell(trial, 0.0)
    assert len(set(drawn)) == 3


def test_the_same_seed_draws_the_same_points(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        study = open_study(open_storage(tmp_path / name), "vision", "maximize", [], seed=1)
        study.optimize(suggest_x, n_trials=15)
        drawn.append([trial.params["x"] for trial in study.trials])
    assert drawn[0] == drawn[1]


def test_the_first_points_are_tried_once_even_when_the_study_is_reopened(tmp_path: Path) -> None:
    first = [{"x": 0.25}, {"x": 0.75}, {"x": 0.25}]
    for _ in range(2):
        study = open_study(open_storage(tmp_path), "fusion", "minimize", first, seed=1)
        study.optimize(suggest_x, n_trials=2)
    reread = optuna.load_study(study_name="fusion", storage=storage_url(tmp_path))
    xs = [trial.params["x"] for trial in reread.trials]
    assert xs[:2] == [0.25, 0.75]
    assert len(set(xs)) == 4


def test_a_study_in_which_all_failed_names_the_first_reason(tmp_path: Path) -> None:
    study = open_study(open_storage(tmp_path), "fusion", "minimize", [], seed=1)
    for number in range(12):
        trial = study.ask()
        study.tell(trial, state=TrialState.FAIL)
        note_failure(study, trial.number, f"reason {number}")
    with pytest.raises(SearchError, match=r"none of 12 .* reason 0;"):
        best_trial(study)
