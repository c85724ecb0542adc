"""A logistic regression on an embedding, on the words of a caption, or on both side by side."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fracray.config import FusionSettings
from fracray.errors import BundleError, UsageError

System = Literal["image", "words", "fused"]
"""What a classifier looks at: the embedding, the caption's words, or both."""

SYSTEMS: Final[tuple[System, ...]] = get_args(System)

_FORMAT = 1
_UNREADABLE = (
    BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    RuntimeError,
)
"""All that skops raises on types it does not know and on damaged files."""

_NUMBERS = ("embedding_dim", "text_weight", "slope", "intercept", "threshold")


@dataclass(frozen=True)
class LogitSplit:
    """One calibrated logit as a sum: `intercept + image + words`.

    `intercept` is the logit of an average training embedding without words, `image` what this embedding adds
    to it, `words` what the caption adds. `terms` names each known word of the caption and what it adds, the
    weightiest first; they sum to `words`.
    """

    intercept: float
    image: float
    words: float
    terms: tuple[tuple[str, float], ...]

    @property
    def logit(self) -> float:
        """The sum of the parts."""
        return self.intercept + self.image + self.words


@dataclass(frozen=True)
class Classifier:
    """Fitted parts of one system; calls a fracture where the probability reaches `threshold`.

    `scaler` is None for words, `vectorizer` is None for image and wherever no training caption had a word.
    `slope` and `intercept` turn the regression's logit into a calibrated one.
    """

    system: System
    scaler: StandardScaler | None
    vectorizer: TfidfVectorizer | None
    regression: LogisticRegression
    embedding_dim: int
    text_weight: float
    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5

    def logits(self, embeddings: ArrayLike, captions: Sequence[str]) -> NDArray[np.float64]:
        """Return the calibrated logits [n] of `embeddings` [n, d] and `captions` [n].

        Raises `UsageError` when the shapes do not fit.
        """
        features = _features(
            self.system, self.scaler, self.vectorizer, self.text_weight, embeddings, captions
        )
        raw: NDArray[np.float64] = self.regression.decision_function(features)
        return self.slope * raw + self.intercept

    def probabilities(self, embeddings: ArrayLike, captions: Sequence[str]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of a fracture [n], each from 0 to 1."""
        result: NDArray[np.float64] = expit(self.logits(embeddings, captions))
        return result

    def with_calibration(self, slope: float, intercept: float, threshold: float) -> "Classifier":
        """Return this classifier, not calibrated before, with the given calibration and threshold."""
        return replace(self, slope=slope, intercept=intercept, threshold=threshold)

    def image_gradient(self) -> NDArray[np.float64]:
        """Return how the calibrated logit changes with each number of the embedding [d]; zeros for words."""
        if self.scaler is None:
            return np.zeros(self.embedding_dim)
        gradient: NDArray[np.float64] = self.slope * self._image_weights() / self.scaler.scale_
        return gradient

    def logit_function(self, captions: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """Return the calibrated logits [n] as a differentiable function of embeddings [n, d].

        The words of `captions` [n] are held fixed. The function works in float64 on the embeddings' device.
        """
        without_image = self.logits(np.zeros((len(captions), self.embedding_dim)), captions)
        gradient = self.image_gradient()

        def logits(embeddings: Tensor) -> Tensor:
            place = embeddings.device
            image = embeddings.double() @ torch.tensor(gradient, device=place)
            return image + torch.tensor(without_image, device=place)

        return logits

    def split(self, embedding: ArrayLike, caption: str) -> LogitSplit:
        """Return the parts of the logit of one `embedding` [d] and its `caption`."""
        image = 0.0
        if self.scaler is not None:
            matrix = _embedding_matrix(np.atleast_2d(np.asarray(embedding)), self.scaler)
            image = self.slope * float(self.scaler.transform(matrix)[0] @ self._image_weights())
        terms = self._terms(caption)
        return LogitSplit(
            intercept=self.slope * float(self.regression.intercept_[0]) + self.intercept,
            image=image,
            words=math.fsum(added for _, added in terms),
            terms=terms,
        )

    def save(self, path: Path) -> None:
        """Write all fitted parts to `path` in the skops format, which holds no executable pickle."""
        # Importing skops visits all of scikit-learn, so only those who save or load pay for it.
        from skops.io import dump

        parts = {"format": _FORMAT, "system": self.system}
        parts |= {name: getattr(self, name) for name in ("scaler", "vectorizer", "regression", *_NUMBERS)}
        path.parent.mkdir(parents=True, exist_ok=True)
        dump(parts, path)

    def _image_weights(self) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = self.regression.coef_[0, : self.embedding_dim]
        return weights

    def _terms(self, caption: str) -> tuple[tuple[str, float], ...]:
        if self.vectorizer is None:
            return ()
        first = 0 if self.scaler is None else self.embedding_dim
        weights = self.slope * self.text_weight * self.regression.coef_[0, first:]
        found = self.vectorizer.transform([caption])
        names = self.vectorizer.get_feature_names_out()
        terms = [
            (str(names[column]), float(value * weights[column]))
            for column, value in zip(found.indices, found.data, strict=True)
        ]
        return tuple(sorted(terms, key=lambda term: (-abs(term[1]), term[0])))


def fit_classifier(
    system: System,
    embeddings: ArrayLike,
    captions: Sequence[str],
    labels: NDArray[np.int8],
    settings: FusionSettings,
    seed: int,
) -> Classifier:
    """Fit scaler, vocabulary and logistic regression on these rows, and on nothing else.

    `embeddings` is [n, d], `captions` and `labels` (1 fractured, 0 not) are [n]. Embeddings are standardised;
    each caption is a TF-IDF vector of length 1 times `settings.text_weight`. The result is not calibrated:
    slope 1, intercept 0, threshold 0.5. Raises `UsageError` when shapes do not fit or one class is missing.
    """
    if len(np.unique(labels)) != 2:
        raise UsageError(
            f"a classifier needs fractured and not fractured rows; these {len(labels)} are all of one class"
        )
    matrix = _embedding_matrix(embeddings)
    scaler = StandardScaler().fit(matrix) if system != "words" else None
    vectorizer = _fit_vectorizer(captions, settings) if system != "image" else None
    features = _features(system, scaler, vectorizer, settings.text_weight, matrix, captions)
    if len(features) != len(labels):
        raise UsageError(f"{len(features)} embeddings but {len(labels)} labels; give one of each per row")
    regression = LogisticRegression(
        C=settings.regularisation,
        class_weight="balanced" if settings.balanced else None,
        max_iter=2000,
        random_state=seed,
    )
    regression.fit(features, labels)
    return Classifier(system, scaler, vectorizer, regression, matrix.shape[1], settings.text_weight)


def load_classifier(path: Path) -> Classifier:
    """Read a classifier that `Classifier.save` wrote.

    Only skops' own list of harmless types is accepted (numbers, text, arrays, scikit-learn's estimators), and
    of those only the parts a classifier has. Raises `BundleError` for anything else.
    """
    from skops.io import load

    try:
        parts = load(path, trusted=[])
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; the bundle is incomplete, train it again") from None
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{path}: not a classifier to be trusted ({reason}); train it again") from None
    return _checked(parts, path)


def _checked(parts: Any, path: Path) -> Classifier:
    def require(fits: bool, what: str) -> None:
        if not fits:
            raise BundleError(f"{path}: {what}; train it again with this version")

    require(isinstance(parts, dict) and parts.get("format") == _FORMAT, "of an unknown format")
    system = parts.get("system")
    require(system in SYSTEMS, f"of an unknown system '{system}'")
    names = {"format", "system", "scaler", "vectorizer", "regression", *_NUMBERS}
    require(set(parts) == names, "holds other parts than a classifier has")
    scaler, vectorizer, regression = parts["scaler"], parts["vectorizer"], parts["regression"]
    scaler_type = type(None) if system == "words" else StandardScaler
    text_types = (type(None),) if system == "image" else (type(None), TfidfVectorizer)
    require(type(scaler) is scaler_type, "its scaler is of another type")
    require(type(vectorizer) in text_types, "its vectorizer is of another type")
    require(type(regression) is LogisticRegression, "its regression is of another type")
    for part, fitted in ((scaler, "scale_"), (vectorizer, "vocabulary_"), (regression, "coef_")):
        require(part is None or hasattr(part, fitted), "a part of it was never fitted")
    numbers = [parts[name] for name in _NUMBERS]
    require(
        all(type(number) in (int, float) and math.isfinite(number) for number in numbers), "has bad numbers"
    )
    image_columns = parts["embedding_dim"] if scaler is not None else 0
    text_columns = 0 if system == "image" else 1 if vectorizer is None else len(vectorizer.vocabulary_)
    require(regression.coef_.shape == (1, image_columns + text_columns), "its parts do not fit each other")
    require(
        scaler is None or scaler.scale_.shape == (image_columns,), "its scaler does not fit its embedding"
    )
    return Classifier(system, scaler, vectorizer, regression, *numbers)


def _features(
    system: System,
    scaler: StandardScaler | None,
    vectorizer: TfidfVectorizer | None,
    text_weight: float,
    embeddings: ArrayLike,
    captions: Sequence[str],
) -> NDArray[np.float64]:
    blocks: list[NDArray[np.float64]] = []
    if scaler is not None:
        blocks.append(scaler.transform(_embedding_matrix(embeddings, scaler)))
    if system != "image":
        if vectorizer is None:
            # No training caption had a word: one empty column stands in, to which any weight adds nothing.
            blocks.append(np.zeros((len(captions), 1)))
        else:
            blocks.append(text_weight * vectorizer.transform(captions).toarray())
    if len({len(block) for block in blocks}) != 1:
        counts = f"{len(blocks[0])} embeddings but {len(captions)} captions"
        raise UsageError(f"{counts}; give one of each per row")
    return np.hstack(blocks)


def _embedding_matrix(embeddings: ArrayLike, scaler: StandardScaler | None = None) -> NDArray[np.float64]:
    matrix = np.asarray(embeddings, dtype=np.float64)
    if matrix.ndim != 2:
        raise UsageError(f"embeddings have the shape {matrix.shape}; give [rows, numbers]")
    if scaler is not None and matrix.shape[1] != scaler.n_features_in_:
        raise UsageError(
            f"embeddings hold {matrix.shape[1]} numbers, the classifier was fitted on "
            f"{scaler.n_features_in_}; use the backbone it was trained with"
        )
    return matrix


def _fit_vectorizer(captions: Sequence[str], settings: FusionSettings) -> TfidfVectorizer | None:
    vectorizer = TfidfVectorizer(
        lowercase=True,
        max_features=settings.max_terms,
        ngram_range=(1, settings.ngrams),
        sublinear_tf=settings.sublinear_tf,
    )
    analyse = vectorizer.build_analyzer()
    if not any(analyse(caption) for caption in captions):
        return None
    return vectorizer.fit(captions)
