"""Look into the feature store, tidy it, take it elsewhere: ls, show, compact, export."""

import json
from collections import Counter
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.box import SIMPLE
from rich.table import Column, Table

from fracray.cli.options import ConfigFile, Manifest, Overrides, Profile, Store, resolve
from fracray.cli.screen import made, say, show
from fracray.errors import StoreError
from fracray.extraction.compaction import compact as compact_files
from fracray.extraction.plan import feature_fingerprints
from fracray.extraction.store import FEATURES, Feature, FeatureStore
from fracray.location import Location
from fracray.schema import MANIFEST, read_table

app = typer.Typer(no_args_is_help=True, help=__doc__)

StoreFolder = Annotated[str, typer.Argument(help="folder of the feature store; path or s3:// URI")]
SAMPLES = 3


@app.command("ls")
def list_features(store: StoreFolder = "features") -> None:
    """List what is there: for which model and prompt, how many rows, how many failed."""
    name = Column("fingerprint", no_wrap=True)
    table = Table("feature", name, "rows", "failed", "files", "MB", "made with", box=SIMPLE)
    features = FeatureStore(store)
    for feature, fingerprint in _everything(features):
        statuses = _statuses(features, feature, fingerprint)
        parts = features.parts(feature, fingerprint)
        size = sum(part.info().size for part in parts) / 1e6
        table.add_row(
            feature, fingerprint, str(sum(statuses.values())), str(statuses["failed"]), str(len(parts)),
            f"{size:.1f}", _made_with(features.settings(feature, fingerprint)),
        )  # fmt: skip
    show(table)


@app.command("show")
def show_features(
    fingerprint: Annotated[str, typer.Argument(help="as `features ls` prints it")],
    store: StoreFolder = "features",
) -> None:
    """Show one fingerprint: its settings, its rows by status, the reasons of failed ones, some captions."""
    features = FeatureStore(store)
    feature = _feature_of(features, fingerprint)
    rows = features.read(feature, fingerprint)
    say(json.dumps(features.settings(feature, fingerprint), indent=2, sort_keys=True))
    for status, count in Counter(rows["status"].to_pylist()).most_common():
        say(f"{count} {status}")
    for reason, count in Counter(rows["reason"].drop_null().to_pylist()).most_common(10):
        say(f"  {count} x {reason}")
    if feature == "captions":
        for row in rows.slice(0, SAMPLES).select(["image_id", "caption"]).to_pylist():
            say(f"\n{row['image_id'][:12]}\n{row['caption']}")


@app.command()
def compact(store: StoreFolder = "features") -> None:
    """Merge the many small files that runs leave; nothing is lost when this is interrupted."""
    features = FeatureStore(store)
    for feature, fingerprint in _everything(features):
        files = compact_files(features, feature, fingerprint)
        say(f"{feature} {fingerprint}: {files.before} files, now {files.after}")


@app.command()
def export(
    manifest: Manifest,
    out: Annotated[str, typer.Argument(help="Parquet file to write; path or s3:// URI")],
    store: Store = "features",
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Join manifest, captions and embeddings of the present settings into one table, a row per image."""
    features = FeatureStore(store)
    fingerprints = feature_fingerprints(resolve(config, profile, overrides))
    joined = read_table(manifest, MANIFEST)
    for feature, fingerprint in fingerprints.items():
        rows = features.read(feature, fingerprint)
        names = {
            name: name if name in ("image_id", "caption", "embedding") else f"{feature}_{name}"
            for name in rows.column_names
        }
        rows = rows.rename_columns([names[name] for name in rows.column_names])
        joined = _beside(joined, rows)
    Location.of(out).write_whole(lambda file: pq.write_table(joined, file, compression="zstd"))
    made(out, f"{joined.num_rows} rows")


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """Add the columns of `right` to `left` by image_id; Arrow's own join takes no lists."""
    places = {image: place for place, image in enumerate(right["image_id"].to_pylist())}
    take = pa.array([places.get(image) for image in left["image_id"].to_pylist()], pa.int64())
    found = right.take(take)
    for name in found.column_names:
        if name != "image_id":
            left = left.append_column(name, found[name])
    return left


def _everything(store: FeatureStore) -> list[tuple[Feature, str]]:
    found = [(feature, name) for feature in FEATURES for name in store.fingerprints(feature)]
    if not found:
        raise StoreError(f"{store.place}: no features here; run `fracray extract` first, or check the path")
    return found


def _feature_of(store: FeatureStore, fingerprint: str) -> Feature:
    for feature, name in _everything(store):
        if name == fingerprint:
            return feature
    raise StoreError(f"{store.place}: no fingerprint {fingerprint}; `fracray features ls` lists them")


def _statuses(store: FeatureStore, feature: Feature, fingerprint: str) -> Counter[str]:
    return Counter(store.statuses(feature, fingerprint)["status"].to_pylist())


def _made_with(settings: dict[str, object]) -> str:
    """The model, and the prompt if there is one."""
    backbone = settings.get("backbone")
    if isinstance(backbone, dict):
        return f"{backbone.get('architecture')}, {backbone.get('weights')}"
    if settings.get("captioner") == "gemma":
        return f"{settings.get('model')}, prompt {settings.get('prompt')}"
    return str(settings.get("captioner", "unknown"))
