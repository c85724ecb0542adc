"""Command: predict."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from fracray.bundle.bundle import Bundle, is_bundle, load_bundle
from fracray.bundle.shipped import shipped_bundle
from fracray.captions.captioner import Captioner, prepare
from fracray.captions.choose import open_captioner
from fracray.cli.options import BundleOrShipped
from fracray.cli.screen import say
from fracray.errors import FracrayError, RadiographError, UsageError
from fracray.explain.answer import NOTICE, Answer, answer
from fracray.fingerprint import image_id
from fracray.radiographs.read import read_bytes, read_radiograph


class SomeRadiographsFailedError(FracrayError):
    """Some files could not be answered; the others were."""


def predict(
    images: Annotated[list[Path], typer.Argument(help="radiographs: PNG, JPEG, TIFF or DICOM")],
    bundle: BundleOrShipped = None,
    overlays: Annotated[
        Path | None, typer.Option(help="folder for the heat maps", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON per file")] = False,
) -> None:
    """Answer for radiographs, in this process: probability, caption, what the image and each word added."""
    _refuse_bundle_among(images)
    loaded = load_bundle(bundle or shipped_bundle())
    captioner = open_captioner(loaded.config.captions)
    if not as_json:
        say(f"{NOTICE}\nBundle {loaded.id}: {loaded.reliability} {loaded.data_note}")
    failed = 0
    used: Counter[str] = Counter()
    for image in images:
        try:
            reply = answer_file(loaded, captioner, image, with_overlay=overlays is not None)
        except RadiographError as error:
            failed += 1
            typer.echo(f"{image}: {error}", err=True)
            if as_json:
                typer.echo(json.dumps({"file": str(image), "error": str(error)}))
            continue
        overlay = None
        if overlays is not None and reply.overlay_png is not None:
            overlay = overlays / _overlay_name(image, used)
            overlays.mkdir(parents=True, exist_ok=True)
            overlay.write_bytes(base64.b64decode(reply.overlay_png))
        if as_json:
            files = {"file": str(image), "overlay": None if overlay is None else str(overlay)}
            typer.echo(json.dumps(files | reply.model_dump(mode="json", exclude={"overlay_png"})))
        else:
            _show(image, reply)
            if overlay is not None:
                say(f"  heat map: {overlay}")
    if failed:
        raise SomeRadiographsFailedError(f"{failed} of {len(images)} files could not be read; see above")


def answer_file(bundle: Bundle, captioner: Captioner, path: Path, *, with_overlay: bool) -> Answer:
    """Answer for one file; raises `RadiographError` when it cannot be read."""
    data = read_bytes(str(path), bundle.config.radiographs)
    radiograph = read_radiograph(data, bundle.config.radiographs)
    captions = captioner.caption([prepare(radiograph.pixels, captioner.image_size)], [image_id(data)])
    return answer(bundle, [radiograph], captions, with_overlay=with_overlay)[0]


def _overlay_name(image: Path, used: Counter[str]) -> str:
    """Of files of one name from several folders all but the first get a number."""
    used[image.name] += 1
    number = used[image.name]
    return f"{image.name}.overlay.png" if number == 1 else f"{image.name}.{number}.overlay.png"


def _refuse_bundle_among(images: list[Path]) -> None:
    first, *others = images
    if is_bundle(first):
        names = " ".join(str(other) for other in others) or "RADIOGRAPH"
        raise UsageError(
            f"{first}: is a bundle, not a radiograph; write: fracray predict {names} --bundle {first}"
        )


def _show(image: Path, reply: Answer) -> None:
    decision = "fracture" if reply.fracture else "no fracture"
    parts = reply.contributions
    point = reply.operating_point
    say(f"\n{image}: {decision}, probability {reply.probability:.3f} (operating point {point:.3f})")
    words = "" if reply.image_alone else f", words {parts.words:+.2f}"
    say(f"  logit {parts.logit:+.2f} = intercept {parts.intercept:+.2f}, image {parts.image:+.2f}{words}")
    if parts.terms:
        say("  terms: " + ", ".join(f"{term.term} {term.weight:+.2f}" for term in parts.terms))
    if (box := reply.hottest_box) is not None:
        say(f"  hottest region: x {box.xmin} to {box.xmax}, y {box.ymin} to {box.ymax} pixels")
    for line in (reply.caption or "").splitlines():
        say(f"  | {line}")
    for warning in reply.warnings:
        say(f"  warning: {warning}")
