"""The one protocol behind which every captioner stands, its input, and its identity."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from fracray.captions.prompt import load_prompt
from fracray.config import CaptionSettings
from fracray.errors import CaptionerError
from fracray.fingerprint import file_hash, fingerprint

VERSION = 2
"""Raised whenever the code changes what the same model answers to the same picture."""

CAPTION_STATUS = ("ok", "truncated", "repetitive", "empty", "failed")
Status = Literal["ok", "truncated", "repetitive", "empty", "failed"]

SHIPPED = {"embedded": "captioner", "embedded-radiographs": "radiographs_captioner"}
"""Folders of the captioners that ship, by the names that `captions.model` takes: one knows phantoms, one
radiographs of FracAtlas."""

_MODEL_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
"""Owner and name, as the model hub writes them."""


@dataclass(frozen=True)
class Caption:
    """One answer: `text` as written (None: none), `status`, why it is not ok, tokens written, seconds taken.

    `seconds` is the time of the whole batch divided by its radiographs. `image_vector` float32 [d] is the
    mean of the image tokens that the language model was shown, a by-product of the same pass; None where
    there is no image tower.
    """

    text: str | None
    status: Status
    reason: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    image_vector: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class SelfTest:
    """How a captioner did on a known picture before its first radiograph.

    `memory_bytes`: allocated on the GPU, or resident in the process on a CPU.
    """

    text: str
    status: Status
    tokens: int
    seconds: float
    quantised_layers: int
    memory_bytes: int
    device: str

    def sentence(self) -> str:
        """Return the figures in one line."""
        rate = self.tokens / self.seconds if self.seconds else 0.0
        return (
            f"{self.status}, {self.tokens} tokens in {self.seconds:.2f} s ({rate:.0f} per second), "
            f"{self.quantised_layers} quantised layers, {self.memory_bytes / 1e9:.1f} GB on {self.device}"
        )


class Captioner(Protocol):
    """Describes radiographs in words."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that can change an answer."""

    @property
    def image_size(self) -> int:
        """Side of the square picture that `caption` takes, pixels."""

    @property
    def self_test(self) -> SelfTest | None:
        """What the captioner answered to a known picture; None where there is no model to test."""

    def caption(self, pixels: Sequence[np.ndarray], image_ids: Sequence[str] | None = None) -> list[Caption]:
        """Answer each picture (uint8 [s, s] from `prepare`), in order; one bad picture fails alone.

        `image_ids` (SHA-256 of each file) tell the replay which stored caption is meant; a model never reads
        them.
        """


def prepare(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Squeeze a radiograph (float32 [h, w] in [0, 1], bright is dense) to uint8 [image_size, image_size].

    The only resize on the way to a captioner: bilinear with anti-aliasing and without keeping proportions, as
    Gemma 3's own processor does it, which then finds the size right and leaves the picture as it is.
    """
    picture = Image.fromarray(np.asarray(pixels, dtype=np.float32))
    resized = np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))
    return np.clip(np.rint(resized * 255.0), 0, 255).astype(np.uint8)


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
