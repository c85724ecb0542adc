"""What the search may change, as Optuna's define-by-run functions, and the points it tries first."""

from typing import Any, TypeVar

import optuna

from fracray.config import FinetuneSettings, FusionSettings, SearchSettings, Settings

S = TypeVar("S", bound=Settings)

PAPER_VISION: dict[str, Any] = {
    "unfrozen": "layer4",
    "learning_rate": 1e-4,
    "epochs": 10,
    "augmentation": 0.5,
    "weight_decay": 1e-2,
}
"""Fine-tuning as in "Multimodal Bone Fracture Detection: Combining ResNet50 Transfer Learning With Synthetic
Radiological Captions" (Florez et al.): selective fine-tuning of the last stage, random flips, rotations and
contrast. The paper states no learning rate, epochs or weight decay; these are customary values for AdamW."""

PAPER_FUSION: dict[str, Any] = {
    "max_terms": 262,
    "ngrams": 1,
    "sublinear_tf": False,
    "regularisation": 1.0,
    "text_weight": 1.0,
    "balanced": False,
}
"""Fusion as in the same paper: 262 TF-IDF terms beside the embedding, unweighted. What the paper leaves
unsaid takes scikit-learn's default."""

_OF_WORDS = ("max_terms", "ngrams", "sublinear_tf", "text_weight")


def suggest_vision(trial: optuna.Trial, settings: SearchSettings) -> None:
    """Suggest fine-tuning settings within `settings`; the last four only where something is fine-tuned.

    `unfrozen="fc"` is no choice: a head alone leaves the embedding, and so the score, as it is.
    """
    unfrozen = trial.suggest_categorical("unfrozen", settings.unfrozen)
    if unfrozen == "none":
        return
    trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    trial.suggest_int("epochs", 1, settings.max_epochs, log=True)
    trial.suggest_float("augmentation", 0.0, 1.0)
    trial.suggest_float("weight_decay", 1e-5, 0.3, log=True)


def suggest_fusion(trial: optuna.Trial, captioned: bool = True) -> None:
    """Suggest the classifier on words and embedding, and where rows are `captioned` how words become numbers.

    On a few thousand embeddings of a fine-tuned network the best regularisation lies near 1e-6, far below
    what suits a few hundred of a frozen one.
    """
    if captioned:
        trial.suggest_int("max_terms", 16, 2048, log=True)
        trial.suggest_categorical("ngrams", [1, 2, 3])
        trial.suggest_categorical("sublinear_tf", [False, True])
    trial.suggest_float("regularisation", 1e-7, 1e2, log=True)
    if captioned:
        trial.suggest_float("text_weight", 1e-2, 1e2, log=True)
    trial.suggest_categorical("balanced", [False, True])


def without_words(point: dict[str, Any]) -> dict[str, Any]:
    """Return a fusion `point` as it is where no row has a caption."""
    return {name: value for name, value in point.items() if name not in _OF_WORDS}


def point_of(settings: FinetuneSettings | FusionSettings) -> dict[str, Any]:
    """Return `settings` as a point of their search space, without what the search does not change."""
    if isinstance(settings, FusionSettings):
        return {name: getattr(settings, name) for name in PAPER_FUSION}
    if settings.unfrozen in ("none", "fc"):
        return {"unfrozen": "none"}
    return {name: getattr(settings, name) for name in PAPER_VISION}


def within(point: dict[str, Any], settings: SearchSettings) -> dict[str, Any] | None:
    """Return a vision `point` within `settings`: fewer epochs, or None where its stages are not allowed."""
    if point["unfrozen"] not in settings.unfrozen:
        return None
    if "epochs" not in point:
        return point
    return point | {"epochs": min(point["epochs"], settings.max_epochs)}


def apply(settings: S, point: dict[str, Any]) -> S:
    """Return `settings` with the values of `point`, validated anew."""
    return type(settings).model_validate(settings.model_dump() | point)
