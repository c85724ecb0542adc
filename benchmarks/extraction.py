"""What does Ray cost an extraction? Images per second from JPEG files to embeddings, three ways side by side.

A bare loop (a pool of threads decodes, the network runs on all cores), a PyTorch DataLoader with worker
processes, and `fracray extract` with its store, from the same files through the same decoder into the same
network, on the same cores; and the bare loop once more with `fracray.memory`, which fracray uses too. The
bars: at least 0.90 of the plain bare loop between the first and the last written block, at least the
DataLoader's rate, and at least 0.80 with the start of Ray and the models included. With `--nodes`, fracray
alone on one and on two Ray nodes of one CPU each on this machine: how it scales.

    python benchmarks/extraction.py [--images 2000] [--architecture resnet50] [--gpus 1] [--nodes]

The files are phantoms of 1,500 x 1,800 pixels: 40 scenes, each with its own noise and exposure per file.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray
from PIL import Image
from ray.cluster_utils import Cluster
from torch.utils.data import DataLoader, Dataset

from fracray import schema
from fracray.captions.choose import captioner_fingerprint
from fracray.config import Config, load_config
from fracray.extraction.pipeline import extract
from fracray.extraction.reading import ENOUGH
from fracray.extraction.store import FeatureStore
from fracray.fingerprint import image_id
from fracray.memory import keep_freed_memory
from fracray.radiographs.phantoms import make_phantom
from fracray.radiographs.read import read_radiograph
from fracray.vision.backbone import load_backbone
from fracray.vision.normalise import normalise
from fracray.vision.preprocess import preprocess

FIRST_SEED, SCENES = 4_920_000, 40
SHAPE = (1800, 1500)


def write_jpegs(folder: Path, count: int) -> list[Path]:
    """Write `count` different phantom JPEGs."""
    rng = np.random.default_rng(0)
    scenes = []
    for seed in range(FIRST_SEED, FIRST_SEED + min(SCENES, count)):
        picture = Image.fromarray(np.rint(make_phantom(seed).pixels * 255).astype(np.uint8))
        scenes.append(np.asarray(picture.resize((SHAPE[1], SHAPE[0])), np.float32))
    noise = rng.normal(0, 3, (4, *SHAPE)).astype(np.float32)
    paths = []
    for number in range(count):
        exposed = scenes[number % len(scenes)] * rng.uniform(0.7, 1.0) + np.roll(noise[number % 4], number, 0)
        path = folder / f"{number}.jpg"
        Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def write_manifest(paths: list[Path], place: Path) -> list[str]:
    """Write the manifest of files that are known to be sound; returns their ids."""
    ids = [image_id(path.read_bytes()) for path in paths]
    nothing = dict.fromkeys(schema.MANIFEST.names)
    rows = [
        nothing | {"image_id": image, "uri": str(path), "group": image[:16], "status": "ok"}
        for image, path in zip(ids, paths, strict=True)
    ]
    schema.write_table(pa.Table.from_pylist(rows, schema=schema.MANIFEST), schema.MANIFEST, place)
    return ids


def store_with_captions(folder: Path, ids: list[str], config: Config) -> FeatureStore:
    """Return a store that lacks nothing but the embeddings."""
    store, name = FeatureStore(folder), captioner_fingerprint(config.captions)
    row = {"fingerprint": name, "caption": "-", "verdict": "none", "findings": "unparsed", "status": "ok"}
    rows = [row | {"image_id": image} for image in ids]
    store.write("captions", name, pa.Table.from_pylist(rows, schema=schema.CAPTIONS))
    return store


class Files(Dataset[NDArray[np.uint8]]):
    """The files as a DataLoader's data set."""

    def __init__(self, paths: list[Path], config: Config) -> None:
        self.paths, self.config = paths, config

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        enough = ENOUGH * self.config.vision.preprocessing.size
        pixels = read_radiograph(
            self.paths[number].read_bytes(), self.config.radiographs, enough=enough
        ).pixels
        return preprocess(pixels, self.config.vision.preprocessing)


