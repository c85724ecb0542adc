"""Commands: search, train, evaluate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from fracray.bundle.bundle import (
    check_new,
    load_bundle,
    record_cross_validation,
    record_figures,
    save_bundle,
)
from fracray.bundle.reliability import DataKind, in_words
from fracray.captions.choose import captioner_fingerprint
from fracray.cli.options import BundleFolder, ConfigFile, Manifest, Overrides, Profile, Store, resolve
from fracray.cli.screen import console, made, progress, say
from fracray.config import Config, FinetuneSettings, load_config
from fracray.errors import SearchError, UsageError
from fracray.evaluation.cross_validation import cross_validation, out_of_fold_table
from fracray.evaluation.evaluate import evaluate as run_evaluation
from fracray.evaluation.evaluate import write_evaluation
from fracray.evaluation.gallery import gallery
from fracray.evaluation.report import figures_table, write_report
from fracray.extraction.store import FeatureStore
from fracray.fusion.rows import Rows, load_rows
from fracray.fusion.training import fit_pipeline
from fracray.fusion.unfinished import UnfinishedFit
from fracray.radiographs.phantoms.note import PHANTOM_NOTE, are_phantoms
from fracray.schema import BOXES, MANIFEST, read_table
from fracray.search.result import load_search
from fracray.search.search import search as run_search

Boxes = Annotated[
    str | None,
    typer.Option(
        "--boxes",
        help="table of the fractures' boxes, from which fine-tuning also learns where they are; "
        "made by `fracray manifest --boxes`; path or s3:// URI",
        show_default=False,
    ),
]
NOT_NAMED = "Data not named (use --data)."
Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="what the radiographs are, in a sentence shown with every figure", show_default=False
    ),
]


def search(
    manifest: Manifest,
    store: Store = "features",
    boxes: Boxes = None,
    out: Annotated[Path, typer.Option(help="folder of the search")] = Path("search"),
    resume: Annotated[bool, typer.Option("--resume", help="finish a search that was stopped")] = False,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Search fine-tuning and fusion settings with Ray Tune and Optuna, on development rows only.

    The outer fold search.test_fold stays unseen; the other folds are the inner cross-validation. The
    Optuna study is a file that optuna-dashboard opens.
    """
    settings = resolve(config, profile, overrides)
    rows = read_rows(read_table(manifest, MANIFEST), store, settings, boxes)
    make_search(rows, settings, out, resume)
    given = _with_store(settings, store) + ("" if boxes is None else f" --boxes {boxes}")
    made(out, "search", f"fracray train {manifest}{given} --search {out} --out bundle")
    say(f"look: optuna-dashboard sqlite:///{out / 'study.db'}")


