"""From settings to a captioner, its identity and its input; the one place to extend for another."""

import re
from importlib.resources import files
from pathlib import Path

from fracray.captions.captioner import Captioner
from fracray.captions.prompt import load_prompt
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.fingerprint import file_hash, fingerprint

VERSION = 2
"""Raised whenever the code changes what the same model answers to the same picture."""

SHIPPED = {"embedded": "captioner", "embedded-radiographs": "radiographs_captioner"}
"""Folders of the captioners that ship, by the names that `captions.model` takes: one knows phantoms, one
radiographs of FracAtlas."""

_MODEL_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
"""Owner and name, as the model hub writes them."""


def model_source(settings: CaptionSettings) -> Path | str:
    """Return the folder that `settings.model` names (one of `SHIPPED` or an existing one), else the model id
    as written.

    Raises `CaptionerError` for what is no folder here and cannot be a model id, before anything waits for it.
    """
    if settings.model in SHIPPED:
        return Path(str(files("fracray") / "assets" / SHIPPED[settings.model]))
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        return folder
    if not _MODEL_ID.fullmatch(settings.model):
        raise CaptionerError(
            f"captions.model={settings.model}: no folder on this machine, and no model id such as "
            f"google/medgemma-4b-it; those that ship are {' and '.join(SHIPPED)}"
        )
    return settings.model


def captioner_fingerprint(settings: CaptionSettings) -> str:
    """Return the identity of the captions that `settings` lead to, without loading a model.

    Model (a folder: hash of its weights, configuration and tokenizer; an id: id and revision), prompt text,
    quantisation, compute type and length count; batch size and device do not. `compute_dtype` counts as
    written, so that machines with and without a GPU agree on where the captions lie. An id without a revision
    means whatever is newest: pin `captions.revision` for captions that can be made again.
    """
    if settings.captioner in ("fake", "none"):
        return fingerprint(version=VERSION, captioner=settings.captioner)
    if settings.captioner == "replay":
        path = Path(settings.model)
        if not path.is_file():
            raise CaptionerError(
                f"{path}: no such captions table; set captions.model to a Parquet file of captions"
            )
        return fingerprint(version=VERSION, captioner="replay", table=file_hash(path))
    source = model_source(settings)
    model = {"folder": _model_hash(source)} if isinstance(source, Path) else {
        "id": source, "revision": settings.revision or "newest"}  # fmt: skip
    return fingerprint(
        version=VERSION,
        model=model,
        prompt=load_prompt(settings.prompt).text,
        quantisation=settings.quantisation,
        compute_dtype=settings.compute_dtype,
        max_new_tokens=settings.max_new_tokens,
    )


def captioner_image_size(settings: CaptionSettings) -> int:
    """Return the side of the square picture that the captioner of `settings` takes, without loading its
    weights."""
    if settings.captioner == "fake":
        from fracray.captions.fake import IMAGE_SIZE

        return IMAGE_SIZE
    if settings.captioner == "replay":
        from fracray.captions.replay import IMAGE_SIZE

        return IMAGE_SIZE
    if settings.captioner == "none":
        from fracray.captions.none import IMAGE_SIZE

        return IMAGE_SIZE
    from fracray.captions.loading import load_model_config

    return int(load_model_config(model_source(settings), settings.revision).vision_config.image_size)


def open_captioner(settings: CaptionSettings) -> Captioner:
    """Load the captioner of `settings`, ready to answer.

    Raises `CaptionerError` when the model cannot be found, is no image-text model, or fails its self-test on
    a known picture.
    """
    if settings.captioner == "fake":
        from fracray.captions.fake import FakeCaptioner

        return FakeCaptioner(captioner_fingerprint(settings))
    if settings.captioner == "replay":
        from fracray.captions.replay import open_replay

        return open_replay(Path(settings.model), captioner_fingerprint(settings))
    if settings.captioner == "none":
        from fracray.captions.none import NoCaptioner

        return NoCaptioner(captioner_fingerprint(settings))
    from fracray.captions.gemma import open_gemma

    return open_gemma(settings, model_source(settings), captioner_fingerprint(settings))


def _model_hash(folder: Path) -> str:
    kinds = {".safetensors", ".json", ".jinja", ".model", ".bin"}
    listing = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.suffix in kinds}
    if not listing:
        raise CaptionerError(
            f"{folder}: holds no model; name a folder with config.json and safetensors weights"
        )
    return fingerprint(files=listing)
