"""Extraction: from the rows of a manifest to captions and embeddings in the feature store, by Ray Data."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray.data
import ray.exceptions

from fracray.captions.captioner import captioner_image_size
from fracray.config import Config
from fracray.errors import ClusterError, FracrayError
from fracray.extraction.captioning import CaptionRows
from fracray.extraction.cluster import book, connected
from fracray.extraction.embedding import EmbedRows
from fracray.extraction.plan import Plan, plan_extraction
from fracray.extraction.reading import read_rows
from fracray.extraction.store import FEATURES, Feature, FeatureStore
from fracray.extraction.summary import Counts, ExtractionSummary, FeatureSummary, OnProgress
from fracray.extraction.writing import write_rows


def extract(
    manifest: pa.Table,
    store: FeatureStore,
    config: Config,
    on_progress: OnProgress | None = None,
    *,
    retry_failed: bool = False,
) -> ExtractionSummary:
    """Caption and embed the rows of `manifest` with status ok that `store` lacks for these settings.

    Features appear in the store block by block, so a run that is cut off loses only unfinished blocks. A row
    that cannot be read or described is written with status failed and a reason; `retry_failed` tries such
    rows of earlier runs again. `on_progress(done, failed, total)` counts rows as their blocks are written; a
    row with any failed feature counts as failed, and done includes failed ones. If there is nothing to do,
    neither Ray nor a model starts.

    Raises `TableError` (manifest), `ClusterError` (too few CPUs or GPUs, or lost workers), `CaptionerError`,
    `BackboneError` (a model cannot be loaded) and `StoreError`.
    """
    return run_plan(
        plan_extraction(manifest, store, config, retry_failed=retry_failed), store, config, on_progress
    )


def run_plan(
    plan: Plan, store: FeatureStore, config: Config, on_progress: OnProgress | None = None
) -> ExtractionSummary:
    """Do what `plan` says, as `extract` does."""
    started = time.perf_counter()
    counts = Counts(total=plan.work.num_rows, on_progress=on_progress)
    if plan.work.num_rows:
        _describe(store, plan.fingerprints, config)
        with connected(), contextlib.closing(_run(plan, store, config)) as blocks:
            for block in blocks:
                counts.add(block)
    features = {
        feature: FeatureSummary(
            fingerprint=plan.fingerprints[feature],
            present=plan.present[feature],
            failed_before=plan.failed_before[feature],
            by_status=counts.by_status[feature],
            failures=counts.failures[feature],
        )
        for feature in FEATURES
    }
    return ExtractionSummary(
        rows=plan.rows,
        worked=plan.work.num_rows,
        captions=features["captions"],
        embeddings=features["embeddings"],
        variety=counts.variety,
        self_tests=tuple(counts.self_tests),
        seconds=time.perf_counter() - started,
        busy_seconds=counts.busy_seconds,
    )


def _describe(store: FeatureStore, fingerprints: Mapping[Feature, str], config: Config) -> None:
    store.write_settings("captions", fingerprints["captions"], config.captions.model_dump(mode="json"))
    vision = config.vision.model_dump(mode="json", include={"preprocessing", "backbone"})
    store.write_settings("embeddings", fingerprints["embeddings"], vision)


def _run(plan: Plan, store: FeatureStore, config: Config) -> Generator[pa.Table, None, None]:
    """Run the steps as one streaming job of Ray Data; yields the counts of each block once it is written."""
    work, fingerprints, rows_per_block = plan.work, plan.fingerprints, plan.rows_per_block
    bookings = book(list(plan.pools.values()))
    image_size = captioner_image_size(config.captions) if "captions" in plan.pools else 0
    starts = range(0, work.num_rows, rows_per_block)
    with _quiet_ray_data(), _errors_of_workers():
        data = ray.data.from_arrow([work.slice(start, rows_per_block) for start in starts])
        data = data.map_batches(
            read_rows,
            fn_args=(config.radiographs, image_size, config.vision.preprocessing),
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=bookings.reading,
        )
        models: dict[Feature, tuple[type, tuple[Any, ...], int]] = {
            "captions": (
                CaptionRows,
                (config.captions, fingerprints["captions"], image_size),
                config.captions.batch_size,
            ),
            "embeddings": (
                EmbedRows,
                (config.vision, fingerprints["embeddings"]),
                config.vision.batch_size,
            ),
        }
        for feature, pool in plan.pools.items():
            model, arguments, batch_size = models[feature]
            data = data.map_batches(
                _Actor,
                fn_constructor_args=(model, *arguments, pool.threads),
                compute=ray.data.ActorPoolStrategy(size=pool.actors),
                batch_format="pyarrow",
                # A larger batch would make Ray Data join blocks.
                batch_size=min(batch_size, rows_per_block),
                num_cpus=pool.cpus * bookings.actors,
                num_gpus=pool.gpus,
            )
        data = data.map_batches(
            write_rows,
            fn_args=(store.folder.resolve(), dict(fingerprints)),
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=bookings.writing,
        )
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


class _Actor:
    """Holds one model in a process of its own.

    An error of ours on loading waits for the first rows: one that is raised while an actor starts reaches the
    driver as a page of text only, after attempts to start it again.
    """

    def __init__(self, model: Callable[..., Callable[[pa.Table], pa.Table]], *arguments: Any) -> None:
        self._error: FracrayError | None = None
        try:
            self._step = model(*arguments)
        except FracrayError as error:
            self._error = error

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._error is not None:
            raise self._error
        return self._step(table)


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
