"""Hits and misses of an evaluation, each with what the answer rests on, for the report."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from fracray.bundle.bundle import Bundle
from fracray.captions.captioner import Caption
from fracray.evaluation.evaluate import Evaluation
from fracray.explain.answer import Answer, answer
from fracray.fusion.rows import Rows
from fracray.radiographs.read import read_bytes, read_radiograph

KINDS = {
    (1, 0): "missed fracture",
    (0, 1): "false alarm",
    (1, 1): "fracture found",
    (0, 0): "rightly cleared",
}
"""(label, decision) to what a reader calls it, in the order in which the gallery takes turns."""

_SIDE = 420
"""Longest side of a picture in the gallery, pixels: keeps a report of 12 pairs near 3 MB."""
_TERMS = 5


@dataclass(frozen=True)
class GalleryEntry:
    """One radiograph of the report: `title` is one of `KINDS`, pictures are PNG bytes, `text` the figures."""

    title: str
    original_png: bytes
    overlay_png: bytes
    caption: str
    text: str


def choose_rows(
    labels: Sequence[int], decisions: Sequence[int], margins: Sequence[float], count: int
) -> list[int]:
    """Return up to `count` row positions, the kinds of `KINDS` taking turns, the clearest of each kind first.

    `margins` [n] say how far the probability lies from the threshold.
    """
    queues = [
        sorted(
            (row for row, pair in enumerate(zip(labels, decisions, strict=True)) if pair == kind),
            key=lambda row: (-abs(margins[row]), row),
        )
        for kind in KINDS
    ]
    longest = max(len(queue) for queue in queues)
    in_turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return in_turns[:count]


def gallery(bundle: Bundle, rows: Rows, evaluation: Evaluation, count: int) -> list[GalleryEntry]:
    """Read and answer `count` of the evaluated `rows` again, with heat maps; sorted by kind.

    Raises `RadiographError` when a file can no longer be read.
    """
    fused = evaluation.predictions.filter(pc.field("system") == "fused")
    labels, decisions = fused["label"].to_pylist(), fused["decision"].to_pylist()
    margins = [
        value - bundle.pipeline.classifiers["fused"].threshold for value in fused["probability"].to_pylist()
    ]
    chosen = choose_rows(labels, decisions, margins, count)
    order = list(KINDS)
    chosen.sort(key=lambda row: order.index((labels[row], decisions[row])))
    return [_entry(bundle, rows, row, KINDS[labels[row], decisions[row]]) for row in chosen]


def _entry(bundle: Bundle, rows: Rows, row: int, kind: str) -> GalleryEntry:
    settings = bundle.config.radiographs
    radiograph = read_radiograph(read_bytes(rows.uris[row], settings), settings)
    text = rows.captions[row] or None
    caption = Caption(text, "ok") if text else Caption(None, "empty", "nothing stored")
    reply = answer(bundle, [radiograph], [caption], with_overlay=True)[0]
    original = Image.fromarray((radiograph.pixels * 255).round().astype(np.uint8))
    return GalleryEntry(
        title=kind,
        original_png=_small(original),
        overlay_png=_small(Image.open(BytesIO(base64.b64decode(reply.overlay_png or "")))),
        caption=rows.captions[row],
        text=f"{PurePosixPath(rows.uris[row]).name}\n{_text(reply)}",
    )


def _text(reply: Answer) -> str:
    parts = reply.contributions
    text = (
        f"probability {reply.probability:.2f}, operating point {reply.operating_point:.2f}\n"
        f"logit {parts.logit:+.2f} = start {parts.intercept:+.2f}, image {parts.image:+.2f}"
    )
    if reply.image_alone:
        return text
    terms = ", ".join(f"{term.term} {term.weight:+.2f}" for term in parts.terms[:_TERMS])
    return f"{text}, words {parts.words:+.2f}\nweightiest words: {terms or 'none'}"


def _small(picture: Image.Image) -> bytes:
    picture.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
