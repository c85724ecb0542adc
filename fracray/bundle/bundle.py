"""A bundle: one folder with everything that prediction needs and nothing that executes.

hashes.json            format, bundle id, SHA-256 of every other file
config.json            the whole resolved configuration; devices are left to the machine that answers
backbone.safetensors   the fine-tuned network
familiarity.safetensors   what the training radiographs look like
image.skops, words.skops, fused.skops     the classifiers
captioner/             the captioner, when it is a folder small enough to travel
training_ids.txt       image ids the bundle was fitted on, so that nobody scores it on them
training.json          how many rows, how many with boxes, phantoms or radiographs, what data
out_of_fold.parquet    probabilities of the training rows by networks that did not see them
cross_validation.json  figures of these
figures.json           written by evaluation
README.md              the model card
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from pydantic import ValidationError

from fracray import fingerprint
from fracray.bundle.card import model_card
from fracray.bundle.reliability import DataKind, reliability
from fracray.captions.choose import model_source
from fracray.config import Config
from fracray.errors import BundleError
from fracray.fusion.classifier import SYSTEMS, System, load_classifier
from fracray.fusion.familiarity import load_familiarity
from fracray.fusion.training import Pipeline
from fracray.schema import OUT_OF_FOLD, write_table
from fracray.vision.backbone import load_backbone, save_backbone

FORMAT = 1
LARGEST_CAPTIONER = 64 * 2**20
"""Captioner folders up to this many bytes are copied into the bundle; larger ones are named only."""

_HASHES = "hashes.json"
_FIGURES = "figures.json"
_CROSS_VALIDATION = "cross_validation.json"
_OUT_OF_FOLD = "out_of_fold.parquet"
_DESCRIPTIVE = (_FIGURES, _CROSS_VALIDATION, _OUT_OF_FOLD, "README.md")


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: settings, fitted pipeline, and what it was fitted on."""

    id: str
    folder: Path
    config: Config
    pipeline: Pipeline
    training_ids: frozenset[str]
    data_kind: DataKind
    data_note: str
    figures: dict[str, Any] | None

    @property
    def reliability(self) -> str:
        """What it was fitted on and how often it was right; belongs beside every answer."""
        return reliability(self.data_kind, self.figures)

    @property
    def image_alone(self) -> bool:
        """Whether it has no captioner: `fused` decides as `image` does, and `words` tells nothing."""
        return self.config.captions.captioner == "none"

    @property
    def systems(self) -> tuple[System, ...]:
        """The classifiers that tell something: all, or all but `words` where there is no captioner."""
        return tuple(name for name in SYSTEMS if name != "words" or not self.image_alone)


