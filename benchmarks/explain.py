"""Does the heat map point at the fracture? The pointing game and a randomisation check, on phantoms.

A small network learns to tell cut-outs of phantoms with a conspicuous fracture from cut-outs of the same
phantoms without it; a fused classifier is fitted on its embeddings and on made-up captions of which four
fifths are right. On held-out phantoms, for each method: how often the map's maximum lies in the fracture's
box (Zhang et al. 2018, no tolerance) beside that box's share of the picture and how often the picture's
centre lies in it; the overlap of the hottest box with it; and the mean rank correlation of the map with that
of a network whose classifier, last layers, or all layers forgot what they learned (Adebayo et al. 2018; a
map of one value counts 0). They mean something only where the held-out
AUROC says that the network sees.

    python benchmarks/explain.py [--pairs 2000] [--held-out 120] [--epochs 30] [--picture FILE]
"""

import argparse
import copy
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image
from pointing_game import covered, outlined, overlap, peak, wilson
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from fracray.config import FusionSettings, HeatMapMethod
from fracray.explain.grad_cam import decision_map
from fracray.explain.overlay import overlay
from fracray.explain.regions import hottest_box
from fracray.fusion.classifier import Classifier, fit_classifier
from fracray.radiographs.phantoms.fractures import displacement_mm
from fracray.radiographs.phantoms.phantom import make_phantom
from fracray.radiographs.phantoms.scene import build_scene
from fracray.vision.backbone import Backbone
from fracray.vision.embed import embed
from fracray.vision.normalise import normalise

Shown = tuple[np.ndarray, np.ndarray]
FIRST_SEED = 600_000
LONG_SIDE, CUT = 280, 112
METHODS = get_args(HeatMapMethod)


@dataclass(frozen=True)
class Pair:
    """One phantom uint8 [2, h, w], fractured and not, and the fracture's box (xmin, ymin, xmax, ymax)."""

    pixels: np.ndarray
    box: tuple[int, int, int, int]


class SmallBackbone(Backbone):
    """Seven convolutions, 128 numbers, one place of the map per 16 pixels: learns in minutes on two cores."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.embedding_dim, self.stride, self.offset = 128, 16, 0
        self.mirror, self.members = False, 1
        plan = [(1, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        self.stages = nn.Sequential(*(_layer(*row) for row in plan))


def _layer(before: int, after: int, stride: int) -> nn.Sequential:
    side = 5 if before == 1 else 3
    convolution = nn.Conv2d(before, after, side, stride, side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def render(seed: int) -> Pair | None:
    """Return the pair of a seed whose fracture is conspicuous and fits the cut-out, else None."""
    fracture = build_scene(seed, True).fracture
    if fracture is None or fracture.kind not in ("transverse", "oblique", "spiral", "comminuted"):
        return None
    if displacement_mm(fracture) < 1.5 and abs(np.rad2deg(fracture.angle)) < 3:
        return None
    broken = make_phantom(seed, fractured=True, long_side=LONG_SIDE)
    box = broken.truth.box
    if box is None or max(box[2] - box[0], box[3] - box[1]) > 0.7 * CUT or min(broken.pixels.shape) < CUT:
        return None
    sound = make_phantom(seed, fractured=False, long_side=LONG_SIDE)
    pixels = np.rint(np.stack([broken.pixels, sound.pixels]) * 255).astype(np.uint8)
    return Pair(pixels, box)


def rendered(count: int, workers: int) -> list[Pair]:
    """Return the first `count` such pairs."""
    pairs: list[Pair] = []
    seed = FIRST_SEED
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while len(pairs) < count:
            pairs += [pair for pair in pool.map(render, range(seed, seed + 200), chunksize=10) if pair]
            seed += 200
    return pairs[:count]


def cut(pairs: list[Pair], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return cut-outs uint8 [2n, s, s], fractured ones at even places, and boxes [n, 4] in their pixels.

    Both of a pair show the same place, drawn at random so that the fracture lies in it.
    """
    pixels, boxes = [], []
    for pair in pairs:
        xmin, ymin, xmax, ymax = pair.box
        height, width = pair.pixels.shape[1:]
        top = int(rng.integers(max(0, ymax - CUT), min(ymin, height - CUT) + 1))
        left = int(rng.integers(max(0, xmax - CUT), min(xmin, width - CUT) + 1))
        pixels.append(pair.pixels[:, top : top + CUT, left : left + CUT])
        boxes.append((xmin - left, ymin - top, xmax - left, ymax - top))
    return np.concatenate(pixels), np.array(boxes)


def learned(pairs: list[Pair], epochs: int) -> Backbone:
    """Return a network that learned to tell the two of each pair apart."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network, head = SmallBackbone(), nn.Linear(128, 1)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, weight_decay=1e-2)
    per_epoch = len(pairs) // 16
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * per_epoch)
    labels = torch.tensor([1.0, 0.0]).repeat(16)
    network.train()
    for epoch in range(epochs):
        order, losses = rng.permutation(len(pairs)), []
        for step in range(per_epoch):
            pixels = cut([pairs[row] for row in order[16 * step : 16 * step + 16]], rng)[0]
            x = torch.rot90(normalise(pixels), int(rng.integers(4)), (2, 3))
            x = x.flip(3) if rng.random() < 0.5 else x
            loss = functional.binary_cross_entropy_with_logits(head(network(x))[:, 0], labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}", file=sys.stderr, flush=True)
    return network.eval().requires_grad_(False)


def captions_of(labels: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return made-up captions, four fifths of them right."""
    said = np.where(rng.random(len(labels)) < 0.8, labels, 1 - labels)
    return ["Displaced fracture." if each else "Cortex intact." for each in said]


