"""Run a tiny search in the folder given and say each finished trial; a process of its own, to be killed."""

import sys
from pathlib import Path

from fracray.search.search import search
from tests.search.tiny import tiny_config, tiny_rows


def say(stage: str, done: int, total: int, best: float | None) -> None:
    sys.stdout.write(f"{stage} {done}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    search(tiny_rows(), tiny_config(), Path(sys.argv[1]), on_trial=say)
