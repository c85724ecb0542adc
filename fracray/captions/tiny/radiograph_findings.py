"""The findings of an annotated radiograph in words: what a captioner of real bones learns to write.

Only what the annotations say is written. They know nothing of cortex, displacement or joints as such, so
those lines say whether and where there is a fracture, or are left out.
"""

import numpy as np

from fracray.captions.tiny.radiograph_set import Annotations

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def write_radiograph_findings(annotations: Annotations, seed: int, *, impression: bool = True) -> str:
    """Return labelled lines about a radiograph; `seed` picks among wordings of the same meaning.

    As with phantoms, one word that is the same in every wording decides whether there is a fracture, ahead
    of where it is.
    """
    rng = np.random.default_rng(seed)
    lines = [
        f"Region: {annotations.region}, {annotations.projection.replace('+', ', ')} view.",
        f"Cortex: {_cortex(annotations)}.",
        f"Lines: {_lines(annotations)}.",
        f"Devices: {'metal hardware' if annotations.hardware else 'none'}.",
        f"Other: {'several views in one picture' if annotations.several_views else 'one view'}.",
    ]
    if impression:
        lines.append(f"Impression: {_impression(annotations, rng)}.")
    return "\n".join(lines)


def place(box: tuple[float, float, float, float]) -> str:
    """Return which third of the picture, down and across, holds the middle of `box` (shares of the
    picture)."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    down, across = (min(2, max(0, int(3 * middle))) for middle in (y, x))
    return f"{_ROWS[down]} third, {_COLUMNS[across]}"


def largest_place(annotations: Annotations) -> str:
    """Return the place of the largest fracture."""
    return place(max(annotations.boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])))


def _cortex(annotations: Annotations) -> str:
    return f"broken, {largest_place(annotations)}" if annotations.fractured else "smooth"


def _lines(annotations: Annotations) -> str:
    count = len(annotations.boxes)
    return "none" if count == 0 else "lucent line" if count == 1 else "lucent lines in several places"


def _impression(annotations: Annotations, rng: np.random.Generator) -> str:
    if not annotations.fractured:
        return str(rng.choice(["No fracture seen", "No fracture of the visible bones"]))
    where = largest_place(annotations)
    return str(rng.choice([f"Fracture in the {where}", f"Fracture of the {annotations.region}, {where}"]))
