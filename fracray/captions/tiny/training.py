"""Making the embedded captioner: render, teach the vision tower, teach the words, write the model folder."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from fracray.captions.prompt import load_prompt
from fracray.captions.tiny import vision_tower
from fracray.captions.tiny.architecture import IMAGE_SIZE, build_model, build_processor
from fracray.captions.tiny.findings_text import write_findings
from fracray.captions.tiny.parallel import run_parallel
from fracray.captions.tiny.phantom_set import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    PhantomSet,
    joined,
    render_pairs,
    share,
)
from fracray.captions.tiny.vision_training import Heads, train_on_crops, train_on_pictures
from fracray.captions.tiny.words_training import image_features, train_words

log = logging.getLogger(__name__)

PAIRS_PER_FILE = 500
HELD_OUT_PAIRS = 300
PAIRS_FOR_WORDS = 2000
"""The words need fewer pictures than the eyes, and passing a picture through the tower takes longest."""


@dataclass(frozen=True)
class Plan:
    """How long each step lasts (minutes), on how many pairs of phantoms and processes, from which seed."""

    seed: int
    pairs: int = 4000
    crops: float = 27.0
    pictures: float = 36.0
    words: float = 6.0
    processes: int = 2


def make_captioner(work: Path, target: Path, plan: Plan) -> None:
    """Train the embedded captioner and write its folder to `target`.

    Every finished step leaves its result in `work`; called again, it goes on from there.
    """
    work.mkdir(parents=True, exist_ok=True)
    training_set(work, plan.pairs)
    held_out_set(work)
    if not (work / "vision.safetensors").exists():
        run_parallel(_vision_step, work / "meeting", plan.processes, work, plan)
    run_parallel(_words_step, work / "meeting", plan.processes, work, target, plan)


def training_set(work: Path, pairs: int) -> PhantomSet:
    """The phantoms that training sees, rendered into `work` unless they are there."""
    parts = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + pairs, PAIRS_PER_FILE)
    return joined([render_pairs(work / "phantoms", first, PAIRS_PER_FILE, IMAGE_SIZE) for first in parts])


def held_out_set(work: Path) -> PhantomSet:
    """Phantoms that training never sees, to watch it by."""
    return render_pairs(work / "phantoms", FIRST_HELD_OUT_SEED, HELD_OUT_PAIRS, IMAGE_SIZE)


def _fresh(data: PhantomSet, seed: int) -> tuple[Any, Any, Any, Heads]:
    texts = [write_findings(truth, i) for i, truth in enumerate(data.truths[:4000])]
    processor = build_processor([*texts, *[load_prompt(name).text for name in ("findings", "paper")] * 200])
    model = build_model(processor, seed)
    tower = model.model.vision_tower
    vision_tower.initialise(tower, data.pixels[:600], seed)
    return model, processor, tower, Heads(data.truths)


def _vision_step(rank: int, work: Path, plan: Plan) -> None:
    _log_from(rank)
    data = training_set(work, plan.pairs)
    _, _, tower, heads = _fresh(data, plan.seed)
    both, crops = torch.nn.ModuleList([tower, heads]), work / "crops.safetensors"
    if crops.exists():
        load_model(both, crops)
    else:
        train_on_crops(tower, heads, data, plan.crops, plan.seed + 1000 * rank)
        if rank == 0:
            save_model(both, str(crops))
    train_on_pictures(tower, heads, data, held_out_set(work), plan.pictures, plan.seed + 1 + 1000 * rank)
    if rank == 0:
        save_model(both, str(work / "vision.safetensors"))


def _words_step(rank: int, work: Path, target: Path, plan: Plan) -> None:
    """Each process keeps the features of its own share of the pairs, and learns from those."""
    _log_from(rank)
    everything = training_set(work, plan.pairs)
    model, processor, tower, heads = _fresh(everything, plan.seed)
    data = share(everything, rank, plan.processes * max(1, plan.pairs // PAIRS_FOR_WORDS))
    load_model(torch.nn.ModuleList([tower, heads]), work / "vision.safetensors")
    kept = work / f"features-{rank}.safetensors"
    if not kept.exists():
        save_file({"features": image_features(tower, data.pixels)}, kept)
    features = load_file(kept)["features"]
    prompts = [load_prompt(name) for name in ("findings", "paper")]
    train_words(model, processor, data, features, prompts, plan.words, plan.seed + 2 + 1000 * rank)
    if rank == 0:
        write_captioner(model, processor, target)


def write_captioner(model: Any, processor: Any, target: Path) -> None:
    """Write weights (bfloat16 safetensors), configuration, tokenizer and chat template to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(target)
    processor.save_pretrained(target)
    log.info("captioner written to %s", target)


def _log_from(rank: int) -> None:
    """Spawned processes start without a log; the first one speaks for all."""
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
