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


def write_findings(truth: PhantomTruth, seed: int) -> str:
    """Return seven labelled lines about a phantom; `seed` picks among wordings of the same meaning.

    Whether there is a fracture is decided by one word, the same in every wording, ahead of which bone it is:
    the probability of "broken" is then not spread over many bones when the most probable word is written.
    """
    rng = np.random.default_rng(seed)
    return "\n".join(
        [
            f"Region: {truth.region}, {truth.projection} view.",
            f"Bones: {_bones(truth)}.",
            f"Lines: {_lines(truth)}.",
            f"Alignment: {_alignment(truth)}.",
            f"Soft tissue: {'swollen' if truth.soft_tissue_swelling else 'normal'}.",
            f"Other: {_other(truth)}.",
            f"Impression: {_impression(truth, rng)}.",
        ]
    )


def _bones(truth: PhantomTruth) -> str:
    if truth.label == 0:
        return "smooth cortex"
    return f"broken cortex, {truth.bone}, {truth.place}"


def _lines(truth: PhantomTruth) -> str:
    return _LINES[truth.kind] if truth.kind else "none"


def _alignment(truth: PhantomTruth) -> str:
    words = []
    if (truth.displacement_mm or 0.0) >= DISPLACED_MM:
        words.append("displaced")
    if (truth.angulation_deg or 0.0) >= ANGULATED_DEG:
        words.append("angulated")
    return ", ".join(words) or "normal"


def _other(truth: PhantomTruth) -> str:
    seen = [*truth.lookalikes]
    if truth.hardware:
        seen.append("metal implant")
    if truth.side is not None:
        seen.append("marker")
    return ", ".join(seen) or "none"


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
