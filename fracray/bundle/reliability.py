"""How far the answers of a bundle can be trusted: what it was fitted on, and how often it was right."""

from typing import Any, Literal

DataKind = Literal["phantoms", "radiographs"]

NOT_EVALUATED = "Not evaluated: nothing is known about how often it is right."

_FITTED_ON: dict[DataKind, str] = {
    "phantoms": "Fitted on phantoms: the answer means nothing on a real radiograph.",
    "radiographs": "Fitted on radiographs.",
}
_SHOWN = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}


def reliability(kind: DataKind, figures: dict[str, Any] | None) -> str:
    """Return what a bundle was fitted on, and the fused system's figures on rows held out, in words.

    Every place that shows an answer shows this beside it. `figures` are those that evaluation writes; None:
    there was no evaluation.
    """
    return f"{fitted_on(kind)} {_measured(kind, figures)}"


def fitted_on(kind: DataKind) -> str:
    """Return what the kind of data that a bundle was fitted on means for its answers."""
    return _FITTED_ON[kind]


def _measured(kind: DataKind, figures: dict[str, Any] | None) -> str:
    if figures is None:
        return NOT_EVALUATED
    rows, fused = figures["rows"], figures["systems"]["fused"]
    measured_on = figures.get("data_kind", kind)
    shown = ", ".join(f"{name} {in_words(fused[metric])}" for metric, name in _SHOWN.items())
    return (
        f"On {rows['count']} held-out {measured_on} ({rows['fractured']} fractured), "
        f"with {figures['confidence']:.0%} intervals: {shown}."
    )


def in_words(figure: dict[str, Any], digits: int = 2) -> str:
    """Return a figure of an evaluation with its interval, where it has these."""
    if figure["value"] is None:
        return "not defined"
    if figure["low"] is None:
        return f"{figure['value']:.{digits}f}"
    return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"
