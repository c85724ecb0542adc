from pathlib import Path

import numpy as np
import pytest
import skops.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.preprocessing import StandardScaler

from fracray.config import FusionSettings
from fracray.errors import BundleError, UsageError
from fracray.fusion.classifier import SYSTEMS, Classifier, System, fit_classifier, load_classifier

DIM = 6
WORDS = ["cortex", "intact", "step", "line", "swelling", "radius", "no", "fracture"]


def data(seed: int = 0, n: int = 60) -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(np.int8)
    embeddings = rng.normal(3, 2, (n, DIM)).astype(np.float32)
    embeddings[labels == 1, 0] += 2
    captions = [
        " ".join(
            [*rng.choice(WORDS, rng.integers(1, 7)), *(["displaced"] if label and rng.random() < 0.8 else [])]
        )
        for label in labels
    ]
    return embeddings, captions, labels


def fit(system: System, **changes: float) -> Classifier:
    embeddings, captions, labels = data()
    return fit_classifier(system, embeddings, captions, labels, FusionSettings(**changes), seed=3)


FITTED = {system: fit(system, ngrams=2).with_calibration(0.7, -0.4, 0.3) for system in SYSTEMS}


@settings(max_examples=60, deadline=None)
@given(
    system=st.sampled_from(SYSTEMS),
    embedding=st.lists(st.floats(-50, 50, width=32), min_size=DIM, max_size=DIM),
    caption=st.lists(st.sampled_from([*WORDS, "displaced", "unheard"]), max_size=12).map(" ".join),
)
def test_split_adds_up_to_the_logit(system: System, embedding: list[float], caption: str) -> None:
    classifier = FITTED[system]
    split = classifier.split(np.array(embedding), caption)
    logit = classifier.logits(np.array([embedding]), [caption])[0]
    assert split.intercept + split.image + split.words == pytest.approx(logit, rel=1e-10, abs=1e-10)
    assert sum(added for _, added in split.terms) == pytest.approx(split.words, abs=1e-12)
    assert {word for term, _ in split.terms for word in term.split()} <= set(caption.split()) - {"unheard"}


def test_the_average_embedding_without_words_is_the_intercept() -> None:
    embeddings, _, _ = data()
    split = FITTED["fused"].split(embeddings.mean(axis=0), "")
    assert split.image == pytest.approx(0, abs=1e-6)
    assert (split.words, split.terms) == (0, ())


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_gradient_is_what_a_small_change_of_the_embedding_does(system: System) -> None:
    classifier = FITTED[system]
    embeddings, captions, _ = data()
    gradient = classifier.image_gradient()
    moved = embeddings[:1] + np.eye(DIM)
    change = classifier.logits(moved, captions[:1] * DIM) - classifier.logits(embeddings[:1], captions[:1])
    assert gradient == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_logit_function_is_the_logit_and_torch_differentiates_it(system: System) -> None:
    classifier = FITTED[system]
    embeddings, captions, _ = data()
    inputs = torch.tensor(embeddings.astype(np.float64), requires_grad=True)
    logits = classifier.logit_function(captions)(inputs)
    assert logits.detach().numpy() == pytest.approx(classifier.logits(embeddings, captions), abs=1e-9)
    (gradient,) = torch.autograd.grad(logits.sum(), inputs)
    expected = np.tile(classifier.image_gradient(), (len(embeddings), 1))
    assert gradient.numpy() == pytest.approx(expected, abs=1e-9)


def test_image_ignores_captions_and_words_ignore_embeddings() -> None:
    embeddings, captions, _ = data()
    image, words = FITTED["image"], FITTED["words"]
    assert np.array_equal(image.logits(embeddings, captions), image.logits(embeddings, captions[::-1]))
    assert np.array_equal(words.logits(embeddings, captions), words.logits(embeddings[::-1], captions))
    assert np.ptp(words.logits(embeddings, captions)) > 0.5


def test_the_tell_tale_word_weighs_most() -> None:
    terms = fit("words").split(np.zeros(DIM), "no displaced radius").terms
    assert terms[0][0] == "displaced"
    assert terms[0][1] > 0


@pytest.mark.parametrize("captions", [[""] * 60, ["a"] * 60, ["!? . "] * 60])
def test_without_any_word_the_words_add_nothing(captions: list[str], tmp_path: Path) -> None:
    embeddings, _, labels = data()
    fused = fit_classifier("fused", embeddings, captions, labels, FusionSettings(), seed=3)
    image = fit_classifier("image", embeddings, captions, labels, FusionSettings(), seed=3)
    words = fit_classifier("words", embeddings, captions, labels, FusionSettings(balanced=False), seed=3)
    asked = ["displaced fracture"] * 60
    assert fused.logits(embeddings, asked) == pytest.approx(image.logits(embeddings, asked), abs=1e-3)
    assert words.probabilities(embeddings, asked) == pytest.approx(np.full(60, labels.mean()), abs=1e-3)
    assert fused.split(embeddings[0], "displaced").words == 0
    words.save(tmp_path / "words.skops")
    assert load_classifier(tmp_path / "words.skops").probabilities(embeddings[:1], ["x"])[0] == pytest.approx(
        1 / 3, abs=1e-3
    )


