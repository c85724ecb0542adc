import numpy as np
import torch

from fracray.vision.alterations import ALTERED_SHARE, alter


def bones(n: int) -> torch.Tensor:
    """A bright stripe with a brighter border on black, normalised."""
    picture = torch.full((n, 1, 96, 96), -2.0)
    picture[:, :, :, 40:60] = 1.0
    picture[:, :, :, 40:43] = 2.0
    return picture


def test_pictures_change_where_it_says_and_nowhere_far_from_there() -> None:
    before = bones(60)
    after, where = alter(before, np.random.default_rng(0))
    changed = (after - before).abs().amax(dim=1) > 0.05
    altered = where.amax(dim=(1, 2, 3)) == 1
    assert not changed[~altered].any()
    assert changed[altered].any(dim=2).any(dim=1).float().mean() > 0.9
    down, right = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    for picture in torch.nonzero(altered).flatten().tolist():
        spot = where[picture, 0]
        centre = [float((spot * axis).sum() / spot.sum()) for axis in (down, right)]
        away = torch.hypot(down - centre[0], right - centre[1])
        assert not changed[picture][away > 0.35 * 96].any()


def test_about_the_stated_share_is_altered_mostly_on_the_bright_part() -> None:
    _, where = alter(bones(400), np.random.default_rng(1))
    assert abs(float(where.amax(dim=(1, 2, 3)).mean()) - ALTERED_SHARE) < 0.08
    columns = where[:, 0].sum(dim=(0, 1))
    assert columns[30:70].sum() > 0.8 * columns.sum()


def test_the_same_generator_state_alters_alike() -> None:
    first, second = (alter(bones(5), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
