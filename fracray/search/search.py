"""The search: first how to fine-tune, then how to fuse, on development rows and their inner folds only."""

import hashlib
import json
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import ray
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from ray import tune

from fracray.config import Config, FusionSettings, VisionSettings
from fracray.errors import SearchError
from fracray.extraction.cluster import connected
from fracray.fingerprint import fingerprint
from fracray.fusion.rows import Rows
from fracray.fusion.training import FoldEmbeddings
from fracray.search.result import SearchResult, Trials, save_result, write_whole
from fracray.search.scoring import check_rows
from fracray.search.space import (
    PAPER_FUSION,
    PAPER_VISION,
    apply,
    point_of,
    suggest_fusion,
    suggest_vision,
    within,
    without_words,
)
from fracray.search.study import best_trial, count, finished, open_storage, quiet_optuna
from fracray.search.trials import FusionTrial, VisionTrial, embed_folds
from fracray.search.tuning import OnTrial, Stage, check_cluster, run_stage

IDENTITY = "search.json"
"""Written first: what is searched, so that a resumed search goes on with the same rows and settings."""

QUICK_ROWS = 2000
"""Up to so many rows fusion trials run one at a time: each takes about a second at most, and while a second
actor starts, for several seconds, Ray Tune hands its trial to the first one and starts over with the next."""


