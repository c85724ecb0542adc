"""The report of an evaluation: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from rich.table import Table

from fracray.evaluation.evaluate import METRICS, VERDICTS, Evaluation
from fracray.evaluation.gallery import GalleryEntry
from fracray.evaluation.plots import calibration_plot, data_uri, precision_recall_plot, roc_plot
from fracray.fusion.classifier import SYSTEMS

SYSTEM_NAMES = {
    "majority": "Commoner class",
    "caption_verdict": "Caption's verdict",
    "image": "Image alone",
    "words": "Words alone",
    "fused": "Fused",
}
METRIC_NAMES = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
}
_SMALL_P = 0.001
_REPEATING = 0.5
"""Share of one caption above which the summary warns of a captioner that says the same of most."""
_UNREAD = 0.1
"""Share of captions without labelled lines above which the summary says so."""


def write_report(evaluation: Evaluation, path: Path, gallery: Sequence[GalleryEntry] = ()) -> None:
    """Write the report of `evaluation` to `path`; entries of one title in `gallery` must stand together."""
    environment = Environment(
        loader=PackageLoader("fracray", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval, "p_value": p_value, "percent": percent}
    figures = evaluation.figures
    page = environment.get_template("report.html.j2").render(
        figures=figures,
        system_names=SYSTEM_NAMES,
        metric_names=METRIC_NAMES,
        verdicts=VERDICTS,
        summary=summary(figures),
        notes=_notes(figures),
        plots=_plots(evaluation),
        gallery=[
            (title, [_shown(entry) for entry in entries])
            for title, entries in groupby(gallery, key=lambda entry: entry.title)
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)


def figures_table(figures: Mapping[str, Any]) -> Table:
    """Return the main figures as a table for a terminal, with the data note below."""
    rows = figures["rows"]
    table = Table(
        title=f"{rows['count']} radiographs, {rows['fractured']} fractured; "
        f"{percent(figures['confidence'])} intervals",
        caption=f"{figures['data_note']} {figures['notice']}",
    )
    shown = ("accuracy", "sensitivity", "specificity", "auroc")
    table.add_column("system")
    for metric in shown:
        table.add_column(METRIC_NAMES[metric])
    for system, values in figures["systems"].items():
        cells = [f"{number(values[metric]['value'])}\n{interval(values[metric])}" for metric in shown]
        table.add_row(SYSTEM_NAMES[system], *cells)
    return table


def summary(figures: Mapping[str, Any]) -> list[str]:
    """Return the result in a few sentences, the sobering comparisons included."""
    rows, systems = figures["rows"], figures["systems"]
    fused, majority = systems["fused"], systems["majority"]
    counts, constant = fused["confusion"], majority["confusion"]
    right, constant_right = counts["tp"] + counts["tn"], constant["tp"] + constant["tn"]
    answer = "fractured" if constant["tp"] else "not fractured"
    found = f"{counts['tp']} of {rows['fractured']} fractures called"
    cleared = f"{counts['tn']} of {rows['count'] - rows['fractured']} others cleared"
    sentences = [
        f"Fused: {found}, {cleared}; right on {right} of {rows['count']}.",
        f"Always answering '{answer}' is right on {constant_right} of {rows['count']}.",
    ]
    if fused["accuracy"]["low"] <= majority["accuracy"]["value"]:
        sentences.append("The fused accuracy is not shown to be above that constant answer.")
    sentences += [comparison_sentence(comparison) for comparison in figures["comparisons"]]
    if (captions := figures["captions"]) is None:
        return [*sentences, "This bundle decides by the image alone: fused and image alone are the same."]
    if captions["commonest_share"] > _REPEATING:
        share = percent(captions["commonest_share"])
        sentences.append(f"One caption stands at {share} of the radiographs: the captioner repeats itself.")
    unread = captions["findings"]["unparsed"] / captions["count"]
    if unread > _UNREAD:
        sentences.append(f"{percent(unread)} of the captions are not in the form that was asked for.")
    return sentences


def comparison_sentence(comparison: Mapping[str, Any]) -> str:
    """Say whether the difference of two AUROCs is one, by its interval."""
    first, second = SYSTEM_NAMES[comparison["first"]], SYSTEM_NAMES[comparison["second"]].lower()
    difference = comparison["auroc_difference"]
    if difference["value"] is None:
        return f"{first} against {second}: the rows are of one class, so nothing can be ranked."
    if difference["low"] is None:
        return f"{first} against {second}: no interval for the difference."
    if difference["low"] > 0:
        return f"{first} ranks these radiographs better than {second}: AUROC {_signed(difference)}."
    if difference["high"] < 0:
        return f"{first} ranks these radiographs worse than {second}: AUROC {_signed(difference)}."
    return f"{first} and {second} are not told apart by these rows: AUROC {_signed(difference)}."


def number(value: float | None) -> str:
    """Write a figure with three digits, or none."""
    return "none" if value is None else f"{value:.3f}"


def interval(figure: Mapping[str, Any]) -> str:
    """Write the interval of a figure; empty where there is none."""
    return "" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"


def p_value(p: float) -> str:
    """Write a p value, the small ones as a bound."""
    return f"p < {_SMALL_P}" if p < _SMALL_P else f"p = {p:.3f}"


def percent(share: float) -> str:
    """Write a share as a percentage of at most three digits."""
    return f"{100 * share:.3g} %"


def _signed(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"


def _notes(figures: Mapping[str, Any]) -> dict[str, int]:
    """Return each distinct note of the table of figures with its number, in order of appearance."""
    found: dict[str, int] = {}
    for system in figures["systems"].values():
        for metric in METRICS:
            note = system[metric]["note"]
            if note is not None:
                found.setdefault(note, len(found) + 1)
    return found


def _plots(evaluation: Evaluation) -> list[dict[str, str]]:
    """Return picture, title and caption of each plot; none where all rows are of one class."""
    systems, confidence = evaluation.figures["systems"], evaluation.figures["confidence"]
    if systems["fused"]["auroc"]["value"] is None:
        return []
    columns = evaluation.predictions.select(["system", "label", "probability"]).to_pydict()
    system_of, label_of = np.array(columns["system"]), np.array(columns["label"], dtype=np.int8)
    labels = label_of[system_of == "fused"]
    fitted = [name for name in SYSTEMS if name in systems]
    probabilities: dict[str, NDArray[np.float64]] = {
        name: np.array(columns["probability"])[system_of == name] for name in fitted
    }
    marked = {name: system for name, system in systems.items() if name != "majority"}
    cross = " Cross: caption's verdict." if "caption_verdict" in systems else ""
    roc_points = {
        name: (1 - system["specificity"]["value"], system["sensitivity"]["value"])
        for name, system in marked.items()
    }
    recall_points = {
        name: (system["sensitivity"]["value"], system["precision"]["value"])
        for name, system in marked.items()
        if system["precision"]["value"] is not None
    }
    legends: dict[str, dict[str, str]] = {
        metric: {name: f"{SYSTEM_NAMES[name]}, {number(systems[name][metric]['value'])}" for name in fitted}
        for metric in ("auroc", "auprc")
    }
    return [
        {
            "picture": roc_plot(labels, probabilities, legends["auroc"], roc_points),
            "title": "ROC curves",
            "caption": f"Legend: AUROC. Dots: operating points.{cross} Grey: chance.",
        },
        {
            "picture": precision_recall_plot(labels, probabilities, legends["auprc"], recall_points),
            "title": "Precision and recall",
            "caption": "Legend: AUPRC. Grey: calling every row. Precision falls with rarer fractures.",
        },
        {
            "picture": calibration_plot(labels, probabilities["fused"], confidence),
            "title": "Calibration, fused",
            "caption": f"Equal-sized bins, {percent(confidence)} intervals. Diagonal: probabilities hold.",
        },
    ]


def _shown(entry: GalleryEntry) -> dict[str, str]:
    return {
        "original": data_uri(entry.original_png, "png"),
        "overlay": data_uri(entry.overlay_png, "png"),
        "caption": entry.caption,
        "text": entry.text,
    }
