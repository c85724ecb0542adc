import numpy as np
import torch

from fracray.vision.alterations import CROP, altered_pairs


def bones(n: int) -> torch.Tensor:
    """A bright stripe with a brighter border on black, normalised."""
    picture = torch.full((n, 1, 160, 160), -2.0)
    picture[:, :, :, 70:95] = 1.0
    picture[:, :, :, 70:74] = 2.0
    return picture


def test_pairs_differ_only_near_one_place_on_the_bone() -> None:
    altered, untouched = altered_pairs(bones(40), np.random.default_rng(0)).view(2, 40, CROP, CROP)
    changed = (altered - untouched).abs() > 0.05
    assert changed.any(dim=(1, 2)).float().mean() > 0.9
    assert changed.float().mean() < 0.15
    # The untouched crop of such a picture has no contour that is not straight down.
    assert not (untouched[:, 1:] - untouched[:, :-1]).any()
    assert (untouched.amax(dim=(1, 2)) == 2).float().mean() > 0.9


def test_the_same_generator_state_alters_alike() -> None:
    first, second = (altered_pairs(bones(5), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, altered_pairs(bones(5), np.random.default_rng(4)))


def test_crops_stay_inside_and_a_blank_picture_is_no_error() -> None:
    corner = torch.full((6, 1, 64, 80), 0.0)
    corner[:, :, :4, :4] = 1.0
    assert altered_pairs(corner[:, :, :, :64], np.random.default_rng(0)).shape == (12, 1, CROP, CROP)
    assert torch.isfinite(altered_pairs(torch.zeros(2, 1, 96, 96), np.random.default_rng(0))).all()
