from functools import partial

import optuna
import pytest

from fracray.config import FinetuneSettings, FusionSettings, SearchSettings, load_config
from fracray.search.space import (
    PAPER_FUSION,
    PAPER_VISION,
    apply,
    point_of,
    suggest_fusion,
    within,
    without_words,
)
from fracray.search.space import suggest_vision as suggest_vision_within

suggest_vision = partial(suggest_vision_within, settings=SearchSettings())


def draws(suggest: object, number: int) -> list[dict[str, object]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(number):
        trial = study.ask()
        suggest(trial)  # type: ignore[operator]
        study.tell(trial, 0.0)
    return [trial.params for trial in study.trials]


def test_every_point_makes_valid_settings() -> None:
    for point in draws(suggest_vision, 60):
        settings = apply(FinetuneSettings(), point)
        assert point.items() <= settings.model_dump().items()
    for point in draws(suggest_fusion, 60) + draws(partial(suggest_fusion, captioned=False), 60):
        fusion = apply(FusionSettings(), point)
        assert point.items() <= fusion.model_dump().items()


def test_without_captions_nothing_about_words_is_tried() -> None:
    for point in draws(partial(suggest_fusion, captioned=False), 5):
        assert set(point) == {"regularisation", "balanced"}


def test_no_learning_rate_where_nothing_learns() -> None:
    drawn = draws(suggest_vision, 60)
    frozen = [point for point in drawn if point["unfrozen"] == "none"]
    assert frozen
    assert all(set(point) == {"unfrozen"} for point in frozen)
    assert all("learning_rate" in point for point in drawn if point["unfrozen"] != "none")


@pytest.mark.parametrize(
    ("suggest", "point"),
    [
        (suggest_vision, PAPER_VISION),
        (suggest_fusion, PAPER_FUSION),
        (suggest_vision, point_of(FinetuneSettings())),
        (suggest_vision, point_of(FinetuneSettings(unfrozen="none"))),
        (suggest_fusion, point_of(FusionSettings())),
        (suggest_fusion, point_of(load_config(profile="radiographs").fusion)),
        (partial(suggest_fusion, captioned=False), without_words(PAPER_FUSION)),
    ],
)
def test_the_first_points_lie_in_the_space(suggest: object, point: dict[str, object]) -> None:
    study = optuna.create_study()
    study.enqueue_trial(point)
    trial = study.ask()
    suggest(trial)  # type: ignore[operator]
    study.tell(trial, 0.0)
    (only,) = study.trials
    assert only.params == point
    for name, value in only.params.items():
        distribution = only.distributions[name]
        assert distribution._contains(distribution.to_internal_repr(value))


def test_limits_hold_for_what_is_drawn_and_for_the_first_points() -> None:
    limits = SearchSettings(unfrozen=("none", "layer4"), max_epochs=3)
    drawn = draws(partial(suggest_vision_within, settings=limits), 60)
    assert {point["unfrozen"] for point in drawn} == {"none", "layer4"}
    assert max(int(str(point.get("epochs", 0))) for point in drawn) <= 3
    assert within(PAPER_VISION, limits) == PAPER_VISION | {"epochs": 3}
    assert within(PAPER_VISION, SearchSettings(unfrozen=("none",))) is None
    assert within({"unfrozen": "none"}, limits) == {"unfrozen": "none"}
