"""Commands: phantoms, manifest."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from fracray.cli.options import ConfigFile, Overrides, Profile, as_given, resolve
from fracray.cli.screen import made, progress, say
from fracray.config import RadiographSettings
from fracray.errors import SettingsError
from fracray.location import Location
from fracray.radiographs.boxes import boxes_table
from fracray.radiographs.fracatlas import boxes_of_fracatlas
from fracray.radiographs.manifest import build_manifest
from fracray.radiographs.phantoms import write_phantoms
from fracray.schema import BOXES, MANIFEST, read_table, write_table

FRACTURED_SHARE = 131 / 420


def phantoms(
    out: Annotated[Path, typer.Argument(help="new folder for the radiographs")],
    count: Annotated[int, typer.Option(help="number of radiographs")] = 420,
    fractured: Annotated[
        int | None,
        typer.Option(help="how many of them show a fracture (default: 31 %, as in the paper's data)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="seed; the same seed makes the same files")] = 7,
) -> None:
    """Make synthetic radiographs with ground truth: class folders, masks, truth.parquet."""
    if fractured is None:
        fractured = round(count * FRACTURED_SHARE)
    make_phantoms(out, count, fractured, seed)
    made(out, f"{count} phantoms, {fractured} fractured", f"fracray manifest {out} --out manifest.parquet")


def manifest(
    source: Annotated[
        str,
        typer.Argument(
            help="folder of class folders or of FracAtlas, or CSV with path, label, group; path or s3:// URI"
        ),
    ],
    out: Annotated[str, typer.Option(help="manifest to write; path or s3:// URI")] = "manifest.parquet",
    label: Annotated[
        list[str] | None,
        typer.Option(help="label of a folder, for example --label broken=1; repeatable", show_default=False),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="table of the fractures' boxes to write, of FracAtlas; path or s3:// URI", show_default=False
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            help="manifest that a bundle was fitted on, to leave out copies of its radiographs; path or "
            "s3:// URI",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Scan radiographs: check each file, find near-duplicates, assign groups and folds."""
    settings = resolve(config, profile, overrides)
    labels = _label_folders(label or [])
    make_manifest(source, out, settings.radiographs, settings.seed, labels, boxes, beside)
    given = as_given(config, profile, overrides)
    if settings.captions.captioner == "none":
        made(out, "manifest with folds", f"fracray train {out}{given} --out bundle")
    else:
        made(out, "manifest with folds", f"fracray extract {out} --store features{given}")


def make_phantoms(out: Path, count: int, fractured: int, seed: int) -> None:
    """Write phantoms into `out`, showing progress."""
    with progress("phantoms") as report:
        write_phantoms(
            out, count=count, fractured=fractured, seed=seed, on_written=lambda done: report(done, count)
        )


def make_manifest(
    source: str | Path,
    out: str | Path,
    settings: RadiographSettings,
    seed: int,
    label_folders: dict[str, int] | None = None,
    boxes: str | None = None,
    beside: str | None = None,
) -> pa.Table:
    """Write the manifest of `source` to `out`, and its boxes; show progress and what was left out."""
    # First, as a damaged annotation should not be found after minutes of reading radiographs.
    annotated = {} if boxes is None else boxes_of_fracatlas(Location.of(source))
    other = None if beside is None else read_table(beside, MANIFEST)
    with progress("manifest") as report:
        table = build_manifest(
            source, settings, seed, label_folders=label_folders, beside=other, on_file=report
        )
    write_table(table, MANIFEST, out)
    if boxes is not None:
        found = boxes_table(annotated, table)
        write_table(found, BOXES, boxes)
        made(boxes, f"{len(found)} boxes on {len(found['image_id'].unique())} radiographs")
    rows = table.to_pylist()
    groups = {row["group"] for row in rows if row["fold"] is not None}
    labels = Counter(row["label"] for row in rows if row["status"] == "ok")
    say(
        f"{len(rows)} files: {labels[1]} fractured, {labels[0]} not, {labels[None]} unlabelled; "
        f"{len(groups)} groups in {settings.folds} folds"
    )
    for row in rows:
        if row["status"] != "ok":
            say(f"  {row['status']}: {row['uri']}: {row['reason']}")
        elif row["warnings"] is not None:
            say(f"  warning: {row['uri']}: {row['warnings']}")
    return table


def _label_folders(options: list[str]) -> dict[str, int] | None:
    labels = {}
    for option in options:
        name, equals, value = option.rpartition("=")
        if not equals or value not in ("0", "1"):
            raise SettingsError(f"--label {option}: write --label FOLDER=1 for fractured or FOLDER=0 for not")
        labels[name] = int(value)
    return labels or None
