"""Does an extraction lose or double a row when whatever it runs on is killed? A long run of random kills.

`fracray extract` runs on three Ray nodes of this machine. At random moments the driver, a process that reads
or computes, or a node other than the head is killed with SIGKILL; a dead node is replaced, a driver that
ended is started again, and a store that is complete gets another size of picture to extract. In the end each
run is let through once more, and every radiograph must stand in the store exactly once for each feature.
Prints JSON; the exit code is 1 when a row is missing, doubled or failed, or a run ended in a traceback.

    python benchmarks/chaos.py [--kills 30] [--radiographs 1500] [--seed 7]
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.dataset as ds
from PIL import Image
from ray.cluster_utils import Cluster

from fracray import schema
from fracray.config import RadiographSettings
from fracray.radiographs.manifest import build_manifest

KINDS = ("driver", "process", "node")
WAIT = (4.0, 30.0)
"""Seconds between two kills: a run needs some ten to start, so that start and work are both hit."""
FINAL_SECONDS = 900
SETTINGS = (
    "captions.captioner=fake",
    "vision.backbone.architecture=resnet18",
    "extraction.rows_per_block=16",
)
FIRST_SIZE = 64


@dataclass
class Report:
    """What happened: kills by kind, runs by how they ended, their messages, and what the store holds."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    tracebacks: int = 0


class Run:
    """One `fracray extract` of pictures of `size` pixels, as a process of its own."""

    def __init__(self, folder: Path, address: str, size: int) -> None:
        self.size = size
        fracray = Path(sys.executable).with_name("fracray")
        command = [str(fracray), "extract", str(folder / "manifest.parquet")]
        command += ["--store", str(folder / "features")]
        for setting in (*SETTINGS, "vision.backbone.weights=random", f"vision.preprocessing.size={size}"):
            command += ["--set", setting]
        self._errors = folder / "errors.txt"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, env={**os.environ, "RAY_ADDRESS": address}, stdout=subprocess.DEVNULL, stderr=errors
            )

    def ended(self, report: Report) -> str | None:
        """Return how the run ended, which then stands in `report`; None while it runs."""
        if (code := self.process.poll()) is None:
            return None
        errors = self._errors.read_text()
        end = "completed" if code == 0 else "killed" if code < 0 else "gave up"
        report.runs[end] += 1
        report.tracebacks += "Traceback" in errors
        if code > 0:
            report.messages[(errors.strip().splitlines() or ["no message"])[-1]] += 1
        return end


def write_radiographs(folder: Path, count: int) -> None:
    """Write small pictures of noise, and their manifest."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / "radiographs" / ("fractured", "normal")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 50), dtype=np.uint8)).save(place / f"{number}.png")
    table = build_manifest(folder / "radiographs", RadiographSettings(duplicate_distance=0), 7)
    schema.write_table(table, schema.MANIFEST, folder / "manifest.parquet")


def kill(kind: str, cluster: Cluster, run: Run, rng: np.random.Generator) -> bool:
    """Kill something of this kind; returns whether there was anything to kill."""
    if kind == "driver":
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        return True
    if kind == "node":
        spot = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
        cluster.remove_node(spot[rng.integers(len(spot))], allow_graceful=False)
        cluster.add_node(num_cpus=2)
        return True
    raylets = [each.process.pid for node in cluster.list_all_nodes() for each in node.all_processes["raylet"]]
    # Of this cluster only: another Ray may be at work on the machine.
    workers = [child for raylet in raylets for child in psutil.Process(raylet).children() if _works(child)]
    if not workers:
        return False
    workers[rng.integers(len(workers))].kill()
    return True


def _works(process: psutil.Process) -> bool:
    """Whether a process runs a step of Ray Data, and does not wait for one."""
    with contextlib.suppress(psutil.Error):
        name = " ".join(process.cmdline()[:1])
        return name.startswith("ray::") and "Map" in name
    return False


def stored(folder: Path) -> dict[str, dict[str, int]]:
    """Return rows, different radiographs and failed rows for each feature and fingerprint, file by file."""
    found = {}
    for place in sorted((folder / "features").glob("*/*")):
        table = ds.dataset(place, format="parquet", exclude_invalid_files=False).to_table(
            ["image_id", "status"]
        )
        ids, statuses = table["image_id"].to_pylist(), table["status"].to_pylist()
        found[f"{place.parent.name}/{place.name}"] = {
            "rows": len(ids),
            "radiographs": len(set(ids)),
            "failed": statuses.count("failed"),
        }
    return found


def unleash(folder: Path, kills: int, seed: int, report: Report) -> None:
    """Run and kill, then let each run through."""
    rng = np.random.default_rng(seed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    size = FIRST_SIZE
    run = Run(folder, cluster.address, size)
    while report.kills.total() < kills:
        due = time.monotonic() + rng.uniform(*WAIT)
        while time.monotonic() < due:
            if (end := run.ended(report)) is not None:
                size += end == "completed"
                run = Run(folder, cluster.address, size)
            time.sleep(0.2)
        kind = KINDS[rng.integers(len(KINDS))]
        if kill(kind, cluster, run, rng):
            report.kills[kind] += 1
            print(
                f"{time.strftime('%X')} {report.kills.total()}: killed a {kind}", file=sys.stderr, flush=True
            )
    kill("driver", cluster, run, rng)
    for each in range(FIRST_SIZE, size + 1):
        last = Run(folder, cluster.address, each)
        last.process.wait(FINAL_SECONDS)
        last.ended(report)
    cluster.shutdown()


def main() -> int:
    """Unleash, count and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--radiographs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    report, started = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_radiographs(folder, asked.radiographs)
        unleash(folder, asked.kills, asked.seed, report)
        features = stored(folder)
    figures: dict[str, Any] = vars(report) | {
        "features": features,
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(vars(asked) | figures, indent=2))
    whole = {"rows": asked.radiographs, "radiographs": asked.radiographs, "failed": 0}
    return int(report.tracebacks > 0 or any(found != whole for found in features.values()))


if __name__ == "__main__":
    sys.exit(main())
