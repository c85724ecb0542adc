"""Folds keep groups whole and classes even."""

from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fracray.errors import ManifestError
from fracray.radiographs.folds import assign_folds


@st.composite
def grouped_rows(draw: st.DrawFn) -> tuple[list[int], list[str], int]:
    folds = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(1, 4), min_size=4 * folds, max_size=60))
    classes = draw(st.lists(st.integers(0, 1), min_size=len(sizes), max_size=len(sizes)))
    assume(min(classes.count(0), classes.count(1)) >= folds)
    labels = [label for label, size in zip(classes, sizes, strict=True) for _ in range(size)]
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return labels, groups, folds


@settings(max_examples=25, deadline=None)
@given(grouped_rows(), st.integers(0, 2**31))
def test_groups_stay_whole_and_every_fold_has_both_classes(
    rows: tuple[list[int], list[str], int], seed: int
) -> None:
    labels, groups, folds = rows
    assigned = assign_folds(labels, groups, folds, seed)
    assert len({(group, fold) for group, fold in zip(groups, assigned, strict=True)}) == len(set(groups))
    assert {(label, fold) for label, fold in zip(labels, assigned.tolist(), strict=True)} == {
        (label, fold) for label in (0, 1) for fold in range(folds)
    }


@settings(max_examples=25, deadline=None)
@given(grouped_rows(), st.integers(0, 2**31), st.randoms())
def test_the_same_seed_gives_the_same_folds_in_any_order(
    rows: tuple[list[int], list[str], int], seed: int, random: Random
) -> None:
    labels, groups, folds = rows
    order = list(range(len(labels)))
    random.shuffle(order)
    straight = assign_folds(labels, groups, folds, seed)
    shuffled = assign_folds([labels[i] for i in order], [groups[i] for i in order], folds, seed)
    np.testing.assert_array_equal(straight[order], shuffled)


def test_class_shares_are_as_even_as_counts_allow() -> None:
    labels = [1] * 131 + [0] * 289
    assigned = assign_folds(labels, [str(number) for number in range(420)], 5, 7)
    for label in (0, 1):
        counts = np.bincount(assigned[np.array(labels) == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_another_seed_gives_other_folds() -> None:
    labels, groups = [0, 1] * 30, [str(number) for number in range(60)]
    assert (assign_folds(labels, groups, 5, 1) != assign_folds(labels, groups, 5, 2)).any()


@pytest.mark.parametrize(
    ("labels", "groups", "reason"),
    [
        (
            [0] * 9 + [1] * 9,
            [str(n) for n in range(9)] + ["a", "b"] * 4 + ["a"],
            "that are fractured, and there are 2",
        ),
        ([1] * 9, [str(n) for n in range(9)], "that are not fractured, and there are 0"),
    ],
)
def test_too_few_groups_of_a_class_is_an_error(labels: list[int], groups: list[str], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        assign_folds(labels, groups, 3, 7)
