import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fracray.config import FinetuneSettings
from fracray.errors import UsageError
from fracray.vision.backbone import Backbone
from fracray.vision.embed import embed, embed_with_statistics
from fracray.vision.finetune import PATIENCE, EpochReport, finetune, learn
from fracray.vision.folds import FineTuning, iterate_by_folds
from fracray.vision.frozen import FrozenStages, split
from fracray.vision.learner import Lesson

Toy = Callable[[int, int], tuple[NDArray[np.uint8], NDArray[np.int8]]]
CPU = torch.device("cpu")
QUICK = FinetuneSettings(epochs=3, learning_rate=1e-3, batch_size=8, augmentation=0.5)


def changed_stages(before: Backbone, after: Backbone) -> set[str]:
    pairs = zip(before.state_dict().items(), after.state_dict().values(), strict=True)
    return {name.split(".")[1] for (name, old), new in pairs if not torch.equal(old, new)}


@pytest.mark.parametrize(
    ("unfrozen", "learned"),
    [
        ("none", set()),
        ("fc", set()),
        ("layer4", {"layer4"}),
        ("layer3+4", {"layer3", "layer4"}),
        ("all", {"stem", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_only_unfrozen_stages_change(backbone: Backbone, toy: Toy, unfrozen: str, learned: set[str]) -> None:
    original = copy.deepcopy(backbone)
    settings = QUICK.model_copy(update={"unfrozen": unfrozen, "epochs": 1})
    tuned = finetune(backbone, *toy(16, 0), settings, seed=1)
    assert changed_stages(backbone, tuned) == learned
    assert changed_stages(original, backbone) == set()
    assert not tuned.training
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


def test_batch_norm_statistics_stay_those_of_pretraining(backbone: Backbone, toy: Toy) -> None:
    tuned = finetune(backbone, *toy(16, 0), QUICK.model_copy(update={"unfrozen": "all"}), seed=1)
    before, after = dict(backbone.named_buffers()), dict(tuned.named_buffers())
    assert before
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_learns_what_can_be_learned(backbone: Backbone, toy: Toy) -> None:
    reports: list[EpochReport] = []
    settings = QUICK.model_copy(update={"epochs": 6})
    finetune(backbone, *toy(48, 0), settings, seed=1, validation=toy(24, 1), on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(1, len(reports) + 1))
    assert max(report.validation_auroc or 0 for report in reports) > 0.99
    assert reports[-1].training_loss < reports[0].training_loss


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_one_alone(
    backbone: Backbone, toy: Toy
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = finetune(backbone, *toy(16, 0), QUICK, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert changed_stages(first, finetune(backbone, *toy(16, 0), QUICK, seed=1)) == set()
    assert changed_stages(first, finetune(backbone, *toy(16, 0), QUICK, seed=2)) == {"layer4"}


def test_the_best_epoch_is_returned_and_training_stops_after_it(backbone: Backbone, toy: Toy) -> None:
    pixels, labels = toy(24, 0)
    checked, truth = toy(12, 1)
    # Validation labels turned round: what helps on training rows hurts here, so an early epoch is the best.
    against = (checked, (1 - truth).astype(np.int8))
    reports: list[EpochReport] = []
    settings = QUICK.model_copy(update={"epochs": 12})

    def fit(epochs_allowed: int) -> Backbone:
        reports.clear()

        def stop(report: EpochReport) -> bool:
            reports.append(report)
            return report.epoch == epochs_allowed

        return finetune(backbone, pixels, labels, settings, 1, validation=against, on_epoch=stop)

    whole = fit(12)
    best = int(np.argmin([report.validation_loss for report in reports])) + 1
    assert len(reports) == best + PATIENCE < 12
    assert changed_stages(whole, fit(best)) == set()


def test_without_validation_there_are_no_validation_figures(backbone: Backbone, toy: Toy) -> None:
    reports: list[EpochReport] = []
    finetune(backbone, *toy(16, 0), QUICK, seed=1, on_epoch=reports.append)
    assert len(reports) == 3
    assert all(report.validation_loss is None and report.validation_auroc is None for report in reports)


def test_the_rarer_class_weighs_as_much_as_the_other(backbone: Backbone, toy: Toy) -> None:
    """A head that cannot tell the classes apart settles at even odds, be one class three times as large."""
    pixels = np.repeat(toy(1, 0)[0], 32, axis=0)
    labels = (np.arange(32) % 4 == 0).astype(np.int8)
    reports: list[EpochReport] = []
    settings = FinetuneSettings(unfrozen="fc", epochs=40, batch_size=32, augmentation=0, label_smoothing=0)
    finetune(backbone, pixels, labels, settings, seed=1, on_epoch=reports.append)
    assert reports[-1].training_loss == pytest.approx(np.log(2), abs=0.01)


def test_sgd_learns_too_and_takes_other_steps(backbone: Backbone, toy: Toy) -> None:
    reports: list[EpochReport] = []
    settings = QUICK.model_copy(update={"optimiser": "sgd", "learning_rate": 1e-2, "epochs": 4})
    tuned = finetune(backbone, *toy(48, 0), settings, seed=1, validation=toy(24, 1), on_epoch=reports.append)
    assert max(report.validation_auroc or 0 for report in reports) > 0.99
    other = finetune(backbone, *toy(48, 0), settings.model_copy(update={"optimiser": "adamw"}), seed=1)
    assert changed_stages(tuned, other) == {"layer4"}


def test_one_class_only_is_refused(backbone: Backbone, toy: Toy) -> None:
    pixels, _ = toy(8, 0)
    with pytest.raises(UsageError, match="both classes"):
        finetune(backbone, pixels, np.zeros(8, np.int8), QUICK, seed=1)


@pytest.mark.parametrize("unfrozen", ["layer4", "layer3+4"])
def test_stored_activations_are_those_computed_afresh(backbone: Backbone, toy: Toy, unfrozen: str) -> None:
    pixels, _ = toy(20, 0)
    settings = QUICK.model_copy(update={"unfrozen": unfrozen, "epochs": 8})
    stored = FrozenStages(backbone, pixels, settings, 5, CPU)
    afresh = FrozenStages(backbone, pixels, settings.model_copy(update={"cache_gb": 0.0}), 5, CPU)
    assert stored.draws == afresh.draws == settings.draws
    learning = split(backbone, unfrozen)[1]
    for draw in range(settings.draws):
        for rows in (np.array([3, 7, 1]), np.array([7, 2]), np.arange(20)):
            one, other = stored.activations(rows, draw), afresh.activations(rows, draw)
            scale = float(other.abs().max())
            assert float((one - other).abs().max()) <= (1e-5 if draw == 0 else 2e-2) * scale
            assert _gradient(learning, one) == pytest.approx(_gradient(learning, other), rel=2e-2)


def _gradient(stages: torch.nn.Sequential, activations: torch.Tensor) -> float:
    learning = copy.deepcopy(stages).requires_grad_(True)
    learning(activations).mean().backward()
    return float(torch.cat([p.grad.flatten() for p in learning.parameters() if p.grad is not None]).norm())


@pytest.mark.parametrize("unfrozen", ["fc", "layer4", "layer3+4"])
def test_losses_with_and_without_stored_activations_agree(
    backbone: Backbone, toy: Toy, unfrozen: str
) -> None:
    pixels, labels = toy(24, 0)

    def losses(cache_gb: float) -> list[list[float | None]]:
        changes = {"unfrozen": unfrozen, "learning_rate": 1e-4, "cache_gb": cache_gb}
        settings = QUICK.model_copy(update=changes)
        reports: list[EpochReport] = []
        learning = split(copy.deepcopy(backbone), unfrozen)[1]
        frozen = FrozenStages(backbone, pixels, settings, 5, CPU)
        checked = FrozenStages(backbone, pixels[::2], settings, 5, CPU), labels[::2]
        learn(learning, Lesson(frozen, np.arange(24), labels, checked), settings, 5, reports.append)
        return [[report.training_loss, report.validation_loss] for report in reports]

    stored = losses(1.0)
    assert len(stored) == 3
    np.testing.assert_allclose(stored, losses(0.0), rtol=1e-2)


def test_after_filling_no_row_is_computed_again(
    backbone: Backbone, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = toy(40, 0)
    frozen = FrozenStages(backbone, pixels, QUICK, 5, CPU)
    asked = np.arange(0, 40, 2)
    frozen.fill(asked)
    expected = [frozen.activations(asked, draw).clone() for draw in range(frozen.draws)]
    monkeypatch.setattr(frozen, "_compute", None)
    for draw, activations in enumerate(expected):
        assert torch.equal(frozen.activations(asked[::-1].copy(), draw), activations.flip(0))


def test_where_the_head_alone_learns_only_its_input_is_stored(backbone: Backbone, toy: Toy) -> None:
    pixels, _ = toy(6, 0)
    frozen = FrozenStages(backbone, pixels, QUICK.model_copy(update={"unfrozen": "fc"}), 5, CPU)
    stored = frozen.activations(np.arange(6), 0)
    assert stored.shape == (6, 512, 1, 1)
    np.testing.assert_allclose(stored.flatten(1), embed(backbone, pixels, 6), rtol=1e-4, atol=1e-5)


def test_draws_differ_from_each_other_and_the_first_is_the_radiograph(backbone: Backbone, toy: Toy) -> None:
    pixels, _ = toy(4, 0)
    frozen = FrozenStages(backbone, pixels, QUICK.model_copy(update={"unfrozen": "all", "epochs": 5}), 5, CPU)
    pictures = [frozen.activations(np.arange(4), draw) for draw in range(frozen.draws)]
    assert len(pictures) == 5
    assert all(not torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    assert FrozenStages(backbone, pixels, QUICK.model_copy(update={"augmentation": 0.0}), 5, CPU).draws == 1


def test_memory_limits_the_draws(backbone: Backbone, toy: Toy) -> None:
    pixels, _ = toy(10, 0)
    settings = QUICK.model_copy(update={"epochs": 8})
    plain_bytes = FrozenStages(backbone, pixels, settings, 5, CPU).activations(np.arange(10), 0).nbytes

    def draws(share: float) -> int:
        cache_gb = share * plain_bytes / 1e9
        return FrozenStages(
            backbone, pixels, settings.model_copy(update={"cache_gb": cache_gb}), 5, CPU
        ).draws

    assert draws(2.0) == 3
    assert draws(1.5) == 2


def test_fold_embeddings_are_those_of_networks_fine_tuned_one_by_one(backbone: Backbone, toy: Toy) -> None:
    pixels, labels = toy(24, 0)
    folds = np.arange(24) // 8 + 1
    settings = QUICK.model_copy(update={"augmentation": 0.0})
    by_fold = dict(iterate_by_folds(FineTuning(backbone, pixels, labels, settings, 4), folds))
    assert list(by_fold) == [1, 2, 3]
    again = dict(iterate_by_folds(FineTuning(backbone, pixels, labels, settings, 4), folds, only=[2]))
    assert list(again) == [2]
    assert np.array_equal(again[2], by_fold[2])
    for fold, embeddings in by_fold.items():
        others = folds != fold
        tuned = finetune(backbone, pixels[others], labels[others], settings, 4)
        np.testing.assert_allclose(embeddings, embed(tuned, pixels, 8), rtol=1e-3, atol=1e-4)


def test_the_own_labels_of_a_fold_change_nothing_in_its_embeddings(backbone: Backbone, toy: Toy) -> None:
    pixels, labels = toy(24, 0)
    folds = np.arange(24) % 2
    turned = np.where(folds == 1, 1 - labels, labels).astype(np.int8)
    first = dict(iterate_by_folds(FineTuning(backbone, pixels, labels, QUICK, 4), folds))
    second = dict(iterate_by_folds(FineTuning(backbone, pixels, turned, QUICK, 4), folds))
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], second[0])


def test_folds_share_one_embedding_where_the_backbone_does_not_learn(backbone: Backbone, toy: Toy) -> None:
    pixels, labels = toy(8, 0)
    settings = QUICK.model_copy(update={"unfrozen": "none"})
    by_fold = dict(iterate_by_folds(FineTuning(backbone, pixels, labels, settings, 4), np.arange(8) % 2))
    assert by_fold[0] is by_fold[1]
    np.testing.assert_allclose(by_fold[0], embed(backbone, pixels, 8), rtol=1e-5)


def test_stages_learn_from_smaller_pictures_than_they_embed(backbone: Backbone, toy: Toy) -> None:
    pixels, labels = toy(12, 4)
    large = np.repeat(np.repeat(pixels, 2, axis=1), 2, axis=2)
    reduced = FineTuning(backbone, large, labels, QUICK, 5, learned_from=pixels, device="cpu")
    small = FineTuning(backbone, pixels, labels, QUICK, 5, device="cpu")
    rows = np.arange(12)
    learned, expected = reduced.on(rows), small.on(rows)
    np.testing.assert_allclose(embed(learned, pixels, 4), embed(expected, pixels, 4), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reduced.embed(learned), embed(learned, large, 4), rtol=1e-3, atol=1e-4)
    statistics = embed_with_statistics(learned, large, 4)[1]
    np.testing.assert_allclose(reduced.statistics(learned), statistics, rtol=1e-3, atol=1e-4)
