from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fracray.fusion.training import fit_pipeline
from fracray.fusion.unfinished import UnfinishedFit
from fracray.vision.finetune import learn
from tests.fusion.conftest import configured, make_rows

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_fit_goes_on_where_it_was_stopped_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, config = make_rows(24), configured("layer4")
    whole = fit_pipeline(rows, config).pipeline
    networks: list[int] = []

    def stopped(*args: object, **options: object) -> None:
        networks.append(len(args))
        if len(networks) == 3:
            raise KeyboardInterrupt
        learn(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("fracray.vision.folds.learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_pipeline(rows, config, unfinished=UnfinishedFit(tmp_path / "fit", rows, config))
    assert sorted(UnfinishedFit(tmp_path / "fit", rows, config).embeddings()) == [0, 1]
    resumed = fit_pipeline(rows, config, unfinished=UnfinishedFit(tmp_path / "fit", rows, config)).pipeline
    assert len(networks) == 3 + 3
    fit_pipeline(rows, config, unfinished=UnfinishedFit(tmp_path / "fit", rows, config))
    assert len(networks) == 3 + 3
    numbers = np.random.default_rng(0).normal(size=(5, 512))
    for system in ("image", "fused"):
        np.testing.assert_allclose(
            resumed.classifiers[system].logits(numbers, [""] * 5),
            whole.classifiers[system].logits(numbers, [""] * 5),
            rtol=1e-4,
        )


def test_what_other_rows_or_settings_left_is_not_used(tmp_path: Path) -> None:
    rows, config = make_rows(8), configured("layer4")
    fit = UnfinishedFit(tmp_path / "fit", rows, config)
    fit.keep_embeddings(2, np.ones((8, 3), np.float32))
    assert UnfinishedFit(tmp_path / "fit", rows, config).embeddings()[2].shape == (8, 3)
    other = replace(rows, labels=1 - rows.labels)
    assert UnfinishedFit(tmp_path / "fit", other, config).embeddings() == {}
    assert UnfinishedFit(tmp_path / "fit", rows, config).embeddings() == {}
    fit.keep_embeddings(2, np.ones((8, 3), np.float32))
    assert UnfinishedFit(tmp_path / "fit", rows, configured("layer3+4")).embeddings() == {}
    fit = UnfinishedFit(tmp_path / "fit", rows, config)
    fit.keep_embeddings(2, np.ones((8, 3), np.float32))
    boxed = replace(rows, boxes=[np.zeros((int(label), 4), np.float32) for label in rows.labels])
    assert UnfinishedFit(tmp_path / "fit", boxed, config).embeddings() == {}


def test_half_written_weights_count_as_not_finished(tmp_path: Path) -> None:
    rows, config = make_rows(8), configured("layer4")
    fit = UnfinishedFit(tmp_path / "fit", rows, config)
    (fit.folder / "backbone.safetensors").write_bytes(b"half")
    assert fit.backbone() is None
