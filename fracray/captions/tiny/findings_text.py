"""The findings of a phantom in words: what the embedded captioner learns to write."""

import numpy as np

from fracray.radiographs.phantoms import PhantomTruth

DISPLACED_MM = 2.0
ANGULATED_DEG = 5.0
"""Less than this is hard to see at the captioner's resolution, and is not mentioned."""

_LINES = {
    "transverse": "transverse lucent line",
    "oblique": "oblique lucent line",
    "spiral": "spiral lucent line",
    "comminuted": "several lucent lines",
    "greenstick": "lucent line on one side",
    "buckle": "dense bulging band",
    "hairline": "faint thin line",
}
"""Words for each kind of fracture that phantoms know."""


_SEEN = {
    "upper arm": "humerus",
    "forearm": "radius, ulna",
    "wrist": "radius, ulna, carpals",
    "hand": "metacarpals, phalanges",
    "thigh": "femur",
    "lower leg": "tibia, fibula",
    "ankle": "tibia, fibula, talus",
    "foot": "metatarsals, phalanges",
}
"""Bones that a region shows."""

_LOOKALIKES = {
    "nutrient canal": "lines",
    "collimator edge": "lines",
    "healed fracture": "cortex",
    "accessory ossicle": "bones",
    "growth plate": "joints",
    "skin fold": "soft tissue",
    "cast": "devices",
}
"""The line in which each feature that resembles a fracture is mentioned."""


def write_findings(truth: PhantomTruth, seed: int, *, impression: bool = True) -> str:
    """Return the labelled lines about a phantom; `seed` picks among wordings of the same meaning.

    Whether there is a fracture is decided by one word, the same in every wording, ahead of which bone it is:
    the probability of "broken" is then not spread over many bones when the most probable word is written.
    """
    lines = [
        f"Region: {truth.region}, {truth.projection} view.",
        f"Bones: {_listed(truth, 'bones', _SEEN[truth.region])}.",
        f"Cortex: {_cortex(truth)}.",
        f"Lines: {_listed(truth, 'lines', _LINES[truth.kind] if truth.kind else '')}.",
        f"Displacement: {_present((truth.displacement_mm or 0.0) >= DISPLACED_MM)}.",
        f"Angulation: {_present((truth.angulation_deg or 0.0) >= ANGULATED_DEG)}.",
        f"Joints: {_listed(truth, 'joints', 'aligned')}.",
        f"Soft tissue: {_listed(truth, 'soft tissue', 'swollen' if truth.soft_tissue_swelling else '')}.",
        f"Devices: {_listed(truth, 'devices', _devices(truth))}.",
    ]
    if impression:
        lines.append(f"Impression: {_impression(truth, np.random.default_rng(seed))}.")
    return "\n".join(lines)


def _has(truth: PhantomTruth, line: str) -> bool:
    return any(_LOOKALIKES[name] == line for name in truth.lookalikes)


def _listed(truth: PhantomTruth, line: str, first: str) -> str:
    words = [first] if first else []
    words += [name for name in truth.lookalikes if _LOOKALIKES[name] == line]
    return ", ".join(words) or "none"


def _cortex(truth: PhantomTruth) -> str:
    if truth.label:
        return f"broken, {truth.bone}, {truth.place}"
    return "smooth" + (", old callus" if _has(truth, "cortex") else "")


def _present(present: bool) -> str:
    return "yes" if present else "none"


def _devices(truth: PhantomTruth) -> str:
    return ", ".join(
        name for name, seen in (("metal implant", truth.hardware), ("marker", truth.side is not None)) if seen
    )


def _impression(truth: PhantomTruth, rng: np.random.Generator) -> str:
    if truth.label == 0:
        wordings: tuple[str, ...] = (
            "No fracture seen",
            "No fracture of the visible bones",
            "No evidence of a fracture",
        )
    else:
        wordings = (
            f"Fracture of the {truth.bone}, {truth.place}",
            f"Fracture in the {truth.place} of the {truth.bone}",
        )
    return str(rng.choice(wordings))
