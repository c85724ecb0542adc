"""What the service tells about its bundle, as facts and on the page: no Ray, no browser."""

import json
import shutil
from pathlib import Path

import pytest

from fracray.bundle.bundle import Bundle, load_bundle, record_figures
from fracray.captions.captioner import Caption
from fracray.captions.none import NO_CAPTION
from fracray.explain.answer import answer
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import Radiograph
from fracray.serving.facts import model_facts
from fracray.serving.page import render_answer, render_header
from fracray.serving.predictor import Picture, Prediction, ServedAnswer
from tests.serving.conftest import DATA_NOTE

FIGURES = Path(__file__).parents[2] / "docs" / "demo" / "figures.json"


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Bundle:
    """The small bundle with the figures of an evaluation."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "evaluated"))
    record_figures(folder, json.loads(FIGURES.read_text(encoding="utf-8")))
    return load_bundle(folder)


def answer_on_the_page(bundle: Bundle, caption: Caption) -> str:
    """Return what the page shows for a phantom with this `caption`."""
    radiograph = Radiograph(make_phantom(4_900_100, long_side=300).pixels, 8, "PNG")
    (reply,) = answer(bundle, [radiograph], [caption], with_overlay=False)
    height, width = radiograph.pixels.shape
    picture = Picture(width=width, height=height, format="PNG", bits=8)
    served = ServedAnswer.model_validate(dict(reply) | {"request_id": "r", "radiograph": picture})
    return render_answer(Prediction(radiograph, served))


def test_facts_name_the_data_and_the_figures_in_words(bundle: Bundle, bundle_folder: Path) -> None:
    facts = model_facts(bundle)
    assert (facts.data_kind, facts.data_note) == ("phantoms", DATA_NOTE)
    assert facts.reliability == bundle.reliability
    assert "sensitivity 0.88 (0.70 to 0.98)" in facts.reliability
    assert "Not evaluated" in model_facts(load_bundle(bundle_folder)).reliability


def test_the_page_says_it_above_and_below_the_answer(bundle: Bundle) -> None:
    header = render_header(model_facts(bundle))
    assert f"{len(bundle.training_ids)} phantoms. {DATA_NOTE}" in header
    for part in (header, answer_on_the_page(bundle, Caption("", "empty"))):
        assert bundle.reliability in part
        assert DATA_NOTE in part


def test_the_page_of_a_bundle_without_a_captioner_shows_the_image_only(
    bundle: Bundle, image_alone_folder: Path
) -> None:
    words = ("words", "Caption", "fused", "Terms")
    with_words = answer_on_the_page(bundle, Caption("Impression: No fracture seen.", "ok"))
    assert all(word in with_words for word in words)
    alone = load_bundle(image_alone_folder)
    page = answer_on_the_page(alone, NO_CAPTION)
    assert "This bundle decides by the image alone." in page
    assert not [word for word in words if word in page]
    assert "fr-warning" not in page
    assert "decides by the image alone" in render_header(model_facts(alone))
    assert (model_facts(alone).prompt, model_facts(bundle).prompt) == (None, "findings")
