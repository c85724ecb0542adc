"""What a person sees: progress of long work, results, and what to run next."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console()
SECONDS_BETWEEN_LINES = 10.0
"""A job log gets one line of progress at most this often."""

Report = Callable[..., None]
"""Called as report(done, total) or report(done, total, note)."""


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """Yield a function that shows progress: a bar on a terminal, plain lines in a log."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(label, total=None)

            def report(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, description=f"{label} {note}".strip())

            yield report
        return
    last = time.monotonic()
    first: tuple[float, int] | None = None

    def report_line(done: int, total: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None and done:
            first = now, done
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            parts = (f"{label}: {done} of {total}", note, _pace(done, total, now, first))
            say(" ".join(part for part in parts if part))

    yield report_line


def _pace(done: int, total: int, now: float, first: tuple[float, int] | None) -> str:
    """Say how fast it goes since the `first` part was done: starting takes time that the rest does not."""
    if first is None or done == first[1] or now - first[0] < 1:
        return ""
    rate = (done - first[1]) / (now - first[0])
    return f"{rate:.1f} per second, {(total - done) / rate:.0f} s left"


def say(text: str) -> None:
    """Print one line as it is, without markup or wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(table: Table) -> None:
    """Print a table."""
    console.print(table)


def made(path: Path | str, what: str, then: str | None = None) -> None:
    """Say what a command made and, if there is one, the command to run next."""
    say(f"made {path}: {what}")
    if then is not None:
        say(f"next: {then}")