def search(
    rows_development: Rows,
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """Search fine-tuning, then fusion settings, and write the winner to `folder`/best.json.

    Each stage is a Ray Tune run over an Optuna study in `folder`/study.db; a stage with no trials keeps the
    configured settings. The inner folds are the values of `rows_development.folds`. With `resume` a search
    that was cut off goes on: finished trials are kept, those that were running start again. One trial at a
    time finds the same settings for the same seed; with more, the order in which they end plays a part. On up
    to `QUICK_ROWS` rows fusion trials always run one at a time.

    A Ray that runs already is used; otherwise one is started for as long as the search lasts.

    Raises `SearchError` if the rows hold the test fold or cannot be scored, if `folder` holds something and
    `resume` is off, if it holds a search of other rows or settings, or if all trials of a stage failed;
    `ClusterError` if the trials do not fit the cluster.
    """
    began = time.monotonic()
    rows = rows_development
    check_rows(rows, config.search.test_fold)
    identity = _identity(rows, config)
    new = _check_folder(folder, identity, resume)
    needs_ray = config.search.vision_trials + config.search.fusion_trials > 0
    with connected() if needs_ray else nullcontext(), quiet_optuna():
        if needs_ray:
            check_cluster(config.search, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        if new:
            folder.mkdir(parents=True, exist_ok=True)
            written = {"identity": identity, "config": config.model_dump(mode="json")}
            write_whole(folder / IDENTITY, json.dumps(written, indent=2))
        storage = open_storage(folder)
        vision, vision_study = _search_vision(rows, config, folder, storage, on_trial)
        chosen = config.model_copy(update={"vision": vision})
        fusion, fusion_study = _search_fusion(rows, chosen, folder, storage, on_trial)
        result = SearchResult(
            config=chosen.model_copy(update={"fusion": fusion}),
            vision_score=vision_study and best_trial(vision_study).value,
            fusion_score=fusion_study and best_trial(fusion_study).value,
            vision_trials=_trials(vision_study),
            fusion_trials=_trials(fusion_study),
            seconds=round(time.monotonic() - began, 1),
        )
    save_result(result, folder)
    return result


def _search_vision(
    rows: Rows, config: Config, folder: Path, storage: RDBStorage, on_trial: OnTrial | None
) -> tuple[VisionSettings, optuna.Study | None]:
    asked = config.search.vision_trials
    if asked == 0:
        return config.vision, None
    allowed = partial(within, settings=config.search)
    stage = Stage(
        name="vision",
        suggest=partial(suggest_vision, settings=config.search),
        first=[point for point in map(allowed, (PAPER_VISION, point_of(config.vision.finetune))) if point],
        direction="maximize",
        trainable=lambda: tune.with_parameters(VisionTrial, rows=rows, settings=config),
        steps=len(np.unique(rows.folds)),
    )
    study = run_stage(stage, asked, storage, folder, config.search, config.seed, on_trial)
    finetune = apply(config.vision.finetune, best_trial(study).params)
    return config.vision.model_copy(update={"finetune": finetune}), study


def _search_fusion(
    rows: Rows, config: Config, folder: Path, storage: RDBStorage, on_trial: OnTrial | None
) -> tuple[FusionSettings, optuna.Study | None]:
    asked = config.search.fusion_trials
    if asked == 0:
        return config.fusion, None
    # The trials of this stage see no pixels, only the chosen network's embeddings.
    slim = replace(rows, pixels=np.empty((len(rows), 0, 0), np.uint8))
    captioned = any(rows.captions)
    first = [PAPER_FUSION, point_of(config.fusion)]
    stage = Stage(
        name="fusion",
        suggest=partial(suggest_fusion, captioned=captioned),
        first=first if captioned else [without_words(point) for point in first],
        direction="minimize",
        trainable=lambda: tune.with_parameters(
            FusionTrial, rows=slim, embeddings=_fold_embeddings(rows, config, folder), settings=config
        ),
        steps=1,
    )
    few = config.search.model_copy(update={"concurrent": 1})
    settings = few if len(rows) <= QUICK_ROWS else config.search
    study = run_stage(stage, asked, storage, folder, settings, config.seed, on_trial)
    return apply(config.fusion, best_trial(study).params), study


def _fold_embeddings(rows: Rows, config: Config, folder: Path) -> FoldEmbeddings:
    """Compute the chosen network's fold embeddings, once: a resumed search finds them in `folder`."""
    path = folder / f"embeddings-{fingerprint(vision=config.vision)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return FoldEmbeddings(dict(zip(stored["folds"].tolist(), stored["embeddings"], strict=True)))
    task = ray.remote(embed_folds).options(
        num_cpus=config.search.cpus_per_trial, num_gpus=config.search.gpus_per_trial
    )
    embeddings: FoldEmbeddings = ray.get(task.remote(rows, config))
    unfinished = path.with_suffix(".unfinished.npz")
    by_fold = embeddings.by_fold
    np.savez(unfinished, folds=np.array(list(by_fold)), embeddings=np.stack(list(by_fold.values())))
    unfinished.replace(path)
    return embeddings


def _check_folder(folder: Path, identity: str, resume: bool) -> bool:
    """Return whether `folder` is new; raise `SearchError` if it holds anything but this search to resume."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return True
    if not resume:
        raise SearchError(f"{folder}: not empty; go on with resume (`--resume`) or choose a new folder")
    try:
        there = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, LookupError, TypeError):
        raise SearchError(f"{folder}: holds no search to resume; choose an empty folder") from None
    if there != identity:
        raise SearchError(
            f"{folder}: holds a search of other rows, settings or seed; resume with those in {IDENTITY} "
            "or choose a new folder"
        )
    return False


def _identity(rows: Rows, config: Config) -> str:
    # The number of fusion trials, and of trials at a time, may change when a search goes on. That of vision
    # trials may not: another winner would part the fusion trials there are from the embeddings they scored.
    digest = hashlib.sha256(np.ascontiguousarray(rows.pixels).tobytes())
    boxes = rows.boxes and [of_one.tolist() for of_one in rows.boxes]
    others = [rows.image_ids, rows.labels.tolist(), rows.folds.tolist(), rows.captions, boxes]
    digest.update(json.dumps(others).encode())
    return fingerprint(
        rows=digest.hexdigest(),
        vision=config.vision,
        fusion=config.fusion,
        vision_trials=config.search.vision_trials,
        allowed={"unfrozen": config.search.unfrozen, "max_epochs": config.search.max_epochs},
        seed=config.seed,
    )


def _trials(study: optuna.Study | None) -> Trials:
    if study is None:
        return Trials(finished=0, pruned=0, failed=0)
    return Trials(
        finished=len(finished(study)),
        pruned=count(study, TrialState.PRUNED),
        failed=count(study, TrialState.FAIL),
    )
