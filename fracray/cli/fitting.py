"""Commands: search, train, evaluate."""

from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from fracray.bundle.bundle import load_bundle, record_cross_validation, record_figures, save_bundle
from fracray.bundle.reliability import DataKind
from fracray.captions.choose import captioner_fingerprint
from fracray.cli.options import BundleFolder, ConfigFile, Manifest, Overrides, Profile, Store, resolve
from fracray.cli.screen import console, made, progress, say
from fracray.config import Config
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
        Path | None, typer.Option(help="folder of a search whose best settings are used", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="new folder for the bundle")] = Path("bundle"),
    data: Data = None,
    config: ConfigFile = None,
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Fit the pipeline on the development rows and write the bundle that predict and serve load."""
    settings = resolve(config, profile, overrides)
    if search is not None:
        settings = with_search(settings, search)
    rows = read_rows(read_table(manifest, MANIFEST), store, settings, boxes)
    make_bundle(rows, settings, out, data)
    made(out, "bundle", f"fracray evaluate {out} {manifest}{_with_store(settings, store)} --out evaluation")


def evaluate(
    bundle: BundleFolder,
    manifest: Manifest,
    store: Store = "features",
    out: Annotated[Path, typer.Option(help="new folder for figures and report")] = Path("evaluation"),
) -> None:
    """Score the bundle on rows it never saw: figures with intervals, report, predictions.

    Of the manifest it was fitted on these are the rows of the test fold, of another manifest all. Groups of
    which it saw a row are left out.
    """
    make_evaluation(bundle, read_table(manifest, MANIFEST), store, out)
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


def with_search(config: Config, folder: Path) -> Config:
    """Return `config` with the best settings of the search in `folder`."""
    best = load_search(folder)
    return config.model_copy(update={"vision": best.vision, "fusion": best.fusion})


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
    finetune, fusion = result.vision.finetune, result.fusion
    rate = finetune.learning_rate
    say(f"  unfrozen {finetune.unfrozen}, {finetune.epochs} epochs, learning rate {rate:.1e}")
    say(f"  {fusion.max_terms} terms, C {fusion.regularisation:.3g}, text weight {fusion.text_weight:.3g}")


def make_bundle(rows: Rows, config: Config, out: Path, data: str | None = None) -> str:
    """Fit on the development rows and write the bundle; return its id.

    What is finished when it is stopped lies in a folder beside `out` and is used the next time.
    """
    development = rows.development(config.search.test_fold)
    kind: DataKind = "phantoms" if are_phantoms(development.uris) else "radiographs"
    note = data or (PHANTOM_NOTE if kind == "phantoms" else "Data not named (use --data).")
    unfinished = UnfinishedFit(out.with_name(f"{out.name}.unfinished"), development, config)
    fit = fit_pipeline(development, config, unfinished=unfinished, on_step=lambda step: say(f"  {step}"))
    bundle_id = save_bundle(
        out,
        fit.pipeline,
        config,
        training_ids=development.image_ids,
        data_kind=kind,
        data_note=note,
        boxed=development.boxed if config.vision.finetune.localisation else 0,
    )
    figures = cross_validation(development, fit, config.evaluation, config.seed)
    record_cross_validation(out, figures, out_of_fold_table(development, fit))
    unfinished.remove()
    say(f"bundle {bundle_id}, fitted on {len(development)} {kind}. {note}")
    auroc = figures["systems"]["fused"]["auroc"]
    say(f"cross-validation: AUROC {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f})")
    return bundle_id


def make_evaluation(bundle_folder: Path, manifest: pa.Table, store: str | Path, out: Path) -> dict[str, Any]:
    """Score the bundle on rows it never saw, write figures and report, and record them in the bundle."""
    bundle = load_bundle(bundle_folder)
    config = bundle.config
    rows = read_rows(manifest, store, config).unseen(bundle.training_ids)
    evaluation = run_evaluation(bundle, rows, config.evaluation, config.seed)
    write_evaluation(evaluation, out)
    entries = gallery(bundle, rows, evaluation, config.evaluation.gallery)
    write_report(evaluation, out / "report.html", entries)
    record_figures(bundle_folder, evaluation.figures)
    console.print(figures_table(evaluation.figures))
    return evaluation.figures
