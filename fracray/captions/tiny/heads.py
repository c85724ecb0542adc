"""What the vision tower is taught through, and what those heads tell about held-out phantoms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fracray.captions.tiny.architecture import IMAGE_SIZE, PATCH, VISION_WIDTH
from fracray.captions.tiny.phantom_set import PhantomSet
from fracray.radiographs.phantoms import PhantomTruth

SIDE = IMAGE_SIZE // PATCH

ATTRIBUTES: dict[str, Callable[[PhantomTruth], str | None]] = {
    "region": lambda truth: truth.region,
    "projection": lambda truth: truth.projection,
    "bone": lambda truth: truth.bone,
    "place": lambda truth: truth.place,
    "kind": lambda truth: truth.kind,
}
"""What one of several words describes; None (no fracture) is not trained on."""


LOOKALIKES = ("nutrient canal", "growth plate", "skin fold", "cast", "healed fracture", "accessory ossicle",
              "collimator edge")  # fmt: skip


class FractureMap(nn.Module):
    """Fracture logit of each patch, and how the picture's follows from theirs (see `map_losses`)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Linear(VISION_WIDTH, 1)
        self.anywhere = nn.Parameter(torch.tensor([1.0, -2.0]))
        nn.init.constant_(self.patches.bias, -3.0)


class Heads(FractureMap):
    """What the tower is taught through, and what is thrown away afterwards.

    `changes`: what the fracture changed in a patch, pixel by pixel.
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
        self.changes = nn.Linear(VISION_WIDTH, PATCH * PATCH)
        self.picture = nn.Linear(VISION_WIDTH, self.flags + sum(map(len, self.words.values())))

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