def save_bundle(
    folder: Path,
    pipeline: Pipeline,
    config: Config,
    *,
    training_ids: Iterable[str],
    data_kind: DataKind,
    data_note: str,
    boxed: int = 0,
) -> str:
    """Write a new bundle into `folder` and return its id, a hash of its content (16 hex digits).

    `data_kind` and `data_note`, a sentence, say what data the bundle was fitted on; they are shown beside
    every answer and every figure. `boxed` is on how many of the radiographs it learned where fractures are.
    It appears whole or not at all. Raises `BundleError` when `folder` already holds something.
    """
    check_new(folder)
    config = _for_any_device(config)
    unfinished = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    ids = sorted(set(training_ids))
    save_backbone(pipeline.backbone, unfinished / "backbone.safetensors")
    for name in SYSTEMS:
        pipeline.classifiers[name].save(unfinished / f"{name}.skops")
    pipeline.familiarity.save(unfinished / "familiarity.safetensors")
    if config.captions.captioner == "gemma":
        _copy_captioner(model_source(config.captions), unfinished / "captioner")
    (unfinished / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (unfinished / "training_ids.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    training = {"rows": len(ids), "boxed": boxed, "data_kind": data_kind, "data_note": data_note}
    _write_json(unfinished / "training.json", training)
    paths = (path for path in unfinished.rglob("*") if path.is_file())
    _write_hashes(unfinished, [path.relative_to(unfinished).as_posix() for path in paths])
    _describe(unfinished)
    unfinished.replace(folder)
    return str(_read_hashes(folder)["id"])


def check_new(folder: Path) -> None:
    """Raise `BundleError` when `folder` cannot become a bundle, as it is a file or holds something."""
    if folder.is_file():
        raise BundleError(f"{folder}: is a file; name a new folder for the bundle")
    if folder.exists() and any(folder.iterdir()):
        raise BundleError(f"{folder}: is not empty; name a new folder for the bundle or remove this one")


def is_bundle(folder: Path) -> bool:
    """Return whether `folder` claims to be a bundle; `load_bundle` tells whether it is a whole one."""
    return (folder / _HASHES).is_file()


def load_bundle(folder: Path) -> Bundle:
    """Load the bundle in `folder` after checking the hash of every file.

    Raises `BundleError` naming the file that is missing, altered or of an unknown format.
    """
    hashes = _read_hashes(folder)
    for name, expected in hashes["files"].items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: '{name}' is missing; copy the whole bundle again")
        if fingerprint.file_hash(path) != expected:
            raise BundleError(f"{folder}: '{name}' was altered; copy the bundle again or train a new one")
    try:
        config = Config.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BundleError(
            f"{folder}: setting '{where}' is unknown to this version; train a new bundle"
        ) from None
    config = _with_own_files(config, folder)
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    if training.get("data_kind") not in get_args(DataKind):
        raise BundleError(
            f"{folder}: training.json names no data_kind (phantoms or radiographs); train a new bundle"
        )
    figures = folder / _FIGURES
    listed = _FIGURES in hashes["files"]
    return Bundle(
        id=hashes["id"],
        folder=folder,
        config=config,
        pipeline=Pipeline(
            backbone=load_backbone(config.vision.backbone),
            classifiers={name: load_classifier(folder / f"{name}.skops") for name in SYSTEMS},
            familiarity=load_familiarity(folder / "familiarity.safetensors"),
        ),
        training_ids=frozenset((folder / "training_ids.txt").read_text(encoding="utf-8").split()),
        data_kind=training["data_kind"],
        data_note=training["data_note"],
        figures=json.loads(figures.read_text(encoding="utf-8")) if listed else None,
    )


def record_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Write the figures of an evaluation and the model card that states them into the bundle in `folder`.

    The bundle's id does not change: it names what decides, not what is known about it.
    """
    load_bundle(folder)
    _write_hashes(folder, _deciding(folder))
    _write_json(folder / _FIGURES, figures)
    _describe(folder)


def record_cross_validation(folder: Path, figures: dict[str, Any], out_of_fold: pa.Table) -> None:
    """Write figures from cross-validation, and the probabilities behind them, into the bundle in `folder`.

    `out_of_fold` has the schema `OUT_OF_FOLD`. The bundle's id does not change.
    """
    load_bundle(folder)
    _write_hashes(folder, _deciding(folder))
    _write_json(folder / _CROSS_VALIDATION, figures)
    write_table(out_of_fold, OUT_OF_FOLD, folder / _OUT_OF_FOLD)
    _describe(folder)


def _describe(folder: Path) -> None:
    # Listed only once whole: a crash before this leaves a bundle that loads, without figures.
    card = model_card(
        _read_hashes(folder)["id"],
        training=_read_json(folder / "training.json"),
        config=_read_json(folder / "config.json"),
        cross_validation=_read_json(folder / _CROSS_VALIDATION),
        figures=_read_json(folder / _FIGURES),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    _write_hashes(folder, _deciding(folder) + [name for name in _DESCRIPTIVE if (folder / name).is_file()])


def _deciding(folder: Path) -> list[str]:
    """The files that make the bundle's id; whatever else has got into the folder is none of the bundle's."""
    return [name for name in _read_hashes(folder)["files"] if name not in _DESCRIPTIVE]


def _copy_captioner(source: Path | str, target: Path) -> None:
    if isinstance(source, Path) and source.is_dir() and _folder_bytes(source) <= LARGEST_CAPTIONER:
        shutil.copytree(source, target)


def _for_any_device(config: Config) -> Config:
    """What was fitted on a GPU answers without one too."""
    vision = config.vision.model_copy(update={"device": "auto"})
    captions = config.captions.model_copy(update={"device": "auto"})
    return config.model_copy(update={"vision": vision, "captions": captions})


def _with_own_files(config: Config, folder: Path) -> Config:
    """Point the settings at the bundle's own weights, wherever the bundle now lies."""
    backbone = config.vision.backbone.model_copy(update={"weights": str(folder / "backbone.safetensors")})
    captions = config.captions
    if (folder / "captioner").is_dir():
        captions = captions.model_copy(update={"model": str(folder / "captioner")})
    vision = config.vision.model_copy(update={"backbone": backbone})
    return config.model_copy(update={"vision": vision, "captions": captions})


def _write_hashes(folder: Path, names: Iterable[str]) -> None:
    files = {name: fingerprint.file_hash(folder / name) for name in sorted(names)}
    unfinished = folder / f".{_HASHES}"
    unfinished.write_text(
        _canonical({"format": FORMAT, "id": _bundle_id(files), "files": files}), encoding="utf-8"
    )
    unfinished.replace(folder / _HASHES)


def _read_hashes(folder: Path) -> dict[str, Any]:
    path = folder / _HASHES
    if not is_bundle(folder):
        raise BundleError(f"{folder}: no bundle here ({_HASHES} is missing); make one with `fracray train`")
    text = path.read_bytes().decode("utf-8", errors="replace")
    altered = BundleError(f"{folder}: '{_HASHES}' was altered; copy the bundle again or train a new one")
    try:
        hashes = json.loads(text)
    except json.JSONDecodeError:
        raise altered from None
    if (
        not isinstance(hashes, dict)
        or not isinstance(hashes.get("files"), dict)
        or text != _canonical(hashes)
    ):
        raise altered
    if hashes.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: bundle format {hashes.get('format')}, this version reads {FORMAT}; update fracray"
        )
    if hashes.get("id") != _bundle_id(hashes["files"]):
        raise altered
    return hashes


def _bundle_id(files: dict[str, str]) -> str:
    return fingerprint.fingerprint(files={name: h for name, h in files.items() if name not in _DESCRIPTIVE})


def _canonical(hashes: dict[str, Any]) -> str:
    return json.dumps(hashes, indent=1, sort_keys=True) + "\n"


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
