"""Command: demo. The whole way on phantoms, from radiographs to a served answer."""

import base64
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import httpx
import typer

from fracray.cli.features import make_features
from fracray.cli.fitting import make_bundle, make_evaluation, make_search, read_rows, with_search
from fracray.cli.options import resolve
from fracray.cli.radiographs import make_manifest, make_phantoms
from fracray.cli.screen import say
from fracray.config import Config, ServingSettings
from fracray.errors import UsageError
from fracray.radiographs.phantoms.note import PHANTOM_NOTE
from fracray.schema import MANIFEST, PHANTOM_TRUTH, read_table
from fracray.serving.service import serve_bundle

COUNT, FRACTURED, SEED = 420, 131, 42
"""The paper's numbers of radiographs, and a seed that no shipped asset was trained on."""

_MARK = ".made-by-fracray-demo"


def demo(
    out: Annotated[Path, typer.Option(help="folder for everything the demo makes")] = Path("demo"),
    count: Annotated[int, typer.Option(help="number of phantoms")] = COUNT,
    fractured: Annotated[int, typer.Option(help="how many of them show a fracture")] = FRACTURED,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="one setting; repeatable", show_default=False)
    ] = None,
) -> None:
    """Run everything on synthetic radiographs: extract, search, train, evaluate, serve, ask over HTTP.

    Needs no GPU, no network and no data; takes some minutes on two cores and leaves no process behind.
    """
    config = resolve(None, "demo", overrides)
    started = time.monotonic()
    _clear(out)
    radiographs, manifest, store = out / "radiographs", out / "manifest.parquet", out / "features"
    step = _steps(7)
    step("synthetic radiographs with ground truth")
    make_phantoms(radiographs, count, fractured, SEED)
    step("manifest: identities, near-duplicates, folds")
    table = make_manifest(radiographs, manifest, config.radiographs, config.seed)
    step("extract: captions and embeddings with Ray Data")
    make_features(manifest, store, config)
    step("search: fine-tuning and fusion with Ray Tune and Optuna, test fold unseen")
    rows = read_rows(table, store, config)
    make_search(rows, config, out / "search")
    step("train: the bundle")
    make_bundle(rows, with_search(out / "search"), out / "bundle", PHANTOM_NOTE)
    step("evaluate: rows that neither search nor training saw")
    make_evaluation(out / "bundle", table, store, out / "evaluation")
    step("serve: two phantoms of the test fold over HTTP")
    _ask(out, config)
    say(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. {PHANTOM_NOTE}")
    say(f"report:   {out / 'evaluation' / 'report.html'}")
    say(f"overlays: {out / 'answers'}")
    say(f"bundle:   {out / 'bundle'}")
    say(
        f"next:     fracray serve --bundle {out / 'bundle'}    "
        f"then open http://127.0.0.1:{config.serving.port}/ui"
    )


def _steps(total: int) -> Callable[[str], None]:
    started = time.monotonic()
    number = 0

    def step(title: str) -> None:
        nonlocal number
        number += 1
        say(f"\n[{number}/{total}] {title}  ({time.monotonic() - started:.0f} s)")

    return step


def _clear(out: Path) -> None:
    """Empty the folder of an earlier demo; refuse a folder that is anything else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise UsageError(
                f"{out}: is not empty and not from an earlier demo; name another folder with --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()


def _ask(out: Path, config: Config) -> None:
    """Start the service, post one fractured and one sound phantom of the test fold, keep the answers."""
    answers = out / "answers"
    answers.mkdir()
    truth = {
        row["file"]: row
        for row in read_table(out / "radiographs" / "truth.parquet", PHANTOM_TRUTH).to_pylist()
    }
    manifest = read_table(out / "manifest.parquet", MANIFEST).to_pylist()
    unseen = [row for row in manifest if row["fold"] == config.search.test_fold]
    with serve_bundle(out / "bundle", ServingSettings(port=config.serving.port)) as service:
        for label, name in ((1, "fractured"), (0, "sound")):
            path = Path(next(row["uri"] for row in unseen if row["label"] == label))
            reply = httpx.post(
                f"{service.url}/v1/predict", files={"file": (path.name, path.read_bytes())}, timeout=120
            )
            reply.raise_for_status()
            body = reply.json()
            (answers / f"{name}.overlay.png").write_bytes(base64.b64decode(body.pop("overlay_png")))
            (answers / f"{name}.json").write_text(reply.text, encoding="utf-8")
            facts = truth[path.relative_to(out.resolve() / "radiographs").as_posix()]
            say(
                f"POST /v1/predict, a {name} phantom ({facts['kind'] or 'no fracture'}, {facts['region']}): "
                f"probability {body['probability']:.3f}, {'fracture' if body['fracture'] else 'no fracture'}"
            )
            say("  " + " / ".join((body["caption"] or "no caption").splitlines()))
