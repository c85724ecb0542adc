"""The model card of a bundle."""

from typing import Any

from fracray.bundle.reliability import fitted_on, in_words

_SHOWN = ("accuracy", "sensitivity", "specificity", "auroc")

_CARD = """# fracray bundle {id}

Research tool, not a medical device: do not use it for the care of patients.

{fitted_on}

- fitted on: {rows} {data_kind}. {data_note}
- backbone: {architecture}{members}, unfrozen stages: {unfrozen}, {size} x {size} pixels{learned}{places}
- captioner: {captioner}
- fusion: at most {max_terms} terms beside the embedding, logistic regression, C = {regularisation:g}

{figures}

{cross_validation}

Nothing in this folder executes: weights are safetensors, classifiers are skops files restricted to
scikit-learn types, and every file is checked against `hashes.json` when the bundle is loaded.
"""


def model_card(
    bundle_id: str,
    training: dict[str, Any],
    config: dict[str, Any],
    cross_validation: dict[str, Any] | None,
    figures: dict[str, Any] | None,
) -> str:
    """Return the Markdown card of a bundle from its id, training facts, settings and figures."""
    captions, vision, fusion = config["captions"], config["vision"], config["fusion"]
    return _CARD.format(
        id=bundle_id,
        fitted_on=fitted_on(training["data_kind"]),
        rows=training["rows"],
        data_kind=training["data_kind"],
        data_note=training["data_note"],
        architecture=vision["backbone"]["architecture"],
        members=_members(vision["backbone"].get("members", 1)),
        unfrozen=vision["finetune"]["unfrozen"],
        size=vision["preprocessing"]["size"],
        learned=_learned(vision["finetune"]),
        places=_places(training.get("boxed", 0)),
        captioner=_captioner(captions),
        max_terms=fusion["max_terms"],
        regularisation=fusion["regularisation"],
        cross_validation=cross_validation_table(cross_validation),
        figures=figures_table(figures),
    )


def _members(count: int) -> str:
    return f" with {count} last stages side by side" if count > 1 else ""


def _learned(finetune: dict[str, Any]) -> str:
    size = finetune.get("size")
    return "" if size is None or finetune["unfrozen"] == "none" else f", fine-tuned at {size} x {size}"


def _places(boxed: int) -> str:
    return f"; taught where the fractures are by boxes on {boxed} radiographs" if boxed else ""


def _captioner(captions: dict[str, Any]) -> str:
    if captions["captioner"] == "none":
        return "none; decides by the image alone"
    name = captions["model"] if captions["captioner"] == "gemma" else captions["captioner"]
    return f"{name}, prompt '{captions['prompt']}', quantisation {captions['quantisation']}"


def figures_table(figures: dict[str, Any] | None) -> str:
    """Return the main figures of an evaluation with their intervals, as Markdown."""
    if figures is None:
        return "Not evaluated yet: run `fracray evaluate`."
    rows, confidence = figures["rows"], figures["confidence"]
    return (
        f"Figures on {rows['count']} radiographs ({rows['fractured']} fractured) "
        f"that the bundle was not fitted on, with {confidence:.0%} intervals. {figures['data_note']}\n\n"
        + _table(figures)
    )


def cross_validation_table(figures: dict[str, Any] | None) -> str:
    """Return the main figures of the cross-validation of a bundle's training, as Markdown."""
    if figures is None:
        return "Not cross-validated."
    rows, confidence = figures["rows"], figures["confidence"]
    return (
        f"Cross-validation: the {rows['count']} rows it was fitted on ({rows['fractured']} fractured), each "
        f"scored without its fold ({len(rows['folds'])} folds of whole groups), with {confidence:.0%} "
        "intervals. Operating point and calibration were chosen on these very scores.\n\n" + _table(figures)
    )


def _table(figures: dict[str, Any]) -> str:
    lines = ["| system | " + " | ".join(_SHOWN) + " |", "|---" * (len(_SHOWN) + 1) + "|"]
    for system, values in figures["systems"].items():
        lines.append(f"| {system} | " + " | ".join(in_words(values[metric], 3) for metric in _SHOWN) + " |")
    return "\n".join(lines)
