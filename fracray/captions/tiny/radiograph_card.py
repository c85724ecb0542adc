"""How far captions agree with the annotations of radiographs that their captioner had not seen, and the card
that says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fracray.captions.findings import Findings, parse_findings
from fracray.captions.tiny.radiograph_findings import largest_place
from fracray.captions.tiny.radiograph_set import Annotations
from fracray.captions.verdict import verdict


@dataclass(frozen=True)
class Agreement:
    """Counts of radiographs, and shares from 0 to 1 of captions that name what the annotations name.

    `region` and `projection` right, `by_region` the former for each region; `sensitivity` and `specificity`
    of an impression that says yes; `place` of the largest fracture right, of the fractured ones called so;
    `metal` named where there is some (both nan where nothing is there to name); `findings_ok`: captions whose
    labelled lines were all read; `distinct` captions.
    """

    radiographs: int
    fractured: int
    region: float
    by_region: Mapping[str, float]
    projection: float
    sensitivity: float
    specificity: float
    place: float
    metal: float
    findings_ok: int
    distinct: int

    @property
    def balanced(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def agreement(captions: Sequence[str], annotations: Sequence[Annotations]) -> Agreement:
    """Compare captions to the annotations of their radiographs."""
    parsed = [parse_findings(caption) for caption in captions]
    pairs = list(zip(parsed, annotations, strict=True))
    fractured = np.array([row.fractured for row in annotations])
    positive = np.array([verdict(caption) == "positive" for caption in captions])
    regions = np.array([_region_and_view(said)[0] == row.region for said, row in pairs])
    views = [_region_and_view(said)[1] == row.projection.replace("+", ", ") for said, row in pairs]
    metal = np.array(["hardware" in said.devices for said in parsed])
    places = [bool(row.boxes) and largest_place(row) in said.cortex for said, row in pairs]
    named = np.array([row.region for row in annotations])
    return Agreement(
        radiographs=len(annotations),
        fractured=int(fractured.sum()),
        region=float(np.mean(regions)),
        by_region={region: _share(regions, named == region) for region in sorted(set(named.tolist()))},
        projection=float(np.mean(views)),
        sensitivity=_share(positive, fractured),
        specificity=_share(~positive, ~fractured),
        place=_share(np.array(places), np.array([bool(row.boxes) for row in annotations]) & positive),
        metal=_share(metal, np.array([row.hardware for row in annotations])),
        findings_ok=sum(findings.status == "ok" for findings in parsed),
        distinct=len(set(captions)),
    )


def _region_and_view(findings: Findings) -> tuple[str, str]:
    region, _, view = findings.region.removesuffix(".").partition(", ")
    return region, view.removesuffix(" view")


def _share(right: np.ndarray, rows: np.ndarray) -> float:
    """The share of `rows` (bool [n]) that is `right` (bool [n])."""
    return float(right[rows].mean()) if rows.any() else float("nan")


def write_radiograph_card(folder: Path, plan: Mapping[str, Any], folds: int, figures: Agreement) -> None:
    """Write README.md into the `folder` of the captioner of all radiographs; `figures` are out of fold."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fracray.captions.tiny", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("radiograph_card.md.j2")
    text = page.render(plan=plan, folds=folds, figures=figures)
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")