def test_a_constant_embedding_column_does_no_harm() -> None:
    embeddings, captions, labels = data()
    embeddings[:, 2] = 7
    classifier = fit_classifier("fused", embeddings, captions, labels, FusionSettings(), seed=3)
    assert np.isfinite(classifier.logits(embeddings, captions)).all()


def test_settings_reach_the_classifier() -> None:
    _, captions, _ = data()
    assert len(fit("words", max_terms=3).split(np.zeros(DIM), " ".join(captions)).terms) == 3
    weak, strong = fit("words", regularisation=10), fit("words", regularisation=0.01)
    assert abs(weak.split(np.zeros(DIM), "displaced").words) > abs(
        strong.split(np.zeros(DIM), "displaced").words
    )


def test_calibration_scales_every_part() -> None:
    embeddings, captions, _ = data()
    raw = fit("fused")
    calibrated = raw.with_calibration(0.5, 1.0, 0.2)
    assert calibrated.logits(embeddings, captions) == pytest.approx(
        0.5 * raw.logits(embeddings, captions) + 1
    )
    assert calibrated.image_gradient() == pytest.approx(0.5 * raw.image_gradient())
    assert (raw.threshold, calibrated.threshold) == (0.5, 0.2)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_saved_classifier_answers_the_same(system: System, tmp_path: Path) -> None:
    embeddings, captions, _ = data()
    classifier = FITTED[system]
    classifier.save(tmp_path / "deep" / "classifier.skops")
    loaded = load_classifier(tmp_path / "deep" / "classifier.skops")
    assert np.array_equal(loaded.logits(embeddings, captions), classifier.logits(embeddings, captions))
    assert loaded.split(embeddings[0], captions[0]) == classifier.split(embeddings[0], captions[0])
    assert (loaded.threshold, loaded.system) == (0.3, system)


class Unknown:
    def __init__(self) -> None:
        self.value = 1


def saved_parts(path: Path, **changes: object) -> Path:
    """Save a good classifier, then write it again with some parts exchanged."""
    FITTED["fused"].save(path)
    skops.io.dump(skops.io.load(path, trusted=[]) | changes, path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"scaler": Unknown()},
        {"regression": np.random.default_rng},
        {"regression": SGDClassifier()},
        {"vectorizer": StandardScaler()},
        {"regression": LogisticRegression().fit([[0.0], [1.0]], [0, 1])},
        {"regression": LogisticRegression()},
        {"slope": float("nan")},
        {"threshold": "0.5"},
        {"format": 2},
        {"system": "oracle"},
        {"extra": 1},
    ],
)
def test_a_file_with_other_parts_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    path = saved_parts(tmp_path / "classifier.skops", **changes)
    with pytest.raises(BundleError, match=r"classifier\.skops"):
        load_classifier(path)


def test_no_such_file_and_no_such_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.skops"
    with pytest.raises(BundleError, match="no such file"):
        load_classifier(path)
    path.write_bytes(b"not a zip archive")
    with pytest.raises(BundleError, match="to be trusted"):
        load_classifier(path)


@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_damaged_file_is_refused_or_still_the_same(
    place: float, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "classifier.skops"
    FITTED["image"].save(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= value
    path.write_bytes(content)
    embeddings, captions, _ = data()
    try:
        loaded = load_classifier(path)
    except BundleError:
        return
    assert np.array_equal(loaded.logits(embeddings, captions), FITTED["image"].logits(embeddings, captions))


def test_one_class_and_misfitting_shapes_are_refused() -> None:
    embeddings, captions, labels = data()
    with pytest.raises(UsageError, match="one class"):
        fit_classifier("fused", embeddings, captions, np.zeros(60, dtype=np.int8), FusionSettings(), seed=3)
    with pytest.raises(UsageError, match="60 embeddings but 59 captions"):
        fit_classifier("fused", embeddings, captions[1:], labels, FusionSettings(), seed=3)
    with pytest.raises(UsageError, match="4 numbers"):
        FITTED["image"].logits(embeddings[:, :4], captions)
    with pytest.raises(UsageError, match="shape"):
        FITTED["image"].logits(embeddings[0], captions[:1])