def train(
    manifest: Manifest,
    store: Store = "features",
    boxes: Boxes = None,
    search: Annotated[
        Path | None,
        typer.Option(
            help="folder of a search, whose settings are used, the best that it found among them; "
            "--set changes single ones",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="new folder for the bundle")] = Path("bundle"),
    data: Data = None,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Fit the pipeline on the development rows and write the bundle that predict and serve load."""
    check_new(out)
    if search is None:
        settings = resolve(config, profile, overrides)
    elif config is None and profile is None:
        settings = with_search(search, overrides or ())
    else:
        raise UsageError("--search brings all settings of the search; leave out --profile and --config")
    rows = read_rows(read_table(manifest, MANIFEST), store, settings, boxes)
    make_bundle(rows, settings, out, data)
    made(out, "bundle", f"fracray evaluate {out} {manifest}{_with_store(settings, store)} --out evaluation")


def evaluate(
    bundle: BundleFolder,
    manifest: Manifest,
    store: Store = "features",
    out: Annotated[Path, typer.Option(help="new folder for figures and report")] = Path("evaluation"),
    data: Data = None,
) -> None:
    """Score the bundle on rows it never saw: figures with intervals, report, predictions.

    Of the manifest it was fitted on these are the rows of the test fold, of another manifest all. Groups of
    which it saw a row are left out. The figures take the place of those that the bundle holds: predict, serve
    and the model card state them from then on.
    """
    make_evaluation(bundle, read_table(manifest, MANIFEST), store, out, data)
    made(out / "report.html", "report; open it in a browser", f"fracray serve --bundle {bundle}")


def _with_store(config: Config, store: str) -> str:
    """The option as the next command needs it: without a captioner it needs no store."""
    return "" if config.captions.captioner == "none" else f" --store {store}"


def read_rows(manifest: pa.Table, store: str | Path, config: Config, boxes: str | None = None) -> Rows:
    """Join manifest, stored captions and `boxes` into rows with pixels.

    Without a captioner no store is read.
    """
    places = None if boxes is None else read_table(boxes, BOXES)
    if config.captions.captioner == "none":
        return load_rows(manifest, None, config, places)
    captions = FeatureStore(store).read("captions", captioner_fingerprint(config.captions))
    return load_rows(manifest, captions, config, places)


def with_search(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the settings of the search in `folder`, the best it found among them, changed by `overrides`.

    Raises `SearchError` when these name another test fold: the search saw it.
    """
    searched = load_search(folder).config
    settings = load_config(overrides=overrides, base=searched)
    if settings.search.test_fold != searched.search.test_fold:
        raise SearchError(
            f"{folder}: searched without fold {searched.search.test_fold} and with all others, so rows of "
            f"fold {settings.search.test_fold} chose the settings; leave search.test_fold out or search again"
        )
    return settings


def make_search(rows: Rows, config: Config, out: Path, resume: bool = False) -> None:
    """Search on the development rows, showing progress and the best scores."""
    with progress("search") as report:
        result = run_search(
            rows.development(config.search.test_fold),
            config,
            out,
            resume=resume,
            on_trial=lambda stage, done, total, best: report(
                done, total, stage if best is None else f"{stage}, best {best:.3f}"
            ),
        )
    for name, trials, score, unit in (
        ("vision", result.vision_trials, result.vision_score, "AUROC of the image alone"),
        ("fusion", result.fusion_trials, result.fusion_score, "log loss of both"),
    ):
        if score is not None:
            say(
                f"  {name}: {trials.finished} trials ({trials.pruned} pruned, {trials.failed} failed), "
                f"best {unit} on inner folds {score:.3f}"
            )
    finetune, fusion = result.config.vision.finetune, result.config.fusion
    rate = finetune.learning_rate
    say(f"  unfrozen {finetune.unfrozen}, {finetune.epochs} epochs, learning rate {rate:.1e}")
    say(f"  {fusion.max_terms} terms, C {fusion.regularisation:.3g}, text weight {fusion.text_weight:.3g}")


def make_bundle(rows: Rows, config: Config, out: Path, data: str | None = None) -> str:
    """Fit on the development rows and write the bundle; return its id.

    What is finished when it is stopped lies in a folder beside `out` and is used the next time.
    """
    development = rows.development(config.search.test_fold)
    kind: DataKind = "phantoms" if are_phantoms(development.uris) else "radiographs"
    note = data or _note_of(development)
    unfinished = UnfinishedFit(out.with_name(f"{out.name}.unfinished"), development, config)
    fit = fit_pipeline(development, config, unfinished=unfinished, on_step=lambda step: say(f"  {step}"))
    bundle_id = save_bundle(
        out,
        fit.pipeline,
        config,
        training_ids=development.image_ids,
        data_kind=kind,
        data_note=note,
        boxed=_taught_by_boxes(development, config.vision.finetune),
    )
    figures = cross_validation(development, fit, config.evaluation, config.seed)
    record_cross_validation(out, figures, out_of_fold_table(development, fit))
    unfinished.remove()
    say(f"bundle {bundle_id}, fitted on {len(development)} {kind}. {note}")
    say(f"cross-validation: AUROC {in_words(figures['systems']['fused']['auroc'], 3)}")
    return bundle_id


def _note_of(rows: Rows) -> str:
    """What is known of the data when nobody says what they are."""
    return PHANTOM_NOTE if are_phantoms(rows.uris) else NOT_NAMED


def _taught_by_boxes(rows: Rows, settings: FinetuneSettings) -> int:
    """On how many rows the boxes were of use: none where no stage learns, or nothing of places."""
    if not rows.boxed or (settings.unfrozen not in ("none", "fc") and settings.localisation > 0):
        return rows.boxed
    say(
        "warning: the boxes teach nothing: no stage learns (vision.finetune.unfrozen) or "
        "vision.finetune.localisation is 0"
    )
    return 0


def make_evaluation(
    bundle_folder: Path, manifest: pa.Table, store: str | Path, out: Path, data: str | None = None
) -> dict[str, Any]:
    """Score the bundle on rows it never saw, write figures and report, and record them in the bundle.

    `data` says what the radiographs are; None: what the bundle says, if others of `manifest` made it.
    """
    bundle = load_bundle(bundle_folder)
    config = bundle.config
    whole = read_rows(manifest, store, config)
    rows = whole.unseen(bundle.training_ids)
    note = data or (bundle.data_note if len(rows) < len(whole) else _note_of(rows))
    evaluation = run_evaluation(bundle, rows, config.evaluation, config.seed, note)
    write_evaluation(evaluation, out)
    entries = gallery(bundle, rows, evaluation, config.evaluation.gallery)
    write_report(evaluation, out / "report.html", entries)
    record_figures(bundle_folder, evaluation.figures)
    console.print(figures_table(evaluation.figures))
    return evaluation.figures
