"""How far captions agree with the annotations of radiographs that their captioner had not seen, and the card
that says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fracray.captions.findings import parse_findings
from fracray.captions.tiny.radiograph_set import Annotations
from fracray.captions.verdict import verdict


@dataclass(frozen=True)
class Agreement:
    """Counts of radiographs, and shares from 0 to 1 of captions that name what the annotations name.

    `region` and `projection` right; `sensitivity` and `specificity` of an impression that says yes;
    `findings_ok`: captions whose labelled lines were all read; `distinct` captions.
    """

    radiographs: int
    fractured: int
    region: float
    projection: float
    sensitivity: float
    specificity: float
    findings_ok: int
    distinct: int

    @property
    def balanced(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def agreement(captions: Sequence[str], annotations: Sequence[Annotations]) -> Agreement:
    """Compare captions to the annotations of their radiographs, which must hold both classes."""
    parsed = [parse_findings(caption) for caption in captions]
    fractured = np.array([row.fractured for row in annotations])
    positive = np.array([verdict(caption) == "positive" for caption in captions])
    regions, views = zip(
        *[findings.region.removesuffix(".").partition(", ")[::2] for findings in parsed], strict=True
    )
    return Agreement(
        radiographs=len(annotations),
        fractured=int(fractured.sum()),
        region=float(np.mean([said == row.region for said, row in zip(regions, annotations, strict=True)])),
        projection=float(
            np.mean(
                [
                    said.removesuffix(" view") == row.projection.replace("+", ", ")
                    for said, row in zip(views, annotations, strict=True)
                ]
            )
        ),
        sensitivity=float(positive[fractured].mean()),
        specificity=float((~positive)[~fractured].mean()),
        findings_ok=sum(findings.status == "ok" for findings in parsed),
        distinct=len(set(captions)),
    )


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
