import json
from pathlib import Path

import pytest

from fracray.bundle.reliability import NOT_EVALUATED, reliability

FIGURES = json.loads(
    (Path(__file__).parents[2] / "docs" / "demo" / "figures.json").read_text(encoding="utf-8")
)
UNDEFINED = {"value": None, "low": None, "high": None}
WITHOUT_INTERVAL = {"value": 0.5, "low": None, "high": None}


def test_phantoms_mean_nothing_on_a_real_radiograph_whatever_the_figures() -> None:
    warning = "Fitted on phantoms: the answer means nothing on a real radiograph. "
    assert reliability("phantoms", None) == warning + NOT_EVALUATED
    assert reliability("phantoms", FIGURES).startswith(f"{warning}On 84 held-out phantoms (26 fractured), ")


def test_radiographs_come_with_the_fused_figures_and_their_intervals() -> None:
    assert reliability("radiographs", FIGURES) == (
        "Fitted on radiographs. On 84 held-out radiographs (26 fractured), with 95% intervals: "
        "AUROC 0.93 (0.85 to 0.99), sensitivity 0.88 (0.70 to 0.98), specificity 0.72 (0.59 to 0.83)."
    )
    assert reliability("radiographs", None) == f"Fitted on radiographs. {NOT_EVALUATED}"


@pytest.mark.parametrize(
    ("figure", "shown"), [(UNDEFINED, "AUROC not defined, "), (WITHOUT_INTERVAL, "AUROC 0.50, ")]
)
def test_a_figure_without_value_or_interval_is_told_as_such(
    figure: dict[str, float | None], shown: str
) -> None:
    fused = FIGURES["systems"]["fused"] | {"auroc": figure}
    assert shown in reliability("radiographs", FIGURES | {"systems": {"fused": fused}})


def test_figures_of_radiographs_are_not_told_as_of_phantoms() -> None:
    told = reliability("phantoms", FIGURES | {"data_kind": "radiographs"})
    assert "means nothing on a real radiograph. On 84 held-out radiographs" in told