def embedder(config: Config, device: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the network as a plain script would call it."""
    model = load_backbone(config.vision.backbone).to(device)

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = normalise(torch.from_numpy(pixels).to(device))
        numbers: NDArray[np.float32] = model(batch).float().cpu().numpy()
        return numbers

    return run


def bare_loop(files: Files, config: Config, device: str, cores: int) -> NDArray[np.float32]:
    """Decode ahead in threads, embed batch after batch."""
    run, size = embedder(config, device), config.vision.batch_size
    with ThreadPoolExecutor(cores) as readers:
        squares: Iterator[NDArray[np.uint8]] = readers.map(files.__getitem__, range(len(files)))
        batches = iter(lambda: list(islice(squares, size)), [])
        return np.concatenate([run(np.stack(batch)) for batch in batches])


def data_loader(files: Files, config: Config, device: str, cores: int) -> NDArray[np.float32]:
    """Decode in worker processes, embed batch after batch."""
    run, size = embedder(config, device), config.vision.batch_size
    batches = DataLoader(files, size, num_workers=cores)
    return np.concatenate([run(batch.numpy()) for batch in batches])


def fracray(manifest: Path, store: FeatureStore, config: Config) -> dict[str, float]:
    """Extract; returns images per second over all and between the first and the last block."""
    written: list[tuple[float, int]] = []
    started = time.perf_counter()
    summary = extract(manifest, store, config, lambda done, *_: written.append((time.perf_counter(), done)))
    (first, before), (last, after) = next(pair for pair in written if pair[1]), written[-1]
    assert (summary.embeddings.done, summary.embeddings.failed) == (summary.worked, 0)
    return {
        "whole": summary.worked / (time.perf_counter() - started),
        "steady": (after - before) / (last - first),
    }


def seconds_of(work: Callable[[], Any]) -> float:
    """Return how long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def settings(asked: argparse.Namespace, cpus: float, actors: int = 1) -> Config:
    """Return what all three ways use."""
    return load_config(
        overrides=[
            "captions.captioner=fake",
            f"vision.backbone.architecture={asked.architecture}",
            "vision.backbone.weights=random",
            f"extraction.vision_actors={actors}",
            f"extraction.cpus_per_vision_actor={cpus}",
            f"extraction.gpus_per_vision_actor={1 if asked.gpus else 0}",
        ]
    )


def side_by_side(asked: argparse.Namespace, folder: Path, paths: list[Path]) -> dict[str, Any]:
    """Compare the three ways."""
    cores, device = os.cpu_count() or 1, "cuda" if asked.gpus else "cpu"
    config = settings(asked, cpus=cores / max(1, asked.gpus), actors=max(1, asked.gpus))
    ids = write_manifest(paths, folder / "manifest.parquet")
    files = Files(paths, config)
    bare = len(paths) / seconds_of(lambda: bare_loop(files, config, device, cores))
    loader = len(paths) / seconds_of(lambda: data_loader(files, config, device, cores))
    keep_freed_memory()
    kept = len(paths) / seconds_of(lambda: bare_loop(files, config, device, cores))
    ours = fracray(folder / "manifest.parquet", store_with_captions(folder / "features", ids, config), config)
    return {
        "images_per_second": {
            "bare_loop": bare,
            "data_loader": loader,
            "bare_loop_keeping_memory": kept,
            "fracray": ours,
        },
        "fracray_to_bare_loop": {name: rate / bare for name, rate in ours.items()},
        "fracray_to_bare_loop_keeping_memory": {name: rate / kept for name, rate in ours.items()},
        "fracray_to_data_loader": ours["steady"] / loader,
    }


def scaling(asked: argparse.Namespace, folder: Path, paths: list[Path]) -> dict[str, Any]:
    """Compare one and two nodes of one CPU."""
    rates = {}
    ids = write_manifest(paths, folder / "manifest.parquet")
    for nodes in (1, 2):
        config = settings(asked, cpus=1, actors=nodes)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        store = store_with_captions(folder / f"features-{nodes}", ids, config)
        rates[nodes] = fracray(folder / "manifest.parquet", store, config)["steady"]
        ray.shutdown()
        cluster.shutdown()
    return {"images_per_second": rates, "efficiency": rates[2] / (2 * rates[1])}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--nodes", action="store_true", help="compare one and two nodes of one CPU instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place) / "jpegs").mkdir()
        paths = write_jpegs(folder, asked.images)
        figures = (scaling if asked.nodes else side_by_side)(asked, Path(place), paths)
    machine = {"cpus": os.cpu_count(), "load_average": os.getloadavg()[0]}
    versions = {name: version(name) for name in ("ray", "torch", "pillow", "pyarrow")}
    print(json.dumps(vars(asked) | figures | machine | {"versions": versions}, indent=2))


if __name__ == "__main__":
    main()
