import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracray.config import EvaluationSettings
from fracray.evaluation import gallery as gallery_module
from fracray.evaluation.evaluate import evaluate
from fracray.evaluation.gallery import KINDS, choose_rows, gallery
from fracray.explain.answer import Answer, Contributions, Term
from tests.evaluation.conftest import Study


def test_kinds_take_turns_and_errors_come_first() -> None:
    labels = [1, 1, 1, 0, 0, 0, 1]
    decisions = [0, 0, 1, 1, 0, 0, 1]
    margins = [-0.1, -0.3, 0.2, 0.4, -0.1, -0.4, 0.5]
    assert choose_rows(labels, decisions, margins, 4) == [1, 3, 6, 5]
    assert choose_rows(labels, decisions, margins, 6) == [1, 3, 6, 5, 0, 2]
    assert sorted(choose_rows(labels, decisions, margins, 100)) == list(range(7))
    assert choose_rows(labels, decisions, margins, 0) == []


def test_without_errors_only_hits_are_shown() -> None:
    assert choose_rows([1, 0, 0], [1, 0, 0], [0.1, -0.2, -0.3], 2) == [0, 2]


def test_entries_show_the_file_its_caption_and_the_split(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is a stand-in: heat maps have tests of their own."""
    uris = []
    for row in range(len(study.rows)):
        path = tmp_path / f"{row}.png"
        Image.new("L", (480, 240), 100 + row).save(path)
        uris.append(str(path))
    rows = replace(study.rows, uris=uris)
    picture = BytesIO()
    Image.new("RGB", (480, 240), (200, 30, 30)).save(picture, "PNG")

    def stand_in(*_: object, **__: object) -> list[Answer]:
        parts = Contributions(
            logit=1.0, intercept=-1.0, image=0.5, words=1.5, terms=[Term(term="step", weight=1.5)]
        )
        return [
            Answer(
                probability=0.73, fracture=True, operating_point=0.4, caption="c", caption_verdict="none",
                contributions=parts, by_system={}, hottest_box=None,
                overlay_png=base64.b64encode(picture.getvalue()).decode(), warnings=[], bundle_id="b",
                data_kind="phantoms", data_note="n", reliability="r", timings_ms={},
            )
        ]  # fmt: skip

    monkeypatch.setattr(gallery_module, "answer", stand_in)
    evaluation = evaluate(study.bundle, rows, EvaluationSettings(bootstrap=100), seed=3)
    entries = gallery(study.bundle, rows, evaluation, 8)
    assert [entry.title for entry in entries] == sorted(
        (entry.title for entry in entries), key=list(KINDS.values()).index
    )
    assert len(entries) == 8
    original = np.asarray(Image.open(BytesIO(entries[0].original_png)))
    assert original.shape == (210, 420)
    shown_row = int(original[0, 0]) - 100
    assert entries[0].caption == rows.captions[shown_row]
    assert Image.open(BytesIO(entries[0].overlay_png)).size == (420, 210)
    assert "logit +1.00 = start -1.00, image +0.50, words +1.50" in entries[0].text
    assert "step +1.50" in entries[0].text
    assert entries[0].text.startswith(f"{shown_row}.png\n")
