from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fracray.config import EvaluationSettings
from fracray.evaluation.evaluate import Evaluation, evaluate
from fracray.evaluation.gallery import GalleryEntry
from fracray.evaluation.report import comparison_sentence, figures_table, p_value, summary, write_report
from fracray.explain.answer import NOTICE
from tests.evaluation.conftest import NOTE, Study

SETTINGS = EvaluationSettings(bootstrap=200)


@pytest.fixture(scope="module")
def evaluation(study: Study) -> Evaluation:
    return evaluate(study.bundle, study.rows, SETTINGS, seed=3)


def a_png() -> bytes:
    buffer = BytesIO()
    Image.new("L", (8, 8), 90).save(buffer, "PNG")
    return buffer.getvalue()


class Page(HTMLParser):
    """Collects what a page loads, its text, and tags left open."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(evaluation: Evaluation, tmp_path: Path, gallery: tuple[GalleryEntry, ...] = ()) -> Page:
    write_report(evaluation, tmp_path / "report.html", gallery)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(evaluation: Evaluation, tmp_path: Path) -> None:
    page = written(evaluation, tmp_path, (GalleryEntry("false alarm", a_png(), a_png(), "words", "figures"),))
    assert len(page.sources) == 3 + 2
    assert all(source.startswith("data:image/") for source in page.sources)
    assert page.open == []
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html
    assert "url(" not in html
    assert "<script" not in html


def test_data_note_and_notice_stand_with_every_figure(evaluation: Evaluation, tmp_path: Path) -> None:
    text = written(evaluation, tmp_path).text
    assert text.count(NOTE) >= 7
    assert text.count(NOTICE) >= 2


def test_every_systems_figures_are_on_the_page(evaluation: Evaluation, tmp_path: Path) -> None:
    text = written(evaluation, tmp_path).text
    for system in evaluation.figures["systems"].values():
        for metric in ("accuracy", "sensitivity", "auroc"):
            assert f"{system[metric]['value']:.3f}" in text
    fused = evaluation.figures["systems"]["fused"]["auroc"]
    assert f"{fused['low']:.3f} to {fused['high']:.3f}" in text
    assert "no fracture was called" in text


def test_a_caption_cannot_bring_markup(evaluation: Evaluation, tmp_path: Path) -> None:
    entry = GalleryEntry("false alarm", a_png(), a_png(), "<script>alert(1)</script>", "<b>text</b>")
    page = written(evaluation, tmp_path, (entry,))
    assert "script" not in page.open
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_rows_of_one_class_still_make_a_page(study: Study, tmp_path: Path) -> None:
    for label in (0, 1):
        rows = replace(study.rows, labels=np.full(90, label, dtype=np.int8))
        page = written(evaluate(study.bundle, rows, SETTINGS, seed=3), tmp_path)
        assert page.sources == []
        assert "all rows are of one class" in page.text


def test_the_report_of_a_bundle_without_a_captioner_is_about_the_image(
    image_alone: Study, evaluation: Evaluation, tmp_path: Path
) -> None:
    words = ("Words alone", "captions", "Caption's verdict", "against", "no caption")
    with_words = written(
        evaluation, tmp_path, (GalleryEntry("false alarm", a_png(), a_png(), "", "figures"),)
    )
    assert all(word in with_words.text for word in words)
    figures = evaluate(image_alone.bundle, image_alone.rows, SETTINGS, seed=3)
    page = written(figures, tmp_path, (GalleryEntry("false alarm", a_png(), a_png(), "", "figures"),))
    assert not [word for word in words if word in page.text]
    assert "This bundle decides by the image alone" in page.text
    assert (len(page.sources), page.open) == (3 + 2, [])


def test_the_same_evaluation_gives_the_same_file(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "one.html")
    write_report(evaluation, tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "better than image alone: AUROC +0.100 (+0.010 to +0.200)"),
        (-0.2, -0.01, "worse than"),
        (-0.1, 0.2, "not told apart"),
        (None, None, "no interval"),
    ],
)
def test_a_difference_is_only_claimed_where_its_interval_says_so(
    low: float | None, high: float | None, said: str
) -> None:
    difference = {"value": 0.1, "low": low, "high": high, "note": None}
    comparison = {"first": "fused", "second": "image", "auroc_difference": difference}
    assert said in comparison_sentence(comparison)


def test_the_summary_admits_an_accuracy_no_better_than_a_constant(study: Study) -> None:
    rng = np.random.default_rng(4)
    rows = replace(study.rows, labels=rng.permutation(study.rows.labels))
    figures = evaluate(study.bundle, rows, SETTINGS, seed=3).figures
    assert "not shown to be above that constant answer" in " ".join(summary(figures))
    assert "Always answering 'not fractured' is right on 60 of 90." in summary(figures)


def test_the_summary_warns_of_a_captioner_that_repeats_itself(study: Study, evaluation: Evaluation) -> None:
    rows = replace(study.rows, captions=["Impression: no fracture."] * 90)
    repeated = " ".join(summary(evaluate(study.bundle, rows, SETTINGS, seed=3).figures))
    assert "One caption stands at 100 % of the radiographs" in repeated
    assert "repeats itself" not in " ".join(summary(evaluation.figures))


def test_the_terminal_table_shows_intervals_and_the_note(evaluation: Evaluation) -> None:
    screen = Console(file=StringIO(), width=120)
    screen.print(figures_table(evaluation.figures))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    fused = evaluation.figures["systems"]["fused"]["sensitivity"]
    assert f"{fused['value']:.3f}" in text
    assert f"{fused['low']:.3f} to {fused['high']:.3f}" in text
    assert "say nothing about patients" in text.replace("\n", " ")


def test_small_p_values_are_bounds() -> None:
    assert (p_value(0.00001), p_value(0.0213)) == ("p < 0.001", "p = 0.021")
