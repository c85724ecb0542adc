"""Curves of an evaluation as self-contained pictures."""

import base64
from collections.abc import Mapping
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from fracray.evaluation.metrics import proportion

STYLES = {
    "image": ("#0072B2", (0, (5, 1.5))),
    "words": ("#E69F00", (0, (1.5, 1.2))),
    "fused": ("#007A5A", "solid"),
}
"""Colour and dash of each system, told apart without colour vision (after Okabe and Ito) and in grey."""

_VERDICT_COLOUR = "#333F48"
_ROWS_PER_BIN = 12
_MOST_BINS = 8
_RC = {"svg.hashsalt": "fracray", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}

Points = Mapping[str, tuple[float, float]]


def roc_plot(
    labels: NDArray[np.int8],
    probabilities: Mapping[str, NDArray[np.float64]],
    names: Mapping[str, str],
    operating: Points,
) -> str:
    """Return ROC curves by system; `operating` gives points (1 - specificity, sensitivity) to mark."""
    canvas, axes = _canvas("1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="#9AA5AE", linewidth=0.8)
    for system, values in probabilities.items():
        false_rate, true_rate, _ = roc_curve(labels, values, drop_intermediate=False)
        _line(axes, system, false_rate, true_rate, names[system])
    _points(axes, operating)
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)
    return _as_uri(canvas)


def precision_recall_plot(
    labels: NDArray[np.int8],
    probabilities: Mapping[str, NDArray[np.float64]],
    names: Mapping[str, str],
    operating: Points,
) -> str:
    """Return the precision-recall curves by system; the grey line is the share of fractured rows."""
    canvas, axes = _canvas("sensitivity (recall)", "precision")
    axes.axhline(float(np.mean(labels)), color="#9AA5AE", linewidth=0.8)
    for system, values in probabilities.items():
        precision, recall, _ = precision_recall_curve(labels, values)
        _line(axes, system, recall, precision, names[system], drawstyle="steps-post")
    _points(axes, operating)
    axes.legend(loc="lower left", frameon=False, fontsize=8.5)
    return _as_uri(canvas)


def calibration_plot(labels: NDArray[np.int8], probabilities: NDArray[np.float64], confidence: float) -> str:
    """Return fractured shares against mean probabilities in bins of equal size, with exact intervals."""
    canvas, axes = _canvas("probability given", "share fractured")
    axes.plot([0, 1], [0, 1], color="#9AA5AE", linewidth=0.8)
    bins = int(np.clip(len(labels) // _ROWS_PER_BIN, 1, _MOST_BINS))
    colour = STYLES["fused"][0]
    for chosen in np.array_split(np.argsort(probabilities, kind="stable"), bins):
        share = proportion(int(labels[chosen].sum()), len(chosen), confidence, "")
        if share.value is None or share.low is None or share.high is None:
            continue
        centre = float(probabilities[chosen].mean())
        axes.plot([centre, centre], [share.low, share.high], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(centre, share.value, "o", color=colour, markersize=5)
    return _as_uri(canvas)


def _canvas(across: str, up: str) -> tuple[Canvas, Axes]:
    with matplotlib.rc_context(_RC):
        canvas = Canvas(figsize=(3.7, 3.5), layout="constrained")
        axes = canvas.add_subplot()
    axes.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(color="#E6EAED", linewidth=0.6)
    axes.set_axisbelow(True)
    return canvas, axes


def _line(
    axes: Axes,
    system: str,
    across: NDArray[np.float64],
    up: NDArray[np.float64],
    name: str,
    drawstyle: str = "default",
) -> None:
    colour, dash = STYLES[system]
    axes.plot(across, up, color=colour, linestyle=dash, linewidth=1.8, label=name, drawstyle=drawstyle)


def _points(axes: Axes, operating: Points) -> None:
    for system, (across, up) in operating.items():
        if system in STYLES:
            axes.plot(
                across, up, "o", color=STYLES[system][0], markersize=6, markeredgecolor="white", zorder=5
            )
        else:
            axes.plot(across, up, "x", color=_VERDICT_COLOUR, markersize=7, markeredgewidth=2, zorder=5)


def _as_uri(canvas: Canvas) -> str:
    buffer = BytesIO()
    with matplotlib.rc_context(_RC):
        # Without the date the same evaluation gives the same file.
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return data_uri(buffer.getvalue(), "svg+xml")


def data_uri(data: bytes, kind: str) -> str:
    """Return the bytes of a picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
