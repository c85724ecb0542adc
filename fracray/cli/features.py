"""Command: extract."""

import contextlib
from pathlib import Path
from typing import Annotated

import ray
import typer

from fracray.cli.options import ConfigFile, Manifest, Overrides, Profile, Store, as_given, resolve
from fracray.cli.screen import made, progress, say
from fracray.config import Config
from fracray.errors import StoreError, UsageError
from fracray.extraction.cluster import book, connected
from fracray.extraction.pipeline import run_plan
from fracray.extraction.plan import Plan, plan_extraction
from fracray.extraction.store import FeatureStore
from fracray.extraction.summary import ExtractionSummary


def extract(
    manifest: Manifest,
    store: Store = "features",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try failed rows again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and stop")] = False,
    max_failed: Annotated[
        str | None,
        typer.Option(help="share of the rows, such as 5%, that may fail before the exit code is 1"),
    ] = None,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Caption and embed every radiograph of the manifest with Ray Data, into the feature store.

    Finished rows are never repeated: a second run finds nothing to do, a changed prompt recomputes
    captions only.
    """
    settings = resolve(config, profile, overrides)
    limit = _share(max_failed) if max_failed else None
    if dry_run:
        with connected():
            _show_plan(plan_extraction(manifest, FeatureStore(store), settings, retry_failed=retry_failed))
        return
    summary = make_features(manifest, store, settings, retry_failed)
    if limit is not None:
        _refuse_failures(summary, limit)
    given = as_given(config, profile, overrides)
    made(store, "feature store", f"fracray search {manifest} --store {store}{given} --out search")


def make_features(
    manifest: str | Path, store: str | Path, config: Config, retry_failed: bool = False
) -> ExtractionSummary:
    """Fill the store, showing the plan, progress, and the counts at the end."""
    features = FeatureStore(store)
    plan = plan_extraction(manifest, features, config, retry_failed=retry_failed)
    with connected() if plan.todo else contextlib.nullcontext():
        if plan.todo:
            _show_plan(plan)
        with progress("extract") as report:
            summary = run_plan(
                plan,
                features,
                config,
                lambda done, failed, total: report(done, total, f"({failed} failed)" if failed else ""),
            )
    _show(summary)
    return summary


def _show_plan(plan: Plan) -> None:
    """Say what is going to be done and what it takes; raises `ClusterError` if the cluster cannot do it."""
    for feature in plan.work.fingerprints:
        failed = f", {plan.failed_before[feature]} of them failed" if plan.failed_before[feature] else ""
        present = f"{plan.present[feature]} present{failed}"
        say(f"  {feature}: {plan.wanted[feature]} of {plan.rows} to do, {present}")
    if not plan.todo:
        return
    book(list(plan.pools.values()))
    actors = ", ".join(
        f"{pool.actors} {pool.name} actor(s) of {pool.cpus:g} CPUs and {pool.gpus:g} GPUs"
        for pool in plan.pools.values()
    )
    has = ray.cluster_resources()
    say(f"  {plan.blocks} blocks of {plan.rows_per_block} rows; {actors}")
    memory = has.get("memory", 0.0) / 1e9
    say(f"  the cluster has {has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs, {memory:.0f} GB for work")


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-failed {text}: give a share from 0% to 100%, such as 5%")
    return share


def _refuse_failures(summary: ExtractionSummary, limit: float) -> None:
    """Raise `StoreError` when more rows of the manifest than `limit` stand in the store as failed."""
    for name, feature in summary.features.items():
        failed = feature.failed + feature.failed_before
        if summary.rows and failed > limit * summary.rows:
            raise StoreError(
                f"{failed} of {summary.rows} {name} failed, more than {limit:.1%}; the counts above say why, "
                "and --retry-failed tries them again"
            )


def _show(summary: ExtractionSummary) -> None:
    if not summary.worked:
        held = " and ".join(summary.features)
        say(f"nothing to do: the store holds {held} of all {summary.rows} radiographs")
        return
    rate = f"{summary.rate:.1f} per second"
    say(f"{summary.worked} of {summary.rows} radiographs in {summary.seconds:.0f} s, {rate}")
    for name, feature in summary.features.items():
        counts = f"{feature.present} present, {feature.done} done, {feature.failed} failed"
        say(f"  {name} {feature.fingerprint}: {counts}")
        for reason, count in feature.failures.items():
            say(f"    {count} x {reason}")
    _show_captions(summary)
    rates = {
        step: f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" for step, rate in summary.step_rates.items()
    }
    steps = ", ".join(f"{step} {summary.busy_seconds[step]:.0f} s ({rate})" for step, rate in rates.items())
    say(f"  workers' time, and rows per second of it: {steps}")


def _show_captions(summary: ExtractionSummary) -> None:
    for test in summary.self_tests:
        say(f"  captioner's self-test: {test.sentence()}")
    variety = summary.variety
    if variety.written:
        findings = ", ".join(f"{count} {status}" for status, count in variety.findings.items())
        say(f"  captions that differ: {variety.distinct} of {variety.written}; labelled lines: {findings}")
    if variety.repeating:
        say("  warning: the captioner says much the same of every radiograph; its words can tell little")
