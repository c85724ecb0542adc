import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from optuna.trial import TrialState
from ray import tune

from fracray.config import SearchSettings
from fracray.errors import ClusterError
from fracray.search.study import best_trial, finished, open_storage
from fracray.search.tuning import Stage, check_cluster, run_stage


class Quadratic(tune.Trainable):  # type: ignore[misc]
    """Gives -(x - 3)^2 four times; the point 7 cannot be evaluated. Leaves a file for each process."""

    def setup(self, config: dict[str, Any], processes: Path) -> None:
        (processes / str(os.getpid())).touch()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._x = new_config["x"]
        return True

    def step(self) -> dict[str, Any]:
        if self._x == 7:
            raise ValueError("seven will not do")
        last = self.iteration == 3
        return {"score": -((self._x - 3) ** 2), "final": last, "done": last}


def suggest_x(trial: optuna.Trial) -> None:
    trial.suggest_float("x", 0, 10)


def quadratic(folder: Path, *first: float) -> Stage:
    processes = folder / "processes"
    processes.mkdir(exist_ok=True)
    return Stage(
        name="vision",
        suggest=suggest_x,
        first=[{"x": x} for x in first],
        direction="maximize",
        trainable=lambda: tune.with_parameters(Quadratic, processes=processes),
        steps=4,
    )


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_failed_and_pruned_trials_count_and_the_rest_goes_on(tmp_path: Path) -> None:
    events: list[tuple[str, int, int, float | None]] = []
    study = run_stage(
        quadratic(tmp_path, 3, 7),
        12,
        open_storage(tmp_path),
        tmp_path,
        SearchSettings(concurrent=2, cpus_per_trial=0.5),
        seed=1,
        on_trial=lambda *event: events.append(event),
    )
    assert len(finished(study)) == 12
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [trial.params["x"] for trial in failed] == [7]
    assert "ValueError: seven will not do" in study.user_attrs["failure of trial 1"]
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    assert {len(trial.intermediate_values) for trial in pruned} == {2}
    assert best_trial(study).params == {"x": 3}
    assert [event[1] for event in events] == list(range(1, 13))
    assert events[-1] == ("vision", 12, 12, 0)
    # Nothing of the pruned ones counts as a result.
    assert all(
        trial.value == -((trial.params["x"] - 3) ** 2) for trial in study.trials if trial.value is not None
    )


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_more_trials_can_be_asked_of_a_finished_stage(tmp_path: Path) -> None:
    settings = SearchSettings(concurrent=1, cpus_per_trial=0.5)
    storage = open_storage(tmp_path)
    run_stage(quadratic(tmp_path, 3), 3, storage, tmp_path, settings, seed=1, on_trial=None)
    study = run_stage(quadratic(tmp_path, 3), 5, storage, tmp_path, settings, seed=1, on_trial=None)
    # One process a run, not one a trial.
    assert len(list((tmp_path / "processes").iterdir())) == 2
    xs = [trial.params["x"] for trial in study.trials]
    assert len(set(xs)) == 5


@pytest.mark.parametrize(
    ("nodes", "settings", "fit"),
    [
        ([{"CPU": 2.0}], {"cpus_per_trial": 1}, 2),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"cpus_per_trial": 2}, 2),
        ([{"CPU": 0.3}], {"cpus_per_trial": 0.1}, 3),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0}], {"cpus_per_trial": 1, "gpus_per_trial": 0.5}, 2),
        ([{"CPU": 8.0}], {"cpus_per_trial": 1, "gpus_per_trial": 1}, 0),
    ],
)
def test_as_many_trials_at_a_time_as_fit_the_nodes(
    nodes: list[dict[str, float]], settings: dict[str, float], fit: int
) -> None:
    if fit:
        check_cluster(SearchSettings.model_validate(settings | {"concurrent": fit}), nodes)
    remedy = f"search.concurrent={fit}" if fit else "cpus_per_trial"
    with pytest.raises(ClusterError, match=remedy):
        check_cluster(SearchSettings.model_validate(settings | {"concurrent": fit + 1}), nodes)
