"""Teaching the vision tower to see: first on crops around the fracture, then on whole pictures.

Fine detail is what a transformer without pretraining learns last, so it comes first and with the densest
signal that phantoms offer: for every patch, whether the fracture touches it. Both pictures of a pair stand
in one batch.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from fracray.captions.tiny.architecture import IMAGE_SIZE, PATCH, VISION_WIDTH
from fracray.captions.tiny.parallel import steps
from fracray.captions.tiny.phantom_set import PhantomSet
from fracray.radiographs.phantoms import PhantomTruth

log = logging.getLogger(__name__)

SIDE = IMAGE_SIZE // PATCH
TOUCHED = 0.04
"""Share of a patch that the fracture's mask must cover."""

EASY_SHARE = 0.3
"""Part of the crop stage that leaves out the kinds which hardly show (they keep the loss on its first
plateau)."""

PIXELS, MASK, CHANGE = range(3)
CHANGE_SCALE = 12.0
"""Grey levels that a fracture changes a pixel by, roughly."""

SHOWN = ((0.4, 130), (0.85, 200), (1.0, None))
"""Until which share of the picture stage how many of a picture's 400 patches are looked at (None: all, as an
answer will). Looking at a third costs a quarter of the time and still meets most of the bones."""

REPORT_EVERY = 0.2
"""Share of the picture stage between two looks at held-out phantoms."""

HARD_KINDS = ("hairline", "greenstick", "buckle")

ATTRIBUTES: dict[str, Callable[[PhantomTruth], str | None]] = {
    "region": lambda truth: truth.region,
    "projection": lambda truth: truth.projection,
    "bone": lambda truth: truth.bone,
    "place": lambda truth: truth.place,
    "kind": lambda truth: truth.kind,
}
"""What one of several words describes; None (no fracture) is not trained on."""

WORD_WEIGHTS = (1.0, 1.0, 0.4, 0.4, 0.4)
"""What a whole picture shows counts more than what only the fracture shows."""

LOOKALIKES = ("nutrient canal", "growth plate", "skin fold", "cast", "healed fracture", "accessory ossicle",
              "collimator edge")  # fmt: skip


class Heads(nn.Module):
    """What the tower is taught through, and what is thrown away afterwards.

    `patches`: fracture logit of a patch. `changes`: what the fracture changed in it, pixel by pixel.
    `picture`: fracture, swelling, metal, marker, look-alikes, then the attributes' words, all from the mean
    over patches.
    """

    def __init__(self, truths: list[PhantomTruth]) -> None:
        super().__init__()
        self.words = {
            name: sorted({word for truth in truths if (word := read(truth)) is not None})
            for name, read in ATTRIBUTES.items()
        }
        self.flags = 4 + len(LOOKALIKES)
        self.patches = nn.Linear(VISION_WIDTH, 1)
        self.changes = nn.Linear(VISION_WIDTH, PATCH * PATCH)
        self.picture = nn.Linear(VISION_WIDTH, self.flags + sum(map(len, self.words.values())))
        self.anywhere = nn.Parameter(torch.tensor([1.0, -2.0]))
        nn.init.constant_(self.patches.bias, -3.0)

    def targets(self, truths: list[PhantomTruth]) -> tuple[Tensor, Tensor]:
        """Return flags float32 [n, flags] and word indices int64 [n, attributes], -100 where there is
        none."""
        flags = [
            [float(t.label), float(t.soft_tissue_swelling), float(t.hardware), float(t.side is not None)]
            + [float(name in t.lookalikes) for name in LOOKALIKES]
            for t in truths
        ]
        words = [
            [
                self.words[name].index(word) if (word := read(t)) in self.words[name] else -100
                for name, read in ATTRIBUTES.items()
            ]
            for t in truths
        ]
        return torch.tensor(flags), torch.tensor(words)


def encode(tower: Any, pixels: np.ndarray, places: Tensor | None = None) -> Tensor:
    """Return the tower's tokens [n, t, d] for pictures uint8 [n, h, w].

    `places` [n, t]: for crops the place of each patch; for whole pictures the patches that are looked at.
    """
    values = torch.from_numpy(pixels.astype(np.float32)).unsqueeze(1) / 127.5 - 1
    embeddings = tower.embeddings.patch_embedding(values.expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2)
    if places is None:
        places = torch.arange(SIDE * SIDE)
    elif places.shape[1] < embeddings.shape[1]:
        embeddings = embeddings.gather(1, places[..., None].expand(-1, -1, embeddings.shape[2]))
    embeddings = embeddings + tower.embeddings.position_embedding(places)
    hidden: Tensor = tower.encoder(inputs_embeds=embeddings).last_hidden_state
    normed: Tensor = tower.post_layernorm(hidden)
    return normed


