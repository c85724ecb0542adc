"""The limbs: which bones a region shows, how large they are, and where they may break.

Sizes are those of an adult, rounded from common anatomical tables; each phantom scales and varies them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fracray.radiographs.phantoms.geometry import Tube
from fracray.radiographs.phantoms.limbs import FINGERS, ORDINALS, arm, foot, leg


@dataclass(frozen=True)
class Region:
    """A region: its limb, the bones that may break (and between which fractions), its field in mm."""

    name: str
    limb: str
    targets: tuple[tuple[str, float, float], ...]
    field: tuple[float, float]
    projections: tuple[str, ...] = ("frontal", "lateral", "oblique")
    weight: float = 1.0


_METACARPALS = tuple((f"{name} metacarpal", 0.14, 0.88) for name in ORDINALS)
_PROXIMAL = tuple((f"proximal phalanx of the {name}", 0.14, 0.86) for name in FINGERS)
_MIDDLE = tuple((f"middle phalanx of the {name}", 0.2, 0.8) for name in FINGERS[1:])
_METATARSALS = tuple((f"{name} metatarsal", 0.12, 0.88) for name in ORDINALS)

REGIONS = (
    Region("upper arm", "arm", (("humerus", 0.12, 0.9),), (130, 210), ("frontal", "lateral")),
    Region("forearm", "arm", (("radius", 0.1, 0.9), ("ulna", 0.14, 0.92)), (110, 190)),
    Region("wrist", "arm", (("radius", 0.84, 0.95), ("radius", 0.84, 0.95), ("ulna", 0.85, 0.95)), (75, 120)),
    Region("hand", "arm", _METACARPALS + _PROXIMAL + _MIDDLE, (70, 125), ("frontal", "oblique")),
    Region("thigh", "leg", (("femur", 0.18, 0.92),), (150, 230), ("frontal", "lateral")),
    Region(
        "lower leg", "leg", (("tibia", 0.08, 0.9), ("tibia", 0.08, 0.9), ("fibula", 0.1, 0.92)), (130, 210)
    ),
    Region(
        "ankle", "leg", (("tibia", 0.88, 0.965), ("fibula", 0.84, 0.965)), (85, 130), ("frontal", "oblique")
    ),
    Region(
        "foot",
        "foot",
        (*_METATARSALS, ("proximal phalanx of the great toe", 0.2, 0.8)),
        (80, 140),
        ("frontal", "oblique"),
    ),
)


def limb(name: str) -> tuple[list[Tube], list[Tube]]:
    """Bones and soft tissue of a limb (arm, leg or foot), seen from the front, of an average adult."""
    return {"arm": arm, "leg": leg, "foot": foot}[name]()


def individual(tube: Tube, rng: np.random.Generator) -> Tube:
    """One person's version of a bone: a little wider or narrower, thicker or thinner walls, another curve."""
    width = float(rng.normal(1.0, 0.06))
    bumps = rng.normal(1.0, 0.025, size=(len(tube.knots), 2))
    knots = tuple(
        (f, a * width * float(bumps[i, 0]), b * width * float(bumps[i, 1]))
        for i, (f, a, b) in enumerate(tube.knots)
    )
    cortex = tube.cortex * float(np.clip(rng.normal(1.0, 0.16), 0.6, 1.4))
    bow = tube.bow * float(rng.normal(1.0, 0.3)) + float(rng.normal(0.0, 0.006)) * tube.length
    return replace(tube, knots=knots, cortex=cortex, bow=bow)


def projected(tube: Tube, projection: str, bone: bool) -> Tube:
    """The tube as another projection shows it: neighbours slide over each other, widths become depths."""
    squeeze, turn = {"frontal": (1.0, 0.0), "oblique": (0.7, 0.5), "lateral": (0.3, 1.0)}[projection]
    if not bone:
        squeeze = 1.0
    width = 1 + turn * (tube.depth - 1) * (1.0 if bone else 0.3)
    return replace(
        tube,
        start=(tube.start[0] * squeeze, tube.start[1]),
        end=(tube.end[0] * squeeze, tube.end[1]),
        knots=tuple((f, a * width, b * width) for f, a, b in tube.knots),
        depth=tube.depth / width**2,
        bow=tube.bow * (1 + turn),
    )
