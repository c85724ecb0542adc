"""Making a captioner of real radiographs: teach the embedded one's eyes, then fresh words, fold by fold."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from fracray.captions.choose import model_source, open_captioner
from fracray.captions.loading import write_model
from fracray.captions.prompt import PROMPTS, load_prompt
from fracray.captions.tiny.architecture import build_model, build_processor, build_tower
from fracray.captions.tiny.radiograph_card import agreement, write_radiograph_card
from fracray.captions.tiny.radiograph_findings import write_radiograph_findings
from fracray.captions.tiny.radiograph_set import Annotations, RadiographSet, box_masks, mirrored
from fracray.captions.tiny.radiograph_vision import (
    RadiographHeads,
    altered,
    radiograph_figures,
    train_on_radiographs,
)
from fracray.captions.tiny.words_training import Lesson, image_features, train_words
from fracray.captions.tiny.work import claim
from fracray.config import CaptionSettings
from fracray.errors import UsageError
from fracray.fingerprint import fingerprint

log = logging.getLogger(__name__)

FRACTURED_SHARE = 0.5
"""Of what the words learn from, so that a doubtful picture is called fractured as readily as sound."""


@dataclass(frozen=True)
class RadiographPlan:
    """Steps of eyes and words, and how many altered versions of each radiograph the words learn from.

    With more word steps the words learn their few fractured radiographs by heart.
    """

    seed: int
    eye_steps: int = 800
    word_steps: int = 200
    versions: int = 4
    processes: int = 2


def make_radiograph_captioners(data: RadiographSet, work: Path, plan: RadiographPlan) -> Path:
    """Train one captioner without each fold and one with all radiographs; return the latter's folder.

    Each is a folder in `work`, and captions by the ones that had not seen the radiograph stand in
    `work`/out_of_fold.parquet (`image_id`, `caption`), which `captions.captioner: replay` reads. Called
    again, it goes on after the last finished captioner. Raises `UsageError` for fewer than three folds, and
    when `work` holds captioners of other data or of another plan.
    """
    folds = [int(fold) for fold in np.unique(data.folds)]
    if len(folds) < 3:
        raise UsageError(
            f"{len(folds)} folds in the manifest, and three are needed: eyes, words and a test; make a new "
            "manifest with --set radiographs.folds=5"
        )
    claim(work, _made_from(data, plan))
    missing = [fold for fold in (*folds, None) if not _folder(work, fold).exists()]
    with ProcessPoolExecutor(plan.processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_train_one, data=data, work=work, plan=plan), missing))
    captions: dict[str, str] = {}
    for fold in folds:
        unseen = data.rows(np.flatnonzero(data.folds == fold))
        captioner = open_captioner(CaptionSettings(model=str(_folder(work, fold))))
        answers = captioner.caption(list(unseen.pixels))
        captions |= {name: answer.text or "" for name, answer in zip(unseen.image_ids, answers, strict=True)}
    table = pa.table({"image_id": list(captions), "caption": list(captions.values())})
    pq.write_table(table, work / "out_of_fold.parquet")
    figures = agreement([captions[name] for name in data.image_ids], data.annotations)
    write_radiograph_card(_folder(work, None), asdict(plan), len(folds), figures)
    return _folder(work, None)


def _made_from(data: RadiographSet, plan: RadiographPlan) -> str:
    steps = {name: value for name, value in asdict(plan).items() if name != "processes"}
    annotations = [repr(row) for row in data.annotations]
    rows = {"ids": list(data.image_ids), "folds": data.folds.tolist(), "annotations": annotations}
    return fingerprint(plan=steps, rows=rows)


def _folder(work: Path, left_out: int | None) -> Path:
    return work / ("all" if left_out is None else f"without-{left_out}")


def _train_one(left_out: int | None, data: RadiographSet, work: Path, plan: RadiographPlan) -> None:
    """Train the captioner that has not seen fold `left_out` (None: all seen) and write its folder.

    The words learn from a fold of their own: what the eyes find in radiographs that taught them is far surer
    than what they will find in new ones.
    """
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    seen = data if left_out is None else data.rows(np.flatnonzero(data.folds != left_out))
    fold_of_words = int(np.unique(seen.folds)[-1])
    tower, heads = _embedded_eyes(plan.seed), RadiographHeads(data.annotations)
    eyes = seen.rows(np.flatnonzero(seen.folds != fold_of_words))
    train_on_radiographs(tower, heads, eyes, plan.eye_steps, plan.seed)
    words = seen.rows(np.flatnonzero(seen.folds == fold_of_words))
    log.info("eyes without fold %s, on fold %d: %s", left_out, fold_of_words, _figures(tower, heads, words))
    texts = [write_radiograph_findings(row, i) for i, row in enumerate(data.annotations)]
    prompts = [load_prompt(name) for name in PROMPTS]
    processor = build_processor([*texts, *[prompt.text for prompt in prompts] * 20])
    model = build_model(processor, plan.seed)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    features, rows = _altered_features(tower, words, plan)
    lesson = Lesson(
        features,
        np.array([row.fractured for row in rows]),
        lambda i, wording, impression: write_radiograph_findings(rows[i], wording, impression=impression),
    )
    train_words(
        model, processor, lesson, prompts, plan.word_steps, plan.seed, fractured_share=FRACTURED_SHARE
    )
    _write(model, processor, _folder(work, left_out))


def _figures(tower: Any, heads: RadiographHeads, unseen: RadiographSet) -> str:
    figures = radiograph_figures(tower, heads, unseen)
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _embedded_eyes(seed: int) -> Any:
    """The embedded captioner's vision tower, as one that trains."""
    tower = build_tower(seed)
    embedded = Gemma3ForConditionalGeneration.from_pretrained(
        model_source(CaptionSettings()), dtype=torch.float32
    )
    tower.load_state_dict(embedded.model.vision_tower.state_dict())
    return tower


def _altered_features(
    tower: Any, data: RadiographSet, plan: RadiographPlan
) -> tuple[Tensor, Sequence[Annotations]]:
    """The radiographs as they are, then `versions` times altered: their image tokens and annotations."""
    rng = np.random.default_rng(plan.seed)
    features, rows = [image_features(tower, data.pixels)], list(data.annotations)
    masks = box_masks(data.annotations)
    for _ in range(plan.versions):
        pixels, _, mirror = altered(data.pixels, masks, rng)
        features.append(image_features(tower, pixels))
        pairs = zip(data.annotations, mirror, strict=True)
        rows += [mirrored(row) if turned else row for row, turned in pairs]
    return torch.cat(features), rows


def _write(model: Any, processor: Any, folder: Path) -> None:
    """Write the model folder under its name only when it is whole."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_model(model.to(torch.bfloat16), processor, unfinished)
    unfinished.rename(folder)
    log.info("captioner written to %s", folder)
