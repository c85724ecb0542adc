"""Does embedding cost more than the network itself? Images per second of three ways to the same embeddings.

A bare loop over model(x) on batches that are ready; a PyTorch DataLoader that feeds uint8 pictures to the
same network; and fracray's `embed` on the same pictures. All in one process, in turn, best of the rounds; the
bar is 95 % of the bare loop. Decoding and preprocessing phantom JPEGs, rendered by the script, are timed
apart.

    python benchmarks/embedding.py [--images 64] [--architecture resnet50] [--precision bfloat16]
"""

import argparse
import io
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from fracray.config import BackboneSettings, Preprocessing, RadiographSettings
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import read_radiograph
from fracray.vision.backbone import Backbone, load_backbone
from fracray.vision.device import Precision, choose_device, embedding_arithmetic
from fracray.vision.embed import embed
from fracray.vision.normalise import normalise
from fracray.vision.preprocess import preprocess

FIRST_SEED = 4_910_000
DISTINCT = 4
"""Phantoms rendered; the images are copies of these."""


def phantom_jpeg(seed: int) -> bytes:
    """Return a phantom of 1,800 pixels as JPEG, the size of a real radiograph."""
    file = io.BytesIO()
    pixels = make_phantom(seed, long_side=1800).pixels
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def bare_loop(
    model: Backbone, batches: list[torch.Tensor], place: torch.device, precision: Precision
) -> NDArray[np.float32]:
    """Embed batches that are normalised already."""
    with torch.inference_mode(), embedding_arithmetic(place, precision):
        return torch.cat([model(batch).float() for batch in batches]).cpu().numpy()


def data_loader(
    model: Backbone, pixels: torch.Tensor, batch_size: int, place: torch.device, precision: Precision
) -> NDArray[np.float32]:
    """Embed as a plain PyTorch script does it, fetching each batch."""
    parts = []
    with torch.inference_mode(), embedding_arithmetic(place, precision):
        for (batch,) in DataLoader(TensorDataset(pixels), batch_size):
            parts.append(model(normalise(batch.to(place))).float().cpu().numpy())
    return np.concatenate(parts)


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()

    files = [phantom_jpeg(FIRST_SEED + number) for number in range(DISTINCT)]
    began = time.perf_counter()
    decoded = [read_radiograph(data, RadiographSettings()).pixels for data in files]
    decoding = (time.perf_counter() - began) / DISTINCT
    began = time.perf_counter()
    squares = [preprocess(radiograph, Preprocessing()) for radiograph in decoded]
    preprocessing = (time.perf_counter() - began) / DISTINCT

    place = choose_device("auto")
    settings = BackboneSettings.model_validate({"architecture": asked.architecture, "weights": "random"})
    model = load_backbone(settings).to(place)
    pixels = np.stack(squares)[np.arange(asked.images) % DISTINCT]
    starts = range(0, asked.images, asked.batch_size)
    ready = [normalise(torch.tensor(pixels[at : at + asked.batch_size], device=place)) for at in starts]
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        "bare_loop": lambda: bare_loop(model, ready, place, asked.precision),
        "data_loader": lambda: data_loader(
            model, torch.tensor(pixels), asked.batch_size, place, asked.precision
        ),
        "fracray": lambda: embed(model, pixels, asked.batch_size, "auto", asked.precision),
    }
    results = {name: way() for name, way in ways.items()}
    for numbers in results.values():
        np.testing.assert_allclose(numbers, results["bare_loop"], rtol=1e-2, atol=1e-2)
    best = {name: min(seconds) for name, seconds in zip(ways, _rounds(ways, asked.rounds), strict=True)}
    speed = {name: asked.images / seconds for name, seconds in best.items()}
    result = {
        **vars(asked),
        "images_per_second": {name: round(value, 2) for name, value in speed.items()},
        "fracray_to_bare_loop": round(speed["fracray"] / speed["bare_loop"], 3),
        "milliseconds_per_image": {
            "decode": round(1000 * decoding, 2),
            "preprocess": round(1000 * preprocessing, 2),
            "model": round(1000 * best["bare_loop"] / asked.images, 2),
        },
        "device": torch.cuda.get_device_name() if place.type == "cuda" else "cpu",
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
    }
    print(json.dumps(result, indent=2))


def _rounds(ways: dict[str, Callable[[], NDArray[np.float32]]], rounds: int) -> list[list[float]]:
    # In turn, so that what else the machine does meets all ways alike.
    by_round = [[seconds_of(way) for way in ways.values()] for _ in range(rounds)]
    return [list(seconds) for seconds in zip(*by_round, strict=True)]


if __name__ == "__main__":
    main()
