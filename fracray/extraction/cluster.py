"""Ray: starting it, and whether the cluster at hand can run a plan."""

import contextlib
import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fracray.errors import ClusterError
from fracray.extraction.attempts import Attempts
from fracray.extraction.work import Work

ACTORS_BOOK = 0.995
"""Share of their CPUs that actors book. What they leave keeps reading and writing alive even where the actors
of a machine that vanished fill up the others. The threads stay as they are: booking is bookkeeping."""

TASKS_BOOK = 0.001
"""CPUs that a task which reads or writes books; how many run at once is limited by number."""

BLOCKS_PER_JOB = 1000
"""Blocks that one job of Ray Data works on. Until its end the driver keeps about 100 kB for each, whatever is
in it; jobs one after the other keep the driver small however long the run is."""

IDLE_WORKERS_STAY_MS = 60_000
"""How long a process that reads or writes waits for its next block, on a Ray that is started here. Where
actors book all CPUs, Ray's own second ends it after every block, and the next one waits for an import."""


@dataclass(frozen=True)
class ActorPool:
    """What one pool of actors needs: `actors` times `cpus` and `gpus`; `name` as in ExtractionSettings."""

    name: str
    actors: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads that one actor computes with."""
        return max(1, int(self.cpus))


@dataclass(frozen=True)
class Bookings:
    """CPUs that Ray books for a reading or writing task and per CPU of an actor, and how many tasks of either
    kind run at once."""

    task: float
    actors: float
    tasks_at_once: int


@dataclass(frozen=True)
class RayLedger:
    """The `Attempts` of a run, in an actor beside the driver: it lives as long as the run does."""

    actor: Any

    @classmethod
    def start(cls) -> "RayLedger":
        """Start the actor on the driver's own machine, so that no other machine's end takes it along."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(num_cpus=0, scheduling_strategy=here)(Attempts).remote())

    def begin(self, work: str) -> int:
        """As `Attempts.begin`."""
        before: int = ray.get(self.actor.begin.remote(work))
        return before

    def end(self, work: str) -> None:
        """As `Attempts.end`, without waiting for it."""
        self.actor.end.remote(work)


def find_blocks(work: Work, rows_per_block: int) -> Iterator[list[Any]]:
    """Yield references to the missing rows, in lists of up to `BLOCKS_PER_JOB` blocks.

    The rows themselves stay with Ray's object stores. A span of ids is compared when its turn comes.
    """
    blocks_of = ray.remote(num_returns="streaming")(_blocks_of)
    spans = (blocks_of.remote(work, number, rows_per_block) for number in range(work.spans))
    found = itertools.chain.from_iterable(spans)
    while blocks := list(itertools.islice(found, BLOCKS_PER_JOB)):
        yield blocks


def _blocks_of(work: Work, number: int, rows_per_block: int) -> Iterator[pa.Table]:
    rows = work.rows(number).combine_chunks()
    for start in range(0, rows.num_rows, rows_per_block):
        yield rows.slice(start, rows_per_block)


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Keep Ray running inside the block: the cluster of RAY_ADDRESS if set, else one of its own here.

    A Ray to which this process is connected already is used and left running.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(IDLE_WORKERS_STAY_MS))
    # Without an address Ray would join whatever cluster it finds running here, and die with it.
    address = None if os.environ.get("RAY_ADDRESS") else "local"
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError) as error:
        # A RuntimeError: the cluster runs another version of Ray or of Python.
        reason = " ".join(str(error).split())
        raise ClusterError(f"{reason}; check RAY_ADDRESS or unset it to use this machine") from None
    try:
        yield
    finally:
        ray.shutdown()


def book(pools: Sequence[ActorPool]) -> Bookings:
    """Return what to book on the running cluster for `pools` beside tasks that read and write.

    Raises `ClusterError` if the cluster as a whole has too few CPUs or GPUs, or no node has room for one
    actor, saying which setting to change.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return plan_bookings(pools, nodes)


def plan_bookings(pools: Sequence[ActorPool], nodes: Sequence[dict[str, float]]) -> Bookings:
    """Do as `book` for a cluster of `nodes`, each a mapping of Ray's resource names to amounts."""
    for resource, kind in (("CPU", "cpus"), ("GPU", "gpus")):
        has = sum(node.get(resource, 0.0) for node in nodes)
        largest = max((node.get(resource, 0.0) for node in nodes), default=0.0)
        needs = {pool: pool.actors * getattr(pool, kind) for pool in pools}
        for pool in pools:
            if getattr(pool, kind) > largest:
                raise ClusterError(
                    f"one {pool.name} actor needs {getattr(pool, kind):g} {resource}s and no node has more "
                    f"than {largest:g}; use --set extraction.{kind}_per_{pool.name}_actor={largest:g}"
                )
        if sum(needs.values()) > has:
            raise ClusterError(
                f"the actors need {sum(needs.values()):g} {resource}s and the cluster has {has:g}; "
                f"use {_remedy(pools, kind, has)}"
            )
    free = sum(node.get("CPU", 0.0) for node in nodes) - sum(pool.actors * pool.cpus for pool in pools)
    return Bookings(task=TASKS_BOOK, actors=ACTORS_BOOK, tasks_at_once=max(2, int(free)))


def _remedy(pools: Sequence[ActorPool], kind: str, has: float) -> str:
    """Name one change after which the plan fits: fewer actors if that can do, else smaller ones."""
    for pool in sorted(pools, key=lambda pool: -pool.actors * getattr(pool, kind)):
        rest = sum(other.actors * getattr(other, kind) for other in pools if other is not pool)
        if getattr(pool, kind) and (fit := int((has - rest) / getattr(pool, kind))) >= 1:
            return f"--set extraction.{pool.name}_actors={fit}"
    wanting = [pool for pool in pools if getattr(pool, kind)]
    share = math.floor(100 * has / sum(pool.actors for pool in wanting)) / 100
    return " ".join(f"--set extraction.{kind}_per_{pool.name}_actor={share:g}" for pool in wanting)
