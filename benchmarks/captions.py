"""How fast can captions get, and what holds them back? A Gemma 3 captioner against arithmetic and memory.

Each cell is one way to hold the weights (bfloat16, int8, 4-bit NF4) and one batch size. The weights of
medgemma-4b are random, which changes neither time nor memory, and each caption has the same number of tokens.
Beside the captions per second stand two limits for the same work on the same device, measured in the same
run: arithmetic, by its fastest matrix product, and memory, by its fastest copy (caption_costs.py has the
formulas). The share is measured speed over the arithmetic limit.

A GPU runs the whole table. A CPU runs one small cell (nf4, batch 1, 4 new tokens) unless told otherwise:
medgemma-4b takes minutes there and 12 GB of memory. On any device it takes 9 GB of disk while it runs.

    python benchmarks/captions.py --shape medgemma-4b --json captions.json
    python benchmarks/captions.py --shape tiny --modes bf16 nf4 --batches 1 8 --new-tokens 32
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import torch
from caption_cells import Plan, cells
from caption_costs import caption_flops
from caption_model import medgemma_4b_config, prompt_tokens, write_random_model
from caption_table import show, with_limits
from device_limits import copy_bandwidth, matmul_peak
from rich.console import Console
from transformers import Gemma3Config

MODES = ("bf16", "int8", "nf4")
ON_A_GPU: dict[str, Any] = {"modes": list(MODES), "batches": [1, 8, 32, 128], "new_tokens": 128}
ON_A_CPU: dict[str, Any] = {"modes": ["nf4"], "batches": [1], "new_tokens": 4}


@contextmanager
def model_folder(shape: str) -> Iterator[Path]:
    """Give the embedded captioner's folder, or a temporary one with a model of MedGemma-4B's shape."""
    if shape == "tiny":
        yield Path(str(files("fracray") / "assets" / "captioner"))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(medgemma_4b_config(), Path(folder))
        yield Path(folder)


def device_facts(device: str) -> dict[str, Any]:
    """Return the device's name and its two measured limits."""
    flops, dtype = matmul_peak(device)
    bandwidth = copy_bandwidth(device)
    on_cpu = device == "cpu"
    name = platform.processor() or platform.machine() if on_cpu else torch.cuda.get_device_name()
    if not on_cpu:
        torch.cuda.empty_cache()
    return {
        "device": name,
        "threads": torch.get_num_threads() if on_cpu else None,
        "load_average": round(os.getloadavg()[0], 1),
        "matmul_flops_per_second": flops,
        "matmul_dtype": dtype,
        "copy_bytes_per_second": bandwidth,
    }


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(2)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=["medgemma-4b", "tiny"], default="medgemma-4b")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="how to hold the weights")
    parser.add_argument("--batches", nargs="+", type=_positive, help="captions written at once")
    parser.add_argument("--new-tokens", type=_positive, help="tokens of each caption")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    there = torch.cuda.is_available()
    if asked.device == "cuda" and not there:
        _refuse("no CUDA device here: leave --device out, or run this where there is one")
    if asked.json and not asked.json.parent.is_dir():
        _refuse(f"{asked.json}: its folder does not exist; make it, or name another file")
    if asked.device == "auto":
        asked.device = "cuda" if there else "cpu"
    for name, value in (ON_A_CPU if asked.device == "cpu" else ON_A_GPU).items():
        if getattr(asked, name) is None:
            setattr(asked, name, value)
    return asked


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return all figures: the device's limits first, then a cell after the other."""
    facts = device_facts(asked.device)
    rows = []
    began = time.perf_counter()
    with model_folder(asked.shape) as folder:
        config = Gemma3Config.from_pretrained(folder)
        console.print(f"model ready after {time.perf_counter() - began:.0f} s")
        plan = Plan(folder, asked.device, tuple(sorted(asked.batches)), asked.new_tokens)
        for mode in asked.modes:
            for cell in cells(plan, mode):
                speed = cell.problem or f"{cell.captions_per_second:.3g} captions/s"
                console.print(f"{mode}, batch {cell.batch}: {speed}")
                rows.append(with_limits(cell, config, asked.new_tokens, facts))
    prompt = prompt_tokens(config)
    return {
        "shape": asked.shape,
        "prompt_tokens": prompt,
        "new_tokens": asked.new_tokens,
        "flops_per_caption": caption_flops(config, prompt, asked.new_tokens),
        **facts,
        "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
        "cells": rows,
    }


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    asked = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the temporary folder goes as well
    console = Console(width=120, highlight=False)
    if asked.device == "cpu":
        console.print("on a CPU: one small cell unless --modes, --batches and --new-tokens say otherwise")
    result = measure(asked, console)
    show(result, console)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
