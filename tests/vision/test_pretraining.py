import numpy as np
import pytest
import torch

from fracray.config import Preprocessing
from fracray.radiographs.phantoms import make_phantom
from fracray.vision.preprocess import preprocess
from fracray.vision.pretraining import (
    PROJECTIONS,
    REGION_NAMES,
    PhantomSet,
    PretextNetwork,
    draw_phantoms,
    edge_directions,
    pretext_figures,
    pretrain,
)

SEEDS = range(4_900_000, 4_900_012)
SMALL = Preprocessing(size=64)


@pytest.fixture(scope="module")
def sound() -> PhantomSet:
    return draw_phantoms(SEEDS, SMALL, fractured=False, processes=1)


def test_phantoms_for_pretraining_are_sound_and_keep_their_truth(sound: PhantomSet) -> None:
    assert not sound.fractured.any()
    for row, seed in enumerate(SEEDS):
        phantom = make_phantom(seed, fractured=False, long_side=96)
        assert np.array_equal(sound.pixels[row], preprocess(phantom.pixels, SMALL))
        assert REGION_NAMES[sound.regions[row]] == phantom.truth.region
        assert PROJECTIONS[sound.projections[row]] == phantom.truth.projection
        assert sound.lookalikes[row].sum() == len(phantom.truth.lookalikes)


@pytest.mark.parametrize("altered", [False, True])
def test_pretraining_changes_the_weights_and_is_repeatable(sound: PhantomSet, altered: bool) -> None:
    fresh = PretextNetwork("resnet10", seed=1)
    trained = []
    for _ in range(2):
        network = PretextNetwork("resnet10", seed=1)
        pretrain(network, sound, epochs=1, seed=1, sizes=(64, 32), altered=altered, batch_size=4)
        trained.append(network.state_dict())
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())
    untouched = {name for name, tensor in fresh.named_parameters() if torch.equal(tensor, trained[0][name])}
    assert untouched == (set() if altered else {"altered_head.weight", "altered_head.bias"})


def test_figures_of_an_untrained_network_are_near_chance(sound: PhantomSet) -> None:
    figures = pretext_figures(PretextNetwork("resnet10", seed=1).eval(), sound, seed=0)
    assert set(figures) == {"region accuracy", "projection accuracy", "look-alike AUROC", "altered AUROC"}
    assert all(0 <= value <= 1 for value in figures.values())
    assert figures["region accuracy"] < 0.7


@pytest.mark.parametrize(("degrees", "direction"), [(10, 0), (55, 2), (100, 4), (145, 6)])
def test_edges_are_told_by_their_direction_and_place(degrees: float, direction: int) -> None:
    y, x = np.mgrid[:64, :64]
    angle = np.deg2rad(degrees)
    waves = np.where(x < 32, np.sin((x * np.cos(angle) + y * np.sin(angle)) / 3), 0).astype(np.float32)
    strength = edge_directions(torch.from_numpy(waves)[None, None], (4, 4))[0]
    assert strength.shape == (8, 4, 4)
    assert (strength[:, :, 0].argmax(dim=0) == direction).all()
    assert not strength[:, :, 3].any()


def test_edges_do_not_depend_on_contrast_and_a_blank_picture_has_none() -> None:
    picture = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(edge_directions(picture, (2, 2)), edge_directions(picture * 0.1 + 3, (2, 2)))
    assert not edge_directions(torch.ones(1, 1, 32, 32), (2, 2)).any()
