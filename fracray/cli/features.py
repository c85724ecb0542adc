"""Command: extract."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from fracray.cli.options import ConfigFile, Manifest, Overrides, Profile, Store, resolve
from fracray.cli.screen import made, progress, say
from fracray.config import Config
from fracray.extraction.pipeline import extract as run_extraction
from fracray.extraction.store import FeatureStore
from fracray.extraction.summary import ExtractionSummary
from fracray.schema import MANIFEST, read_table


def extract(
    manifest: Manifest,
    store: Store = Path("features"),
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try failed rows again")] = False,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Caption and embed every radiograph of the manifest with Ray Data, into the feature store.

    Finished rows are never repeated: a second run finds nothing to do, a changed prompt recomputes
    captions only.
    """
    settings = resolve(config, profile, overrides)
    make_features(read_table(manifest, MANIFEST), store, settings, retry_failed)
    made(store, "feature store", f"fracray search {manifest} --store {store} --out search")


def make_features(
    manifest: pa.Table, store: Path, config: Config, retry_failed: bool = False
) -> ExtractionSummary:
    """Fill the store, showing progress and the counts at the end."""
    with progress("extract") as report:
        summary = run_extraction(
            manifest,
            FeatureStore(store),
            config,
            on_progress=lambda done, failed, total: report(
                done, total, f"({failed} failed)" if failed else ""
            ),
            retry_failed=retry_failed,
        )
    _show(summary)
    return summary


def _show(summary: ExtractionSummary) -> None:
    if not summary.worked:
        say(f"nothing to do: the store holds captions and embeddings of all {summary.rows} radiographs")
        return
    rate = f"{summary.rate:.1f} per second"
    say(f"{summary.worked} of {summary.rows} radiographs in {summary.seconds:.0f} s, {rate}")
    for name, feature in (("captions", summary.captions), ("embeddings", summary.embeddings)):
        counts = f"{feature.present} present, {feature.done} done, {feature.failed} failed"
        say(f"  {name} {feature.fingerprint}: {counts}")
        for reason, count in feature.failures.items():
            say(f"    {count} x {reason}")
    _show_captions(summary)
    busy = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in summary.busy_seconds.items())
    say(f"  time by step, summed over workers: {busy}")


def _show_captions(summary: ExtractionSummary) -> None:
    for test in summary.self_tests:
        say(f"  captioner's self-test: {test.sentence()}")
    variety = summary.variety
    if variety.written:
        findings = ", ".join(f"{count} {status}" for status, count in variety.findings.items())
        say(f"  captions that differ: {variety.distinct} of {variety.written}; labelled lines: {findings}")
    if variety.repeating:
        say("  warning: the captioner says much the same of every radiograph; its words can tell little")