def forgotten(network: Backbone, layers: int) -> Backbone:
    """Return a copy of `network` whose last `layers` layers have new random weights."""
    torch.manual_seed(1)
    copied = copy.deepcopy(network)
    for layer in copied.stages[len(copied.stages) - layers :]:
        for module in layer:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return copied


def rank_correlation(one: np.ndarray, other: np.ndarray, stride: int) -> float:
    """Return the mean over pictures of Spearman's correlation of two maps' cells; of one value: 0."""
    cells = zip(one[:, ::stride, ::stride], other[:, ::stride, ::stride], strict=True)
    varied = [(a, b) for a, b in cells if np.ptp(a) and np.ptp(b)]
    return float(sum(spearmanr(a, b, axis=None).statistic for a, b in varied) / len(one))


def share_inside(points: Sequence[tuple[int, int]], boxes: np.ndarray) -> list[float]:
    """Return how often each point (row, column) lies in its box, with the ends of its 95 % interval."""
    pairs = zip(points, boxes, strict=True)
    figure = wilson([bool(covered(box[None], (CUT, CUT))[point]) for point, box in pairs])
    return [round(float(value), 3) for value in (figure.value, figure.low, figure.high)]


def judged(
    network: Backbone, classifier: Classifier, captions: list[str], shown: Shown, method: HeatMapMethod
) -> dict[str, object]:
    """Return the figures of one method on fractured cut-outs [n, s, s] and their boxes [n, 4]."""
    pixels, boxes = shown
    logit = classifier.logit_function(captions)
    mixed = torch.tensor(np.random.default_rng(2).permutation(classifier.image_gradient()))
    began = time.perf_counter()
    heat = decision_map(network, logit, pixels, method)
    seconds = time.perf_counter() - began
    random = {
        f"{layers} of 7 layers": decision_map(forgotten(network, layers), logit, pixels, method)
        for layers in (1, 3, 7)
    }
    random["classifier"] = decision_map(network, lambda e: e.double() @ mixed, pixels, method)
    unlearned = random["7 of 7 layers"]
    hottest = [hottest_box(each) for each in heat]
    overlaps = [overlap(np.array(box), true) for box, true in zip(hottest, boxes, strict=True) if box]
    return {
        "pointing": share_inside([peak(each) for each in heat], boxes),
        "pointing_after_forgetting": share_inside([peak(each) for each in unlearned], boxes),
        "rank_correlation_after_forgetting": {
            name: round(rank_correlation(heat, other, network.stride), 2) for name, other in random.items()
        },
        "hottest_box_overlap": round(sum(overlaps) / len(hottest), 3),
        "without_region": hottest.count(None),
        "ms_per_map": round(1000 * seconds / len(heat), 1),
    }


def strip(network: Backbone, classifier: Classifier, captions: list[str], shown: Shown) -> Image.Image:
    """Return some cut-outs above their overlays, the fracture's own box in green."""
    pixels, boxes = shown
    heat = decision_map(network, classifier.logit_function(captions), pixels)
    columns = []
    for square, warmth, true in zip(pixels, heat, boxes, strict=True):
        grey = np.asarray(Image.fromarray(square).resize((2 * CUT, 2 * CUT)), np.float32) / 255
        warm = np.asarray(Image.fromarray(warmth).resize((2 * CUT, 2 * CUT)))
        picture = outlined(overlay(grey, warm, hottest_box(warm)), true[None], (CUT, CUT))
        columns.append(np.vstack([np.dstack([np.uint8(grey * 255)] * 3), np.asarray(picture)]))
    return Image.fromarray(np.hstack(columns))


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000, help="phantoms learned from")
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that render")
    parser.add_argument("--picture", type=Path, help="PNG of eight held-out cut-outs with their heat maps")
    asked = parser.parse_args()
    pairs = rendered(asked.held_out + asked.pairs, asked.workers)
    network = learned(pairs[asked.held_out :], asked.epochs)
    rng = np.random.default_rng(1)
    known, (unseen, boxes) = cut(pairs[asked.held_out :], rng)[0], cut(pairs[: asked.held_out], rng)
    labels, truth = (np.tile(np.int8([1, 0]), len(each) // 2) for each in (known, unseen))
    numbers, captions = embed(network, known, 64), captions_of(labels, rng)
    classifiers = {
        system: fit_classifier(system, numbers, captions, labels, FusionSettings(), 0)
        for system in ("image", "fused")
    }
    said, numbers = captions_of(truth, rng), embed(network, unseen, 64)
    shown = unseen[::2], boxes
    centre = [(CUT // 2, CUT // 2)] * len(boxes)
    result = {
        **{name: value for name, value in vars(asked).items() if name != "picture"},
        "note": "Phantoms, not patients.",
        "auroc": {
            name: round(float(roc_auc_score(truth, classifier.logits(numbers, said))), 3)
            for name, classifier in classifiers.items()
        },
        "box_share_of_picture": round(float(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean() / CUT**2), 3),
        "pointing_of_the_centre": share_inside(centre, boxes),
        "methods": {
            method: judged(network, classifiers["fused"], said[::2], shown, method) for method in METHODS
        },
        "image_branch": judged(network, classifiers["image"], said[::2], shown, "gradcam"),
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "grad-cam", "numpy")},
    }
    print(json.dumps(result, indent=2))
    if asked.picture is not None:
        eight = unseen[:16:2], boxes[:8]
        strip(network, classifiers["fused"], said[:16:2], eight).save(asked.picture)


if __name__ == "__main__":
    main()
