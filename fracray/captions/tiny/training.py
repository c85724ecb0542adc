"""Making the embedded captioner: render, teach the vision tower, teach the words, write the model folder."""

import json
import logging
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model

from fracray.captions.loading import write_model
from fracray.captions.prompt import PROMPTS, load_prompt
from fracray.captions.tiny import vision_tower
from fracray.captions.tiny.architecture import IMAGE_SIZE, build_model, build_processor, build_tower
from fracray.captions.tiny.card import measure, write_card
from fracray.captions.tiny.findings_text import write_findings
from fracray.captions.tiny.heads import Heads
from fracray.captions.tiny.parallel import run_parallel
from fracray.captions.tiny.phantom_set import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    FIRST_WORDS_SEED,
    PhantomSet,
    joined,
    render_pairs,
    share,
)
from fracray.captions.tiny.vision_training import train_on_crops, train_on_pictures
from fracray.captions.tiny.words_training import Lesson, image_features, train_words
from fracray.captions.tiny.work import claim
from fracray.fingerprint import fingerprint

log = logging.getLogger(__name__)

PAIRS_PER_FILE = 500
HELD_OUT_PAIRS = 150
CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Plan:
    """What is trained on how much: pairs of phantoms for eyes and words, and steps of each stage.

    The words learn from phantoms that the vision tower has not seen: what it finds in those is as doubtful as
    it will be in use.
    """

    seed: int
    vision_pairs: int = 4000
    words_pairs: int = 3000
    crop_steps: int = 2800
    picture_steps: int = 6400
    word_steps: int = 450
    processes: int = 2


def make_captioner(work: Path, target: Path, plan: Plan) -> None:
    """Train the embedded captioner and write its folder, card included, to `target`.

    Every finished stage leaves its result in `work`; called again, it goes on from there. Raises `UsageError`
    when `work` holds the stages of another plan.
    """
    claim(work, fingerprint(plan=asdict(plan)))
    for make in (vision_set, words_set):
        make(work, plan)
    held_out_set(work)
    for stage, result in ((_crop_stage, "crops"), (_picture_stage, "vision"), (_words_stage, "words")):
        if not (work / f"{result}.safetensors").exists():
            started = time.monotonic()
            run_parallel(stage, work / "meeting", plan.processes, work, plan)
            _record(work, {"stage": result, "minutes": (time.monotonic() - started) / 60})
    _write_captioner(work, target, plan)


def vision_set(work: Path, plan: Plan) -> PhantomSet:
    """The phantoms that teach the vision tower, rendered into `work` unless they are there."""
    return _rendered(work, FIRST_TRAINING_SEED, plan.vision_pairs)


def words_set(work: Path, plan: Plan) -> PhantomSet:
    """The phantoms that teach the words."""
    return _rendered(work, FIRST_WORDS_SEED, plan.words_pairs)


def held_out_set(work: Path) -> PhantomSet:
    """Phantoms that training never sees, to watch it by."""
    return render_pairs(work / "phantoms", FIRST_HELD_OUT_SEED, HELD_OUT_PAIRS, IMAGE_SIZE)


def _rendered(work: Path, first_seed: int, pairs: int) -> PhantomSet:
    firsts = range(first_seed, first_seed + pairs, PAIRS_PER_FILE)
    sizes = [min(PAIRS_PER_FILE, first_seed + pairs - first) for first in firsts]
    return joined(
        [
            render_pairs(work / "phantoms", first, size, IMAGE_SIZE)
            for first, size in zip(firsts, sizes, strict=True)
        ]
    )


def _eyes(data: PhantomSet, plan: Plan) -> tuple[Any, Heads]:
    """A fresh vision tower and the heads it is taught through."""
    tower = build_tower(plan.seed)
    vision_tower.initialise(tower, data.pixels[:600], plan.seed)
    return tower, Heads(data.truths)


def _crop_stage(rank: int, work: Path, plan: Plan) -> None:
    _log_from(rank)
    data = vision_set(work, plan)
    tower, heads = _eyes(data, plan)
    train_on_crops(tower, heads, data, plan.crop_steps, plan.seed + 1000 * rank)
    _keep(rank, torch.nn.ModuleList([tower, heads]), work / "crops.safetensors")


def _picture_stage(rank: int, work: Path, plan: Plan) -> None:
    _log_from(rank)
    data = vision_set(work, plan)
    tower, heads = _eyes(data, plan)
    both = torch.nn.ModuleList([tower, heads])
    load_model(both, work / "crops.safetensors")
    record = partial(_record, work) if rank == 0 else _forget
    seed = plan.seed + 1 + 1000 * rank
    train_on_pictures(tower, heads, data, held_out_set(work), plan.picture_steps, seed, record)
    _keep(rank, both, work / "vision.safetensors")


def _words_stage(rank: int, work: Path, plan: Plan) -> None:
    """Each process keeps the features of its own share of the pairs, and learns from those."""
    _log_from(rank)
    tower, heads = _eyes(vision_set(work, plan), plan)
    load_model(torch.nn.ModuleList([tower, heads]), work / "vision.safetensors")
    data = share(words_set(work, plan), rank, plan.processes)
    model, processor = _fresh_model(work, plan)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    fractured = np.array([truth.label == 1 for truth in data.truths])
    lesson = Lesson(
        image_features(tower, data.pixels),
        fractured,
        lambda row, wording, impression: write_findings(data.truths[row], wording, impression=impression),
    )
    prompts = [load_prompt(name) for name in PROMPTS]
    train_words(model, processor, lesson, prompts, plan.word_steps, plan.seed + 2 + 1000 * rank)
    _keep(rank, model, work / "words.safetensors")


def _fresh_model(work: Path, plan: Plan) -> tuple[Any, Any]:
    truths = words_set(work, plan).truths
    texts = [write_findings(truth, i) for i, truth in enumerate(truths)]
    processor = build_processor([*texts, *[load_prompt(name).text for name in PROMPTS] * 20])
    return build_model(processor, plan.seed), processor


def _write_captioner(work: Path, target: Path, plan: Plan) -> None:
    """Write weights (bfloat16 safetensors), configuration, tokenizer, chat template and card to `target`."""
    model, processor = _fresh_model(work, plan)
    load_model(model, work / "words.safetensors")
    write_model(model.to(torch.bfloat16), processor, target)
    curve = [json.loads(line) for line in (work / CURVE).read_text(encoding="utf-8").splitlines()]
    write_card(target, asdict(plan), curve, measure(target, plan.processes))
    log.info("captioner written to %s", target)


def _keep(rank: int, module: torch.nn.Module, path: Path) -> None:
    if rank == 0:
        save_model(module, str(path))


def _record(work: Path, figures: dict[str, Any]) -> None:
    log.info("%s", {name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()})
    with (work / CURVE).open("a", encoding="utf-8") as curve:
        curve.write(json.dumps(figures) + "\n")


def _forget(_: dict[str, float]) -> None:
    return None


def _log_from(rank: int) -> None:
    """Spawned processes start without a log; the first one speaks for all."""
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
