import os
import re

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from fracray.errors import ClusterError
from fracray.extraction.cluster import ActorPool, connected, plan_bookings

CPUS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])
POOLS = st.builds(
    lambda actors, cpus, gpus: [
        ActorPool(name, count, cpu, gpu)
        for name, count, cpu, gpu in zip(("caption", "vision"), actors, cpus, gpus, strict=True)
    ],
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(CPUS, CPUS),
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
)


@settings(deadline=None)
@given(pools=POOLS, cpus=st.sampled_from([1.0, 2.0, 3.0, 8.0]), gpus=st.sampled_from([0.0, 1.0, 2.0]))
def test_bookings_leave_room_to_read_and_write(pools: list[ActorPool], cpus: float, gpus: float) -> None:
    try:
        bookings = plan_bookings(pools, [{"CPU": cpus, "GPU": gpus}])
    except ClusterError:
        assert sum(p.actors * p.cpus for p in pools) > cpus or sum(p.actors * p.gpus for p in pools) > gpus
    else:
        booked = sum(pool.actors * pool.cpus for pool in pools) * bookings.actors
        assert cpus - booked >= bookings.task
        assert bookings.tasks_at_once >= 2


@given(st.integers(1, 96), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_a_machine_full_of_actors_still_reads(cpus: int, each: float) -> None:
    """As when another machine vanishes and its actors start again here, as many as Ray thinks will fit."""
    bookings = plan_bookings([ActorPool("vision", 1, each, 0)], [{"CPU": 96.0}])
    actors = int(cpus / (each * bookings.actors))
    assert cpus - actors * each * bookings.actors >= bookings.task - 1e-9


@settings(deadline=None)
@given(pools=POOLS, cpus=st.sampled_from([1.0, 2.0, 3.0, 8.0]), gpus=st.sampled_from([0.0, 1.0, 2.0]))
def test_following_the_advice_leads_to_a_fit(pools: list[ActorPool], cpus: float, gpus: float) -> None:
    nodes = [{"CPU": cpus, "GPU": gpus}]
    bookings = None
    for _ in range(6):
        try:
            bookings = plan_bookings(pools, nodes)
            break
        except ClusterError as error:
            pools = [follow(pool, str(error)) for pool in pools]
    assert bookings is not None, f"still no plan: {pools}"


def follow(pool: ActorPool, advice: str) -> ActorPool:
    values = dict(re.findall(r"--set extraction\.(\w+)=([\d.]+)", advice))
    return ActorPool(
        pool.name,
        int(values.get(f"{pool.name}_actors", pool.actors)),
        float(values.get(f"cpus_per_{pool.name}_actor", pool.cpus)),
        float(values.get(f"gpus_per_{pool.name}_actor", pool.gpus)),
    )


def test_an_actor_larger_than_every_node_is_refused_although_the_sum_would_do() -> None:
    pools = [ActorPool("caption", 1, 4, 0)]
    nodes = [{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0}]
    with pytest.raises(ClusterError, match=r"--set extraction\.cpus_per_caption_actor=2"):
        plan_bookings(pools, nodes)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ClusterError, match="1 GPUs"):
        plan_bookings([ActorPool("caption", 1, 1, 1)], [{"CPU": 8.0}])


IDLE_TIME = "RAY_idle_worker_killing_time_threshold_ms"


@pytest.mark.parametrize(("address", "joined"), [(None, "local"), ("10.0.0.1:6379", None)])
def test_only_the_named_cluster_is_joined(
    monkeypatch: pytest.MonkeyPatch, address: str | None, joined: str | None
) -> None:
    """Ray itself would join any cluster that runs on the machine."""
    asked: list[str | None] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address, **_: asked.append(address))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    # Set first, so that it is unset again after the test.
    monkeypatch.setenv(IDLE_TIME, "1")
    monkeypatch.delenv(IDLE_TIME)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with connected():
        assert asked == [joined]
        assert os.environ[IDLE_TIME] == "60000"
