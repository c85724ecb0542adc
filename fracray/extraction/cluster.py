"""Ray: starting it, and whether the cluster at hand can run a plan."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ray

from fracray.errors import ClusterError

_TIGHT = 0.75
"""Share of their CPUs that actors book where they would otherwise leave none for reading and writing."""


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
    """CPUs that Ray books: for one reading task, one writing task, and per CPU of an actor."""

    reading: float
    writing: float
    actors: float


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Keep Ray running inside the block: the cluster of RAY_ADDRESS if set, else one on this machine.

    A Ray that runs already is used and left running.
    """
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except ConnectionError as error:
        raise ClusterError(f"{error}; check RAY_ADDRESS or unset it to use this machine") from None
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
    if free >= 1:
        # Less than a whole CPU: Ray Data fuses a task into the actor pool behind it that books the same.
        return Bookings(reading=0.75, writing=0.25, actors=1.0)
    # Booking is bookkeeping: the threads stay as they are, and a node full of actors keeps a quarter free.
    return Bookings(reading=0.25, writing=0.25, actors=_TIGHT)


def _remedy(pools: Sequence[ActorPool], kind: str, has: float) -> str:
    """Name one change after which the plan fits: fewer actors if that can do, else smaller ones."""
    for pool in sorted(pools, key=lambda pool: -pool.actors * getattr(pool, kind)):
        rest = sum(other.actors * getattr(other, kind) for other in pools if other is not pool)
        if getattr(pool, kind) and (fit := int((has - rest) / getattr(pool, kind))) >= 1:
            return f"--set extraction.{pool.name}_actors={fit}"
    wanting = [pool for pool in pools if getattr(pool, kind)]
    share = math.floor(100 * has / sum(pool.actors for pool in wanting)) / 100
    return " ".join(f"--set extraction.{kind}_per_{pool.name}_actor={share:g}" for pool in wanting)
