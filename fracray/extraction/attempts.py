"""Work that kills its process, told apart from work that was merely in its way.

A decoder that crashes or a model that runs out of memory takes its whole process along, and Ray starts the
same work again, for ever. So each piece of work is announced before it begins and taken off when it has
ended; what began twice without an end is done row by row, and a row that twice began alone is given up.
Needs no Ray: `Attempts` lives wherever its owner puts it.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

log = logging.getLogger(__name__)

DEATHS = 2
"""Deaths after which a piece of work is split, or given up. One may be chance: a machine that was taken away
had some work in hand."""

GIVEN_UP = "{step} killed its process {deaths} times on this radiograph alone; look at its file, or at memory"


class Attempts:
    """Counts how often each piece of work began and did not end. Lives in a process that survives workers."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def begin(self, work: str) -> int:
        """Announce `work`; returns how often it began before and never ended."""
        before = self._open[work]
        self._open[work] += 1
        return before

    def end(self, work: str) -> None:
        """Take `work` off the list."""
        self._open.pop(work, None)


class Ledger(Protocol):
    """Where a step reaches its `Attempts`."""

    def begin(self, work: str) -> int:
        """As `Attempts.begin`."""

    def end(self, work: str) -> None:
        """As `Attempts.end`."""


def survive(
    table: pa.Table,
    step: Callable[[pa.Table], pa.Table],
    name: str,
    pixels: str | None,
    ledger: Ledger,
) -> pa.Table:
    """Run `step` on the rows of `table`, row by row once they have killed a process together `DEATHS` times.

    A row given up gets its `reason`, and loses the column `pixels`, so that `step` writes it down as failed.
    """
    work = _name(name, table)
    before = ledger.begin(work)
    if before < DEATHS:
        done = step(table)
    elif table.num_rows == 1:
        # Stays on the list: another radiograph of its batch may end this process yet.
        return step(_given_up(table, name, pixels))
    else:
        log.warning("%s: %d radiographs killed their process twice; now one by one", name, table.num_rows)
        rows = [table.slice(row, 1) for row in range(table.num_rows)]
        done = pa.concat_tables([survive(row, step, name, pixels, ledger) for row in rows])
    ledger.end(work)
    return done


def _given_up(row: pa.Table, name: str, pixels: str | None) -> pa.Table:
    reason = GIVEN_UP.format(deaths=DEATHS, step=name)
    log.error("%s: %s", row["image_id"][0].as_py(), reason)
    changed = {"reason": reason} | ({pixels: None} if pixels else {})
    for column, value in changed.items():
        place = row.schema.get_field_index(column)
        row = row.set_column(place, row.schema.field(place), pa.array([value], row.schema.field(place).type))
    return row


def _name(step: str, table: pa.Table) -> str:
    ids = "".join(table["image_id"].to_pylist())
    return f"{step} {hashlib.sha256(ids.encode()).hexdigest()}"