def train_on_crops(
    tower: Any,
    heads: Heads,
    data: PhantomSet,
    count: int,
    seed: int,
    *,
    crop: int = 96,
    pairs: int = 16,
) -> None:
    """Teach fine detail on crops around the fracture's site, turned and mirrored, both of a pair alike."""
    rng = np.random.default_rng(seed)
    parameters = [*tower.parameters(), *heads.parameters()]
    positions = [tower.embeddings.position_embedding.weight]
    hard = np.array([truth.kind in HARD_KINDS for truth in data.truths[0::2]])
    every, easy = np.arange(len(hard)), np.flatnonzero(~hard)
    for progress, step in steps(parameters, count, 1.5e-3, log.info, positions):
        chosen = rng.choice(easy if progress < EASY_SHARE else every, pairs, replace=False)
        planes, places = _crops(data, chosen, crop, rng)
        touched = _touched(planes[:, MASK])
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, _exposed(planes[:, PIXELS], rng), places)
            fracture = heads.picture(tokens.mean(1))[:, 0].float()
            dense = _dense_loss(heads, tokens, planes)
        step(dense + 0.3 * functional.binary_cross_entropy_with_logits(fracture, touched.amax(1)))


def train_on_pictures(
    tower: Any,
    heads: Heads,
    data: PhantomSet,
    held_out: PhantomSet,
    count: int,
    seed: int,
    record: Callable[[dict[str, float]], None],
    *,
    pairs: int = 8,
) -> None:
    """Teach whole pictures: the fracture map still, and everything the findings will mention."""
    rng = np.random.default_rng(seed)
    parameters = [*tower.parameters(), *heads.parameters()]
    positions = [tower.embeddings.position_embedding.weight]
    checked = 0.0
    for progress, step in steps(parameters, count, 1e-3, log.info, positions):
        shown = next(shown for until, shown in SHOWN if progress < until)
        chosen = rng.choice(len(data) // 2, pairs if shown else pairs // 2, replace=False)
        planes = _moved(np.concatenate([_planes(data, pair) for pair in chosen]), rng)
        rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
        flags, words = heads.targets([data.truths[i] for i in rows])
        places = _bony_places(planes[:, PIXELS], shown, rng) if shown else None
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, _exposed(planes[:, PIXELS], rng), places)
            picture = heads.picture(tokens.mean(1)).float()
            dense, anywhere = _map_losses(heads, tokens, planes, places, flags[:, 0])
        step(2 * dense + anywhere + _picture_loss(heads, picture, flags, words))
        if progress >= checked + REPORT_EVERY:
            checked = progress
            record({"share of steps": progress} | held_out_figures(tower, heads, held_out))
    record({"share of steps": 1.0} | held_out_figures(tower, heads, held_out))


def _bony_places(pixels: np.ndarray, shown: int, rng: np.random.Generator) -> Tensor:
    """Return the brightest, most structured patches [n, shown] of each pair, with some chance.

    They are chosen on the sound picture for both: the choice says nothing about the fracture.
    """
    patches = pixels[1::2].astype(np.float32).reshape(-1, SIDE, PATCH, SIDE, PATCH)
    score = (patches.mean((2, 4)) + 2 * patches.std((2, 4))).reshape(len(patches), -1)
    order = np.argsort(-score * rng.uniform(0.75, 1.25, score.shape), axis=1)
    return torch.from_numpy(np.repeat(np.sort(order[:, :shown], axis=1), 2, axis=0))


def _map_losses(
    heads: Heads, tokens: Tensor, planes: np.ndarray, places: Tensor | None, fractured: Tensor
) -> tuple[Tensor, Tensor]:
    """Per patch: whether the fracture touches it. Per picture: whether any patch says so (log-sum-exp), which
    teaches on the patches that look like a fracture and are none."""
    touched = _touched(planes[:, MASK])
    touched = touched if places is None else touched.gather(1, places)
    logits = heads.patches(tokens)[..., 0].float()
    where = functional.binary_cross_entropy_with_logits(logits, touched, pos_weight=torch.tensor(4.0))
    highest = heads.anywhere[0] * torch.logsumexp(logits, dim=1) + heads.anywhere[1]
    return where, functional.binary_cross_entropy_with_logits(highest, fractured)


def _picture_loss(heads: Heads, picture: Tensor, flags: Tensor, words: Tensor) -> Tensor:
    flag_losses = functional.binary_cross_entropy_with_logits(
        picture[:, : heads.flags], flags, reduction="none"
    ).mean(0)
    loss = flag_losses[0] + 0.5 * flag_losses[1:].mean()
    groups = torch.split(picture[:, heads.flags :], [len(names) for names in heads.words.values()], dim=1)
    for i, logits in enumerate(groups):
        if bool((words[:, i] >= 0).any()):
            loss = loss + WORD_WEIGHTS[i] * functional.cross_entropy(logits, words[:, i])
    return loss


