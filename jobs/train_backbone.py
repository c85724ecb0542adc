"""Make the embedded backbone again: `python jobs/train_backbone.py --target fracray/assets/backbone`.

On two idle cores it takes about fifteen minutes and ends with the figures of the asset's README.
"""

import argparse
import json
import logging
from pathlib import Path

import torch

from fracray.config import BackboneSettings, FinetuneSettings, Preprocessing
from fracray.vision import pretraining
from fracray.vision.backbone import load_backbone, save_backbone
from fracray.vision.pretraining import draw_phantoms, pretrain

TRAINING_SEEDS = range(3_000_000, 3_003_000)
HELD_OUT_SEEDS = range(4_000_000, 4_000_420)
PREPROCESSING = Preprocessing(size=160)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="folder for backbone.safetensors")
    path = parser.parse_args().target / "backbone.safetensors"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    phantoms = draw_phantoms(TRAINING_SEEDS, PREPROCESSING, fractured=False)
    network = pretraining.PretextNetwork("resnet10", seed=0)
    pretrain(network, phantoms, epochs=8, seed=0, sizes=(96, 128, 160), altered=False)
    pretrain(network, phantoms, epochs=6, seed=1, sizes=(128, 160), altered=True)
    save_backbone(network.backbone, path, torch.float16)
    held_out = draw_phantoms(HELD_OUT_SEEDS, PREPROCESSING, fractured=None)
    shipped = load_backbone(BackboneSettings(weights=str(path)))
    figures = pretraining.pretext_figures(network, held_out, seed=0)
    for unfrozen in ("none", "layer4"):
        settings = FinetuneSettings(unfrozen=unfrozen)
        auroc = pretraining.fracture_auroc(shipped, held_out, settings, seed=0)
        figures[f"fracture AUROC, unfrozen {unfrozen}"] = auroc
    print(json.dumps(figures, indent=2))
