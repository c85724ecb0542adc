"""Extraction: from the rows of a manifest to captions and embeddings in the feature store, by Ray Data."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
import ray.exceptions

from fracray.captions.choose import captioner_image_size
from fracray.config import Config
from fracray.errors import ClusterError, FracrayError
from fracray.extraction.captioning import CaptionRows
from fracray.extraction.cluster import Bookings, RayLedger, book, connected, find_blocks
from fracray.extraction.embedding import EmbedRows
from fracray.extraction.plan import Plan, plan_extraction
from fracray.extraction.processes import ModelActor, read_block
from fracray.extraction.reading import read_rows
from fracray.extraction.store import Feature, FeatureStore
from fracray.extraction.summary import Counts, ExtractionSummary, FeatureSummary, OnProgress
from fracray.extraction.writing import write_rows
from fracray.location import Location


def extract(
    manifest: str | Path | Location,
    store: FeatureStore,
    config: Config,
    on_progress: OnProgress | None = None,
    *,
    retry_failed: bool = False,
) -> ExtractionSummary:
    """Caption and embed the rows of a manifest file with status ok that `store` lacks for these settings.

    Features appear in the store block by block, so a run that is cut off loses only unfinished blocks. A row
    that cannot be read or described is written with status failed and a reason, and so is one that kills the
    process that works on it; `retry_failed` tries such rows of earlier runs again.
    `on_progress(done, failed, total)` counts rows as their blocks are written; a row with any failed feature
    counts as failed, and done includes failed ones. If there is nothing to do, neither Ray nor a model
    starts.

    Raises `TableError` (manifest), `ClusterError` (too few CPUs or GPUs, or lost workers), `CaptionerError`,
    `BackboneError` (a model cannot be loaded), `StoreError` and `LocationError` (a full disk).
    """
    plan = plan_extraction(manifest, store, config, retry_failed=retry_failed)
    return run_plan(plan, store, config, on_progress)


@dataclass(frozen=True)
class Steps:
    """What is done to each row: reading, and a model for each feature. Others stand in where the running of
    work is measured or tested, not the work."""

    read: Callable[..., pa.Table] = read_rows
    captions: Callable[..., Callable[[pa.Table], pa.Table]] = CaptionRows
    embeddings: Callable[..., Callable[[pa.Table], pa.Table]] = EmbedRows


_OWN_STEPS = Steps()


def run_plan(
    plan: Plan,
    store: FeatureStore,
    config: Config,
    on_progress: OnProgress | None = None,
    steps: Steps = _OWN_STEPS,
) -> ExtractionSummary:
    """Do what `plan` says, as `extract` does."""
    started = time.perf_counter()
    counts = Counts(total=plan.todo, on_progress=on_progress)
    if plan.todo:
        _describe(store, plan.work.fingerprints, config)
        with connected(), contextlib.closing(_run(plan, config, steps)) as blocks:
            for block in blocks:
                counts.add(block)
    features = {
        feature: FeatureSummary(
            fingerprint=plan.work.fingerprints[feature],
            present=plan.present[feature],
            failed_before=plan.failed_before[feature],
            by_status=counts.by_status[feature],
            failures=counts.failures[feature],
        )
        for feature in plan.work.fingerprints
    }
    return ExtractionSummary(
        rows=plan.rows,
        worked=plan.todo,
        captions=features.get("captions"),
        embeddings=features["embeddings"],
        variety=counts.variety,
        self_tests=tuple(counts.self_tests),
        seconds=time.perf_counter() - started,
        busy_seconds=counts.busy_seconds,
    )


def _describe(store: FeatureStore, fingerprints: Mapping[Feature, str], config: Config) -> None:
    settings: dict[Feature, dict[str, Any]] = {
        "captions": config.captions.model_dump(mode="json"),
        "embeddings": config.vision.model_dump(mode="json", include={"preprocessing", "backbone"}),
    }
    for feature, fingerprint in fingerprints.items():
        store.write_settings(feature, fingerprint, settings[feature])


def _run(plan: Plan, config: Config, steps: Steps) -> Generator[pa.Table, None, None]:
    """Run the steps in streaming jobs of Ray Data, one after the other.

    Yields the counts of each block once it is written.
    """
    bookings = book(list(plan.pools.values()))
    ledger = RayLedger.start()
    with _quiet_ray_data(), _errors_of_workers():
        for blocks in find_blocks(plan.work, plan.rows_per_block):
            job = _job(blocks, plan, config, steps, bookings, ledger)
            yield from job.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _job(
    blocks: list[Any], plan: Plan, config: Config, steps: Steps, bookings: Bookings, ledger: RayLedger
) -> ray.data.Dataset:
    """Return the job that reads, describes, embeds and writes the rows of `blocks`."""
    work, rows_per_block = plan.work, plan.rows_per_block
    tasks = ray.data.TaskPoolStrategy(size=bookings.tasks_at_once)
    image_size = captioner_image_size(config.captions) if "captions" in plan.pools else 0
    data = ray.data.from_arrow_refs(blocks).map_batches(
        read_block,
        fn_args=(steps.read, (config.radiographs, image_size, config.vision.preprocessing), ledger),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=bookings.task,
        compute=tasks,
    )
    models: dict[Feature, tuple[Any, Any, tuple[int, ...]]] = {
        "captions": (steps.captions, config.captions, (image_size,)),
        "embeddings": (steps.embeddings, config.vision, ()),
    }
    for feature, pool in plan.pools.items():
        model, settings, sizes = models[feature]
        arguments = (settings, work.fingerprints[feature], *sizes, pool.threads)
        data = data.map_batches(
            ModelActor,
            fn_constructor_args=(feature, model, arguments, ledger),
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            batch_format="pyarrow",
            # A larger batch would make Ray Data join blocks.
            batch_size=min(settings.batch_size, rows_per_block),
            num_cpus=pool.cpus * bookings.actors,
            num_gpus=pool.gpus,
        )
    return data.map_batches(
        write_rows,
        fn_args=(work.store, dict(work.fingerprints)),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=bookings.task,
        compute=tasks,
    )


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Keep Ray Data from drawing bars and announcing plans inside the block; its log file stays complete."""
    console = [handler for handler in logging.getLogger("ray.data").handlers if handler.name == "console"]
    levels = [handler.level for handler in console]
    settings = ray.data.DataContext.get_current().copy()
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    settings.raise_original_map_exception = True
    with ray.data.DataContext.current(settings):
        for handler in console:
            handler.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for handler, level in zip(console, levels, strict=True):
                handler.setLevel(level)


@contextlib.contextmanager
def _errors_of_workers() -> Iterator[None]:
    """Raise what a worker raised: our own error as it is, anything else of Ray's as a `ClusterError`."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, FracrayError):
            # Ray adds advice of its own below our one line.
            raise type(cause)(str(cause).splitlines()[0]) from None
        raise ClusterError(f"a Ray worker failed ({_last_line(error)}); run again to go on") from error


def _last_line(error: BaseException) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]