def _dense_loss(heads: Heads, tokens: Tensor, planes: np.ndarray) -> Tensor:
    """Per patch: whether the fracture touches it (touched patches count four times), and what it changed
    there."""
    touched = _touched(planes[:, MASK])
    changes = torch.from_numpy(_in_patches(planes[:, CHANGE])) / CHANGE_SCALE
    logits = heads.patches(tokens)[..., 0].float()
    where = functional.binary_cross_entropy_with_logits(logits, touched, pos_weight=torch.tensor(4.0))
    missed = functional.smooth_l1_loss(heads.changes(tokens).float(), changes, reduction="none").mean(-1)
    return where + 3 * (missed * (0.1 + touched)).mean() / (0.1 + touched).mean()


def _planes(data: PhantomSet, pair: int) -> np.ndarray:
    """Both pictures of a pair, fractured first, int16 [2, 3, s, s]: pixels, mask, and what the fracture
    changed."""
    mask = np.unpackbits(data.masks[2 * pair], axis=-1).astype(np.int16)
    fractured, sound = (data.pixels[2 * pair + i].astype(np.int16) for i in (0, 1))
    nothing = np.zeros_like(mask)
    return np.stack(
        [np.stack([fractured, mask, (fractured - sound) * mask]), np.stack([sound, nothing, nothing])]
    )


def _crops(
    data: PhantomSet, pairs: np.ndarray, crop: int, rng: np.random.Generator
) -> tuple[np.ndarray, Tensor]:
    """Planes [2 n, 3, crop, crop] of each pair at one place near the fracture, and the places of the
    patches."""
    crops, places = [], []
    grid = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    reach, side = IMAGE_SIZE - crop, crop // PATCH
    for pair in pairs:
        planes = _planes(data, int(pair))
        ys, xs = np.nonzero(planes[0, MASK])
        y, x = (IMAGE_SIZE // 2, IMAGE_SIZE // 2)
        if len(ys):
            chosen = rng.integers(len(ys))
            y, x = ys[chosen], xs[chosen]
        top = int(np.clip(y - rng.integers(crop // 6, crop - crop // 6), 0, reach))
        left = int(np.clip(x - rng.integers(crop // 6, crop - crop // 6), 0, reach))
        both = np.rot90(planes[..., top : top + crop, left : left + crop], int(rng.integers(4)), (2, 3))
        crops.append(both[..., ::-1] if rng.integers(2) else both)
        gy, gx = rng.integers(0, SIDE - side + 1, 2)
        places += 2 * [grid[gy : gy + side, gx : gx + side].ravel()]
    return np.concatenate(crops), torch.from_numpy(np.stack(places))


def _moved(planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror pairs at random, left to right, and move by up to half a patch so that patches cut anew."""
    which = np.repeat(rng.random(len(planes) // 2) < 0.5, 2)
    planes[which] = np.flip(planes[which], 3)
    margin = PATCH // 2
    top, left = rng.integers(0, 2 * margin + 1, 2)
    padded = np.pad(planes, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    return padded[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def _exposed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary brightness and contrast a little, the same for both pictures of a pair."""
    gain = np.repeat(rng.uniform(0.88, 1.1, len(pixels) // 2), 2)[:, None, None]
    shift = np.repeat(rng.uniform(-10, 10, len(pixels) // 2), 2)[:, None, None]
    return np.clip(pixels * gain + shift, 0, 255).astype(np.uint8)


def _in_patches(plane: np.ndarray) -> np.ndarray:
    """[n, h, w] to float32 [n, patches, pixels of a patch]."""
    n, height, width = plane.shape
    cut = plane.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH).transpose(0, 1, 3, 2, 4)
    return cut.reshape(n, -1, PATCH * PATCH).astype(np.float32)


def _touched(masks: np.ndarray) -> Tensor:
    """Masks 0/1 [n, h, w] to 1 where the fracture touches a patch, float32 [n, t]."""
    return torch.from_numpy((_in_patches(masks).mean(-1) > TOUCHED).astype(np.float32))


@torch.inference_mode()
def held_out_figures(tower: Any, heads: Heads, data: PhantomSet) -> dict[str, float]:
    """Return how well the heads do on phantoms that were not trained on."""
    pictures, maxima = [], []
    for first in range(0, len(data), 32):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encode(tower, data.pixels[first : first + 32])
            pictures.append(heads.picture(tokens.mean(1)).float())
            maxima.append(heads.patches(tokens)[..., 0].float().amax(1))
    picture = torch.cat(pictures)
    flags, words = heads.targets(data.truths)
    labels = flags[:, 0].numpy()
    figures = {
        "AUROC of a picture": float(roc_auc_score(labels, picture[:, 0])),
        "AUROC of its highest patch": float(roc_auc_score(labels, torch.cat(maxima))),
    }
    groups = torch.split(picture[:, heads.flags :], [len(names) for names in heads.words.values()], dim=1)
    for i, (name, logits) in enumerate(zip(heads.words, groups, strict=True)):
        known = words[:, i] >= 0
        figures[f"{name} right"] = float((logits.argmax(1) == words[:, i])[known].float().mean())
    return figures
