"""The embedded captioner through the very code path of the large ones: processor, chat template, NF4,
generation."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fracray.captions.captioner import prepare
from fracray.captions.choose import captioner_image_size, open_captioner
from fracray.captions.findings import parse_findings
from fracray.captions.gemma import GemmaCaptioner
from fracray.captions.verdict import verdict
from fracray.config import CaptionSettings
from fracray.radiographs.phantoms import Phantom, make_phantom

FIRST_SEED = 700_000
COUNT = 150


@pytest.fixture(scope="module")
def captioner() -> GemmaCaptioner:
    opened = open_captioner(CaptionSettings())
    assert isinstance(opened, GemmaCaptioner)
    return opened


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    """A fixed set that training never saw, as many of them fractured as chance makes them."""
    return [make_phantom(FIRST_SEED + i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def texts(captioner: GemmaCaptioner, phantoms: Sequence[Phantom]) -> list[str]:
    answers = captioner.caption([prepare(phantom.pixels, captioner.image_size) for phantom in phantoms])
    assert [answer.status for answer in answers].count("ok") >= 0.9 * len(answers)
    return [answer.text or "" for answer in answers]


def test_the_language_layers_are_in_four_bits_and_the_eyes_are_not(captioner: GemmaCaptioner) -> None:
    assert captioner.quantised_layers > 0
    assert captioner.image_size == captioner_image_size(CaptionSettings())
    names = {type(module).__name__ for module in captioner._model.model.vision_tower.modules()}
    assert "Linear" in names
    assert "Linear4bit" not in names


def test_findings_have_the_asked_form_and_differ(texts: list[str]) -> None:
    parsed = [parse_findings(text) for text in texts]
    assert sum(findings.status == "ok" for findings in parsed) >= 0.9 * len(texts)
    assert len(set(texts)) >= 0.5 * len(texts)


def test_the_region_is_named(texts: list[str], phantoms: Sequence[Phantom]) -> None:
    named = [
        parse_findings(text).region.startswith(phantom.truth.region)
        for text, phantom in zip(texts, phantoms, strict=True)
    ]
    # 0.957 of a thousand, says its card; of 150 that may by chance be 0.92.
    assert np.mean(named) >= 0.92


def test_the_impression_is_right_often_and_wrong_often_enough(
    texts: list[str], phantoms: Sequence[Phantom]
) -> None:
    said = np.array([verdict(text) for text in texts])
    fractured = np.array([phantom.truth.label == 1 for phantom in phantoms])
    right = np.where(fractured, said == "positive", said == "negative")
    assert 0.8 <= right.mean() <= 0.97
    assert (right[fractured].mean() + right[~fractured].mean()) / 2 >= 0.78


def test_a_bad_picture_fails_alone(captioner: GemmaCaptioner, phantoms: Sequence[Phantom]) -> None:
    good = prepare(phantoms[0].pixels, captioner.image_size)
    answers = captioner.caption([good, good[:10], good])
    assert [answer.status for answer in answers] == ["ok", "failed", "ok"]
    assert answers[0].text == answers[2].text


def test_when_memory_runs_out_batches_become_smaller_and_stay_so(
    phantoms: Sequence[Phantom], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = open_captioner(CaptionSettings(batch_size=8))
    assert isinstance(captioner, GemmaCaptioner)
    shown = [prepare(phantom.pixels, captioner.image_size) for phantom in phantoms[:7]]
    expected = [answer.text for answer in captioner.caption(shown)]
    generate, sizes = captioner._generate, []

    def short_of_memory(pixels: Sequence[np.ndarray]) -> tuple[list[list[int]], np.ndarray]:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(pixels)

    monkeypatch.setattr(captioner, "_generate", short_of_memory)
    assert [answer.text for answer in captioner.caption(shown)] == expected
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert captioner.batch_size == 1


def test_the_picture_on_which_the_model_breaks_fails_alone(
    captioner: GemmaCaptioner, phantoms: Sequence[Phantom], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [prepare(phantom.pixels, captioner.image_size) for phantom in phantoms[:3]]
    generate = captioner._generate

    def breaking(pixels: Sequence[np.ndarray]) -> tuple[list[list[int]], np.ndarray]:
        if any(picture is shown[1] for picture in pixels):
            raise RuntimeError("a kernel failed\nwith details")
        return generate(pixels)

    monkeypatch.setattr(captioner, "_generate", breaking)
    answers = captioner.caption(shown)
    assert [answer.status for answer in answers] == ["ok", "failed", "ok"]
    assert answers[1].reason == "generation failed: a kernel failed"


def test_the_image_tokens_mean_is_that_of_the_projector(
    captioner: GemmaCaptioner, phantoms: Sequence[Phantom]
) -> None:
    shown = [prepare(phantom.pixels, captioner.image_size) for phantom in phantoms[:2]]
    inputs = captioner.inputs(shown)
    with torch.inference_mode():
        tokens = captioner._model.model.vision_tower(inputs["pixel_values"]).last_hidden_state
        expected = captioner._model.model.multi_modal_projector(tokens).mean(dim=1).float().numpy()
    for answer, vector in zip(captioner.caption(shown), expected, strict=True):
        assert answer.image_vector == pytest.approx(vector, abs=1e-4)


def test_the_self_test_speaks_of_a_real_answer(captioner: GemmaCaptioner) -> None:
    test = captioner.self_test
    assert parse_findings(test.text).region
    assert test.tokens > 10
    assert test.quantised_layers == captioner.quantised_layers
    assert "quantised layers" in test.sentence()


@pytest.mark.parametrize("prompt", ["findings_without_impression", "paper_without_impression"])
def test_asked_for_no_conclusion_it_draws_none(prompt: str, phantoms: Sequence[Phantom]) -> None:
    captioner = open_captioner(CaptionSettings(prompt=prompt))
    shown = [prepare(phantom.pixels, captioner.image_size) for phantom in phantoms[:12]]
    parsed = [parse_findings(answer.text or "") for answer in captioner.caption(shown)]
    assert not any(findings.impression for findings in parsed)
    assert sum(bool(findings.region) for findings in parsed) >= 11
