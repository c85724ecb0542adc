"""The answer to one radiograph: what is decided, on what grounds, and where to look."""

import base64
import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from fracray.bundle.bundle import Bundle
from fracray.bundle.reliability import DataKind
from fracray.captions.captioner import Caption
from fracray.captions.verdict import verdict
from fracray.explain.heat_map import HeatMap, heat_maps
from fracray.explain.regions import Box
from fracray.fusion.classifier import Classifier
from fracray.fusion.familiarity import QUANTILE
from fracray.radiographs.quality import quality_warnings
from fracray.radiographs.read import Radiograph
from fracray.vision.embed import embed_with_statistics
from fracray.vision.preprocess import preprocess

NOTICE = "Research tool, not a medical device: do not use it for the care of patients."
TOP_TERMS = 8
NO_REGION = "no region on this radiograph speaks for a fracture: the heat map is empty"


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
    """Box around the hottest region of the heat map, in pixels of the radiograph as read.

    `xmax` and `ymax` are exclusive.
    """

    xmin: int
    ymin: int
    xmax: int
    ymax: int

    @classmethod
    def of(cls, edges: Box) -> "HottestBox":
        """Return the box with these (xmin, ymin, xmax, ymax)."""
        xmin, ymin, xmax, ymax = edges
        return cls(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)


class Answer(BaseModel):
    """Everything fracray says about one radiograph."""

    probability: float = Field(ge=0, le=1, description="probability of a fracture by the fused classifier")
    fracture: bool = Field(description="probability at or above the operating point")
    operating_point: float = Field(description="threshold chosen on the bundle's inner folds")
    image_alone: bool = Field(
        False, description="the bundle has no captioner: there are no words, the image alone decides"
    )
    caption: str | None = Field(description="the captioner's words; null: it failed, or there is none")
    caption_verdict: str = Field(
        description="what the caption itself says: positive, negative, uncertain, none"
    )
    contributions: Contributions
    by_system: dict[str, float] = Field(
        description="probability by image alone, words alone (with a captioner), fused"
    )
    hottest_box: HottestBox | None = Field(
        description="where the heat map peaks; null: nowhere (then a warning says so), or no overlay"
    )
    heat_map_method: str | None = Field(None, description="method of the heat map; null: no overlay")
    overlay_png: str | None = Field(
        description="heat map of the fused decision and its hottest box over the radiograph, PNG, base64"
    )
    warnings: list[str] = Field(description="what is wrong with the radiograph, its caption or its heat map")
    bundle_id: str
    data_kind: DataKind = Field(description="phantoms: the answer means nothing on a real radiograph")
    data_note: str = Field(description="what data the bundle was fitted on")
    reliability: str = Field(
        description="what the data mean for the answer, and how often the bundle was right on held-out rows"
    )
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

    The heat map belongs to the fused logit and is made as the bundle's `explain.method` says.
    """
    started = time.perf_counter()
    settings = bundle.config.vision
    pixels = np.stack([preprocess(radiograph.pixels, settings.preprocessing) for radiograph in radiographs])
    texts = [caption.text or "" for caption in captions]
    embeddings, statistics = embed_with_statistics(
        bundle.pipeline.backbone, pixels, settings.batch_size, settings.device, settings.precision
    )
    classifiers = bundle.pipeline.classifiers
    probabilities = {name: classifiers[name].probabilities(embeddings, texts) for name in bundle.systems}
    distances = bundle.pipeline.familiarity.distances(statistics)
    decided = time.perf_counter()
    maps: list[HeatMap | None] = [None] * len(radiographs)
    if with_overlay:
        maps = [*heat_maps(bundle, radiographs, texts, squares=pixels)]
    fused = classifiers["fused"]
    answers = []
    for index, (caption, heat) in enumerate(zip(captions, maps, strict=True)):
        probability = float(probabilities["fused"][index])
        answers.append(
            Answer(
                probability=probability,
                fracture=probability >= fused.threshold,
                operating_point=fused.threshold,
                image_alone=bundle.image_alone,
                caption=caption.text,
                caption_verdict=verdict(texts[index]),
                contributions=_contributions(fused, embeddings[index], texts[index]),
                by_system={name: float(values[index]) for name, values in probabilities.items()},
                hottest_box=HottestBox.of(heat.box) if heat and heat.box else None,
                heat_map_method=bundle.config.explain.method if heat else None,
                overlay_png=base64.b64encode(heat.overlay_png).decode() if heat else None,
                warnings=[
                    *quality_warnings(radiographs[index]),
                    *_familiarity_warnings(bundle, float(distances[index])),
                    *([] if bundle.image_alone else _caption_warnings(caption)),
                    *([NO_REGION] if heat and heat.box is None else []),
                ],
                bundle_id=bundle.id,
                data_kind=bundle.data_kind,
                data_note=bundle.data_note,
                reliability=bundle.reliability,
                timings_ms={},
            )
        )
    explained = time.perf_counter()
    timings = {"decide": 1000 * (decided - started), "explain": 1000 * (explained - decided)}
    return [reply.model_copy(update={"timings_ms": timings}) for reply in answers]


def _contributions(fused: Classifier, embedding: np.ndarray, caption: str) -> Contributions:
    split = fused.split(embedding, caption)
    return Contributions(
        logit=split.logit,
        intercept=split.intercept,
        image=split.image,
        words=split.words,
        terms=[Term(term=term, weight=weight) for term, weight in split.terms[:TOP_TERMS]],
    )


def _familiarity_warnings(bundle: Bundle, distance: float) -> list[str]:
    threshold = bundle.pipeline.familiarity.threshold
    if distance <= threshold:
        return []
    return [
        f"unlike the {bundle.data_kind} that the bundle was fitted on (distance {distance:.0f}, "
        f"{QUANTILE:.0%} of those lie within {threshold:.0f}): the probability may mean nothing"
    ]


def _caption_warnings(caption: Caption) -> list[str]:
    if caption.text is None:
        return [f"no caption ({caption.reason}): the decision rests on the image alone"]
    return [] if caption.status == "ok" else [f"the caption is {caption.status}"]
