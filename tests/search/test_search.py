import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
import pytest
import ray
from optuna.trial import FrozenTrial, TrialState

from fracray.errors import ClusterError, SearchError
from fracray.fusion.training import FoldEmbeddings
from fracray.search.result import SearchResult, load_search
from fracray.search.scoring import fused_log_loss
from fracray.search.search import search
from fracray.search.space import PAPER_FUSION, PAPER_VISION
from tests.search.tiny import tiny_config, tiny_rows


@dataclass(frozen=True)
class Resumed:
    """A search that was killed in its second stage and then resumed."""

    folder: Path
    result: SearchResult
    progress: list[tuple[str, int, int, float | None]]
    vision_ends_before: list[datetime | None]

    def trials(self, stage: str) -> list[FrozenTrial]:
        url = f"sqlite:///{self.folder / 'study.db'}"
        trials: list[FrozenTrial] = optuna.load_study(study_name=stage, storage=url).trials
        return trials


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Resumed:
    folder = tmp_path_factory.mktemp("search") / "s"
    command = [sys.executable, "-m", "tests.search.driver", str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        for line in process.stdout or ():
            if line.split() == ["fusion", "3"]:
                process.kill()
    assert process.returncode == -9
    # Only now, so that two clusters do not share this machine.
    request.getfixturevalue("own_ray")
    progress: list[tuple[str, int, int, float | None]] = []
    before = optuna.load_study(study_name="vision", storage=f"sqlite:///{folder / 'study.db'}").trials
    result = search(
        tiny_rows(), tiny_config(), folder, resume=True, on_trial=lambda *event: progress.append(event)
    )
    return Resumed(folder, result, progress, [trial.datetime_complete for trial in before])


@pytest.mark.ray
def test_a_killed_search_resumes_and_ends_with_each_trial_once(resumed: Resumed) -> None:
    fusion = resumed.trials("fusion")
    assert [trial.number for trial in fusion] == list(range(8))
    assert {trial.state for trial in fusion} == {TrialState.COMPLETE}
    assert len({tuple(trial.params.items()) for trial in fusion}) == 8
    done = [event[1] for event in resumed.progress]
    assert done[0] >= 4
    assert done[-1] == 8


@pytest.mark.ray
def test_a_finished_stage_is_not_repeated(resumed: Resumed) -> None:
    assert {event[0] for event in resumed.progress} == {"fusion"}
    assert [trial.datetime_complete for trial in resumed.trials("vision")] == resumed.vision_ends_before


@pytest.mark.ray
def test_the_papers_setting_is_tried_first_and_the_configured_one_next(resumed: Resumed) -> None:
    vision, fusion = resumed.trials("vision"), resumed.trials("fusion")
    assert vision[0].params == PAPER_VISION
    assert fusion[0].params == PAPER_FUSION
    assert vision[1].params["epochs"] == 1
    assert fusion[1].params == PAPER_FUSION | {"balanced": True}


@pytest.mark.ray
def test_the_best_trials_are_the_result_and_stand_in_its_file(resumed: Resumed) -> None:
    result = resumed.result
    assert load_search(resumed.folder) == result
    vision, fusion = resumed.trials("vision"), resumed.trials("fusion")
    best = min(fusion, key=lambda trial: trial.value or 0.0)
    assert best.params.items() <= result.config.fusion.model_dump().items()
    assert result.fusion_score == best.value
    assert result.vision_score == max(trial.value or 0.0 for trial in vision)
    assert (result.vision_trials.finished, result.fusion_trials.finished) == (2, 8)
    assert (result.fusion_trials.failed, result.fusion_trials.pruned) == (0, 0)
    # Chance is 0.69; the word alone is right in four of five.
    assert best.value is not None
    assert best.value < 0.6


@pytest.mark.ray
def test_the_fusion_score_is_that_of_the_chosen_networks_embeddings(resumed: Resumed) -> None:
    (file,) = resumed.folder.glob("embeddings-*.npz")
    with np.load(file) as stored:
        embeddings = FoldEmbeddings(dict(zip(stored["folds"].tolist(), stored["embeddings"], strict=True)))
    again = fused_log_loss(tiny_rows(), embeddings, resumed.result.config.fusion, tiny_config().seed)
    assert again == pytest.approx(resumed.result.fusion_score, rel=1e-6)


@pytest.mark.ray
def test_a_search_is_not_resumed_with_other_rows_nor_started_over_another(resumed: Resumed) -> None:
    with pytest.raises(SearchError, match="--resume"):
        search(tiny_rows(), tiny_config(), resumed.folder)
    fewer = tiny_rows().take(np.arange(48))
    with pytest.raises(SearchError, match="other rows"):
        search(fewer, tiny_config(), resumed.folder, resume=True)
    for allowed in ({"unfrozen": ("layer4",)}, {"max_epochs": 3}):
        with pytest.raises(SearchError, match="settings"):
            search(tiny_rows(), tiny_config(**allowed), resumed.folder, resume=True)
    boxed = replace(tiny_rows(), boxes=[np.zeros((0, 4), np.float32)] * len(tiny_rows()))
    with pytest.raises(SearchError, match="other rows"):
        search(boxed, tiny_config(), resumed.folder, resume=True)


@pytest.mark.ray
def test_when_all_trials_fail_the_first_reason_is_told(tmp_path: Path, own_ray: None) -> None:
    config = tiny_config(vision_trials=1)
    backbone = config.vision.backbone.model_copy(update={"weights": "nowhere.safetensors"})
    config = config.model_copy(update={"vision": config.vision.model_copy(update={"backbone": backbone})})
    with pytest.raises(SearchError, match=r"none of 1 .*BackboneError: .*nowhere\.safetensors"):
        search(tiny_rows(), config, tmp_path)


@pytest.mark.ray
def test_more_trials_at_a_time_than_the_cluster_holds_are_refused(tmp_path: Path, own_ray: None) -> None:
    with pytest.raises(ClusterError, match=r"search\.concurrent"):
        search(tiny_rows(), tiny_config(concurrent=1000), tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_test_fold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="test fold"):
        search(tiny_rows(folds=(0, 1, 2)), tiny_config(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_folds_that_cannot_be_scored_are_refused(tmp_path: Path) -> None:
    rows = tiny_rows()
    one_sided = rows.take(np.flatnonzero((rows.folds != 2) | (rows.labels == 0)))
    with pytest.raises(SearchError, match="fold 2"):
        search(one_sided, tiny_config(), tmp_path)
    with pytest.raises(SearchError, match="1 inner fold"):
        search(tiny_rows(folds=(1,)), tiny_config(), tmp_path)


def test_without_trials_the_configured_settings_stay(tmp_path: Path) -> None:
    config = tiny_config(vision_trials=0, fusion_trials=0)
    result = search(tiny_rows(), config, tmp_path / "new")
    assert result.config == config
    assert (result.vision_score, result.fusion_score) == (None, None)


def test_a_missing_or_damaged_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="--resume"):
        load_search(tmp_path)
    (tmp_path / "best.json").write_text('{"vision": 3}')
    with pytest.raises(SearchError, match="not a search result"):
        load_search(tmp_path)
