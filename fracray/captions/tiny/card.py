"""What the finished captioner can do on phantoms it has never seen, and the card that says so."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from scipy.stats import binomtest

from fracray.captions.captioner import prepare
from fracray.captions.choose import open_captioner
from fracray.captions.findings import parse_findings
from fracray.captions.tiny.architecture import (
    IMAGE_SIZE,
    IMAGE_TOKENS,
    PATCH,
    TEXT_LAYERS,
    TEXT_WIDTH,
    VISION_LAYERS,
    VISION_WIDTH,
    VOCABULARY,
)
from fracray.captions.tiny.phantom_set import FIRST_CARD_SEED
from fracray.captions.verdict import verdict
from fracray.config import CaptionSettings
from fracray.radiographs.phantoms import PhantomTruth, make_phantom

PHANTOMS = 1000
"""Phantoms on the card, as many fractured as chance makes them, in the size of their files: a share of 0.95
is known to 0.015 then."""
DISTINCT_OF = 200
"""Among so many of them distinct captions are counted."""


@dataclass(frozen=True)
class CardFigures:
    """Shares are 0 to 1. `impression`: an impression that says yes or no, rightly. `region_low`,
    `region_high`: 95 % interval (Wilson). `distinct`: captions that differ among the first `distinct_of`."""

    phantoms: int
    fractured: int
    impression: float
    sensitivity: float
    specificity: float
    region: float
    region_low: float
    region_high: float
    findings_ok: int
    distinct: int
    distinct_of: int
    per_second: float

    @property
    def balanced(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def measure(folder: Path, processes: int) -> CardFigures:
    """Caption held-out phantoms with the captioner in `folder`, in NF4, as an extraction would."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        shown = list(pool.map(_picture, range(FIRST_CARD_SEED, FIRST_CARD_SEED + PHANTOMS), chunksize=4))
    captioner = open_captioner(CaptionSettings(model=str(folder)))
    started = time.perf_counter()
    answers = captioner.caption([picture for picture, _ in shown])
    seconds = time.perf_counter() - started
    texts = [answer.text or "" for answer in answers]
    verdicts = np.array([verdict(text) for text in texts])
    fractured = np.array([truth.label == 1 for _, truth in shown])
    right = np.where(fractured, verdicts == "positive", verdicts == "negative")
    parsed = [parse_findings(text) for text in texts]
    regions = [
        findings.region.startswith(truth.region) for findings, (_, truth) in zip(parsed, shown, strict=True)
    ]
    region = binomtest(sum(regions), len(regions)).proportion_ci(method="wilson")
    return CardFigures(
        phantoms=len(shown),
        fractured=int(fractured.sum()),
        impression=float(right.mean()),
        sensitivity=float(right[fractured].mean()),
        specificity=float(right[~fractured].mean()),
        region=float(np.mean(regions)),
        region_low=float(region.low),
        region_high=float(region.high),
        findings_ok=sum(findings.status == "ok" for findings in parsed),
        distinct=len(set(texts[:DISTINCT_OF])),
        distinct_of=min(DISTINCT_OF, len(texts)),
        per_second=len(texts) / seconds,
    )


def write_card(
    folder: Path, plan: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], figures: CardFigures
) -> None:
    """Write README.md into `folder`: what it is, how it was made, its training curve, its figures."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fracray.captions.tiny", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("card.md.j2")
    shape = {
        "size": IMAGE_SIZE, "patch": PATCH, "tokens": IMAGE_TOKENS, "vision_layers": VISION_LAYERS,
        "vision_width": VISION_WIDTH, "text_layers": TEXT_LAYERS, "text_width": TEXT_WIDTH,
        "vocabulary": VOCABULARY,
    }  # fmt: skip
    megabytes = sum(file.stat().st_size for file in folder.iterdir() if file.name != "README.md") / 1e6
    stages = {row["stage"]: row["minutes"] for row in curve if "stage" in row}
    points = [row for row in curve if "stage" not in row]
    text = page.render(
        plan=plan, shape=shape, figures=figures, stages=stages, points=points, megabytes=megabytes
    )
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")


def _picture(seed: int) -> tuple[np.ndarray, PhantomTruth]:
    phantom = make_phantom(seed)
    pixels = np.rint(phantom.pixels * 255).astype(np.float32) / 255
    return prepare(pixels, IMAGE_SIZE), phantom.truth
