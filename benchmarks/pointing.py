"""Where a bundle looks on radiographs with boxes around their fractures, beside guesses.

    python benchmarks/pointing.py BUNDLE manifest.parquet boxes.parquet --out pointing --overlays 10

MANIFEST and BOXES come from `fracray manifest --boxes`. Judged are the fractured radiographs with boxes that
the bundle was not fitted on, by the map of its decision. A hit: the hottest pixel lies in a box.
Writes pointing.json, and as many overlays as asked for, to look at: green are the fractures' boxes.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pointing_game import Pointed, judge, outlined, wilson

from fracray.bundle.bundle import Bundle, load_bundle
from fracray.captions.captioner import Captioner, prepare
from fracray.captions.choose import open_captioner
from fracray.evaluation.metrics import mcnemar
from fracray.explain.answer import answer
from fracray.explain.heat_map import heat_maps
from fracray.radiographs.read import read_bytes, read_radiograph
from fracray.schema import BOXES, MANIFEST, read_table

SMALL, LARGE = 0.01, 0.05
"""Shares of the picture that part small, middle and large fractures."""


@dataclass(frozen=True)
class Judged:
    """One radiograph: what it shows, what the bundle says of it, and where its map points."""

    image_id: str
    region: str | None
    probability: float
    called: bool
    pointed: Pointed

    @property
    def size(self) -> str:
        """Small, middle or large, by the share of the picture that the boxes cover."""
        share = self.pointed.box_share
        return "below 1 %" if share < SMALL else "1 to 5 %" if share < LARGE else "above 5 %"


def boxes_by_image(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the boxes [k, 4] (xmin, ymin, xmax, ymax) of each image."""
    found = defaultdict(list)
    for row in read_table(path, BOXES).to_pylist():
        found[row["image_id"]].append([row[name] for name in ("xmin", "ymin", "xmax", "ymax")])
    return {image_id: np.array(boxes, np.float32) for image_id, boxes in found.items()}


def unseen_fractures(bundle: Bundle, manifest: Path, boxed: set[str]) -> list[dict[str, Any]]:
    """Return the manifest's rows that are judged; ends with a line when there are none."""
    known = read_table(manifest, MANIFEST).to_pylist()
    fitted = {row["group"] for row in known if row["image_id"] in bundle.training_ids}
    rows = [row for row in known if row["status"] == "ok" and row["label"] == 1 and row["image_id"] in boxed]
    unseen = [row for row in rows if row["group"] not in fitted]
    if not unseen:
        raise SystemExit(
            f"none of {len(rows)} fractured radiographs with boxes is new to the bundle; "
            "give a manifest of others"
        )
    return unseen


def judged(
    bundle: Bundle,
    captioner: Captioner,
    row: dict[str, Any],
    boxes: NDArray[np.float32],
    overlay: Path | None,
) -> Judged:
    """Judge one radiograph; with `overlay`, write its picture there."""
    settings = bundle.config.radiographs
    radiograph = read_radiograph(read_bytes(row["uri"], settings), settings)
    captions = captioner.caption([prepare(radiograph.pixels, captioner.image_size)])
    (reply,) = answer(bundle, [radiograph], captions, with_overlay=False)
    (heat,) = heat_maps(bundle, [radiograph], [captions[0].text or ""])
    if overlay is not None:
        outlined(heat.overlay_png, boxes, radiograph.pixels.shape).save(overlay)
    pointed = judge(radiograph.pixels, heat.heat, heat.box, boxes)
    return Judged(row["image_id"], row["region"], reply.probability, reply.fracture, pointed)


def share(rows: list[Judged], hit: Callable[[Pointed], bool]) -> str:
    """Return the share of `rows` for which `hit` holds, with its 95 % interval."""
    figure = wilson([hit(row.pointed) for row in rows])
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def print_table(rows: list[Judged]) -> None:
    """Print hits beside guesses: all rows, those called fractured and those not, by size and by region."""
    parts: dict[str, list[Judged]] = {"all": rows}
    parts["called fractured"] = [row for row in rows if row.called]
    parts["missed"] = [row for row in rows if not row.called]
    for size in ("below 1 %", "1 to 5 %", "above 5 %"):
        parts[f"boxes {size} of the picture"] = [row for row in rows if row.size == size]
    for region in sorted({row.region for row in rows if row.region}):
        parts[region] = [row for row in rows if row.region == region]
    print("| radiographs | n | pointing game | overlap >= 0.1 | centre | centre of mass | box share |")
    print("|---|---|---|---|---|---|---|")
    for name, part in parts.items():
        if part:
            cells = [
                share(part, lambda p: p.hit),
                share(part, lambda p: p.overlap >= 0.1),
                share(part, lambda p: p.centre),
                share(part, lambda p: p.centre_of_mass),
                f"{np.mean([row.pointed.box_share for row in part]):.3f}",
            ]
            print(f"| {name} | {len(part)} | " + " | ".join(cells) + " |")
    hits = np.array([row.pointed.hit for row in rows], np.int8)
    guesses = np.array([row.pointed.centre or row.pointed.centre_of_mass for row in rows], np.int8)
    only_map, only_guess, p = mcnemar(np.ones(len(rows), np.int8), hits, guesses)
    empty = sum(row.pointed.empty for row in rows)
    print(
        f"\nOn {only_map} radiographs the map hits and neither guess does, on {only_guess} a guess hits and "
        f"the map does not (McNemar p = {p:.2g}; two guesses have two chances). "
        f"{empty} maps are empty and count as misses."
    )


def main() -> None:
    """Judge, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("bundle", "manifest", "boxes"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--out", type=Path, default=Path("pointing"))
    parser.add_argument("--overlays", type=int, default=0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    bundle, boxes = load_bundle(asked.bundle), boxes_by_image(asked.boxes)
    captioner, rows = open_captioner(bundle.config.captions), []
    for number, row in enumerate(unseen_fractures(bundle, asked.manifest, set(boxes))):
        overlay = asked.out / f"{number:04d}.png" if number < asked.overlays else None
        rows.append(judged(bundle, captioner, row, boxes[row["image_id"]], overlay))
    found = {"bundle": bundle.id, "data": bundle.data_note, "radiographs": [asdict(row) for row in rows]}
    (asked.out / "pointing.json").write_text(json.dumps(found, indent=1) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
