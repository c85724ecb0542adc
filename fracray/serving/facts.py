"""What the service tells about the bundle that it serves."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from fracray import __version__
from fracray.bundle.bundle import Bundle
from fracray.bundle.reliability import DataKind
from fracray.explain.answer import NOTICE

FORMATS = ("PNG", "JPEG", "TIFF", "DICOM")


class ModelFacts(BaseModel):
    """What decides, what it was fitted on, and what is known about it."""

    bundle_id: str
    version: str = Field(__version__, description="version of fracray that serves")
    notice: str = NOTICE
    data_kind: DataKind = Field(description="phantoms: the answers mean nothing on a real radiograph")
    data_note: str = Field(description="what data the bundle was fitted on")
    reliability: str = Field(
        description="what the data mean for the answers, and how often the bundle was right on held-out rows"
    )
    training_rows: int = Field(description="radiographs or phantoms the bundle was fitted on")
    operating_point: float = Field(description="probability from which on the decision is 'fracture'")
    backbone: str
    unfrozen: str = Field(description="stages of the backbone that were fine-tuned")
    input_size: int = Field(description="side of the backbone's square input, pixels")
    captioner: str
    prompt: str | None = Field(description="what the captioner is asked; null: there is no captioner")
    formats: tuple[str, ...] = FORMATS
    max_bytes: int = Field(description="largest file taken, bytes")
    max_pixels: int = Field(description="largest picture taken, pixels")
    figures: dict[str, Any] | None = Field(
        description="figures on radiographs that the bundle was not fitted on; null: not evaluated yet"
    )
    settings: dict[str, Any] = Field(description="settings of captions, vision and fusion as trained")


def model_facts(bundle: Bundle) -> ModelFacts:
    """Return the facts of `bundle`; of paths on the machine it was made on only the last part is told."""
    config = bundle.config
    trained = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = {stage: trained[stage] for stage in ("captions", "vision", "fusion")}
    for holder, key in (
        (settings["captions"], "model"),
        (settings["captions"], "prompt"),
        (settings["vision"]["backbone"], "weights"),
    ):
        path = Path(holder[key])
        holder[key] = path.name if path.is_absolute() or holder[key].startswith((".", "~")) else holder[key]
    captions = settings["captions"]
    return ModelFacts(
        bundle_id=bundle.id,
        data_kind=bundle.data_kind,
        data_note=bundle.data_note,
        reliability=bundle.reliability,
        training_rows=len(bundle.training_ids),
        operating_point=bundle.pipeline.classifiers["fused"].threshold,
        backbone=config.vision.backbone.architecture,
        unfrozen=config.vision.finetune.unfrozen,
        input_size=config.vision.preprocessing.size,
        captioner=captions["model"] if captions["captioner"] == "gemma" else captions["captioner"],
        prompt=None if bundle.image_alone else captions["prompt"],
        max_bytes=config.radiographs.max_bytes,
        max_pixels=config.radiographs.max_pixels,
        figures=bundle.figures,
        settings=settings,
    )
