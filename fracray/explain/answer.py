"""The answer to one radiograph: what is decided, on what grounds, and where to look."""

import base64
import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from fracray.bundle.bundle import Bundle
from fracray.captions.captioner import Caption
from fracray.captions.verdict import verdict
from fracray.explain.grad_cam import decision_map
from fracray.explain.overlay import hottest_box, overlay
from fracray.fusion.classifier import SYSTEMS, Classifier
from fracray.radiographs.quality import quality_warnings
from fracray.radiographs.read import Radiograph
from fracray.vision.embed import embed
from fracray.vision.preprocess import preprocess

NOTICE = "Research tool, not a medical device: do not use it for the care of patients."
TOP_TERMS = 8


class Term(BaseModel):
    """A term of the caption and what it added to the logit."""

    term: str
    weight: float


class Contributions(BaseModel):
    """The exact split of the fused logit: intercept + image + words."""

    logit: float
    intercept: float
    image: float
    words: float
    terms: list[Term] = Field(description="terms that weighed most, largest first by absolute weight")


class HottestBox(BaseModel):
    """Box around the hottest region of the heat map, in pixels of the radiograph; max edges exclusive."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int

    @classmethod
    def of(cls, edges: tuple[int, int, int, int]) -> "HottestBox":
        """Return the box with these (xmin, ymin, xmax, ymax)."""
        xmin, ymin, xmax, ymax = edges
        return cls(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)


class Answer(BaseModel):
    """Everything fracray says about one radiograph."""

    probability: float = Field(ge=0, le=1, description="probability of a fracture by the fused classifier")
    fracture: bool = Field(description="probability at or above the operating point")
    operating_point: float = Field(description="threshold chosen on the bundle's inner folds")
    caption: str | None = Field(description="the captioner's words; null: it failed")
    caption_verdict: str = Field(
        description="what the caption itself says: positive, negative, uncertain, none"
    )
    contributions: Contributions
    by_system: dict[str, float] = Field(description="probability by image alone, words alone, fused")
    hottest_box: HottestBox | None = Field(
        description="where the heat map peaks; null: nowhere, or no overlay"
    )
    overlay_png: str | None = Field(description="Grad-CAM of the fused decision, PNG, base64")
    warnings: list[str] = Field(description="what is wrong with the radiograph or its caption")
    bundle_id: str
    data_note: str = Field(description="what data the bundle was fitted on")
    timings_ms: dict[str, float]
    notice: str = NOTICE


def answer(
    bundle: Bundle,
    radiographs: Sequence[Radiograph],
    captions: Sequence[Caption],
    *,
    with_overlay: bool = True,
) -> list[Answer]:
    """Decide on `radiographs` with their `captions` and explain each decision.

    The heat map belongs to the fused logit: the classifier's image weights applied to the embedding.
    """
    started = time.perf_counter()
    settings = bundle.config.vision
    pixels = np.stack([preprocess(radiograph.pixels, settings.preprocessing) for radiograph in radiographs])
    texts = [caption.text or "" for caption in captions]
    embeddings = embed(
        bundle.pipeline.backbone, pixels, settings.batch_size, settings.device, settings.precision
    )
    classifiers = bundle.pipeline.classifiers
    probabilities = {name: classifiers[name].probabilities(embeddings, texts) for name in SYSTEMS}
    decided = time.perf_counter()
    fused = classifiers["fused"]
    heat = decision_map(bundle.pipeline.backbone, fused.image_gradient(), pixels) if with_overlay else None
    answers = []
    for index, (radiograph, caption) in enumerate(zip(radiographs, captions, strict=True)):
        probability = float(probabilities["fused"][index])
        picture = box = None
        if heat is not None:
            picture = base64.b64encode(
                overlay(radiograph.pixels, heat[index], settings.preprocessing)
            ).decode()
            edges = hottest_box(heat[index], radiograph.pixels.shape, settings.preprocessing)
            box = None if edges is None else HottestBox.of(edges)
        answers.append(
            Answer(
                probability=probability,
                fracture=probability >= fused.threshold,
                operating_point=fused.threshold,
                caption=caption.text,
                caption_verdict=verdict(texts[index]),
                contributions=_contributions(fused, embeddings[index], texts[index]),
                by_system={name: float(values[index]) for name, values in probabilities.items()},
                hottest_box=box,
                overlay_png=picture,
                warnings=[*quality_warnings(radiograph), *_warnings(caption)],
                bundle_id=bundle.id,
                data_note=bundle.data_note,
                timings_ms={},
            )
        )
    explained = time.perf_counter()
    timings = {"decide": 1000 * (decided - started), "explain": 1000 * (explained - decided)}
    return [reply.model_copy(update={"timings_ms": timings}) for reply in answers]


def _contributions(fused: Classifier, embedding: np.ndarray, caption: str) -> Contributions:
    split = fused.split(embedding, caption)
    terms = sorted(split.terms, key=lambda term: -abs(term[1]))[:TOP_TERMS]
    return Contributions(
        logit=split.intercept + split.image + split.words,
        intercept=split.intercept,
        image=split.image,
        words=split.words,
        terms=[Term(term=term, weight=weight) for term, weight in terms],
    )


def _warnings(caption: Caption) -> list[str]:
    if caption.text is None:
        return [f"no caption ({caption.reason}): the decision rests on the image alone"]
    if caption.status != "ok":
        return [f"the caption is {caption.status}"]
    return []
