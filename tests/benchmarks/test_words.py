from pathlib import Path

import pandas as pd
import pytest
from words import print_captions, surroundings, systems, with_captions

from fracray.captions.verdict import verdict

SAID = "Region: hand, frontal view.\nCortex: {}.\nLines: none.\nDevices: none.\nImpression: {}."
BROKEN = SAID.format("broken, upper third, left", "Fracture in the upper third, left")
SOUND = SAID.format("smooth", "No fracture seen")


def test_what_is_shown_says_nothing_about_a_fracture() -> None:
    assert surroundings(BROKEN) == surroundings(SOUND) == "Region: hand, frontal view.\nDevices: none."
    assert verdict(surroundings(BROKEN)) == "none"


def test_words_that_tell_the_label_score_and_those_that_do_not_tell_it_do_not(tmp_path: Path) -> None:
    labels = [0, 1] * 30
    table = pd.DataFrame(
        {"image_id": [str(i) for i in range(60)], "label": labels, "fold": [i // 20 for i in range(60)]}
    )
    captions = table[["image_id"]].assign(caption=[BROKEN if label else SOUND for label in labels])
    captions.to_parquet(tmp_path / "captions.parquet")
    scores = systems(with_captions(table.assign(image=0.5), tmp_path / "captions.parquet"))
    fractured = table.label.to_numpy() == 1
    for name in ("the caption's verdict", "words", "image beside words"):
        assert scores[name][fractured].min() > scores[name][~fractured].max()
    assert scores["words on what is shown"].std() < 1e-9


def test_captions_are_judged_by_annotations_that_are_named_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.DataFrame(
        {"label": [0, 0], "region": ["hand", "leg"], "projection": ["frontal", "frontal"],
         "several_views": ["False", "False"], "hardware": ["True", "False"], "caption": [SOUND, SOUND]}
    )  # fmt: skip
    print_captions(table)
    printed = capsys.readouterr().out
    assert "| region right | 0.500 |" in printed
    assert "| distinct | 1 of 2 |" in printed
