import numpy as np
import pytest

from fracray.config import BackboneSettings, Preprocessing
from fracray.errors import BackboneError
from fracray.radiographs.phantoms import make_phantom
from fracray.vision.backbone import Backbone, load_backbone
from fracray.vision.embed import embed
from fracray.vision.preprocess import preprocess


def test_an_embedding_does_not_depend_on_its_batch(backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)
    whole = embed(backbone, pixels, batch_size=32)
    assert whole.shape == (7, 512)
    assert whole.dtype == np.float32
    for size in (1, 2, 3, 7):
        np.testing.assert_allclose(embed(backbone, pixels, batch_size=size), whole, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_within_one_percent_of_float32(backbone: Backbone) -> None:
    pixels = np.stack(
        [
            preprocess(make_phantom(seed, long_side=200).pixels, Preprocessing(size=96))
            for seed in range(4_900_300, 4_900_308)
        ]
    )
    for network in (backbone, load_backbone(BackboneSettings())):
        exact, reduced = embed(network, pixels, 4), embed(network, pixels, 4, precision="bfloat16")
        assert reduced.dtype == np.float32
        assert not np.array_equal(exact, reduced)
        error = np.linalg.norm(reduced - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert error.max() < 1e-2


def test_no_radiographs_give_no_embeddings(backbone: Backbone) -> None:
    assert embed(backbone, np.zeros((0, 64, 64), np.uint8), batch_size=4).shape == (0, 512)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(backbone: Backbone, device: str) -> None:
    with pytest.raises(BackboneError, match=device):
        embed(backbone, np.zeros((1, 64, 64), np.uint8), batch_size=4, device=device)


@pytest.mark.filterwarnings("error")
def test_a_read_only_batch_as_ray_hands_it_out_is_fine(backbone: Backbone) -> None:
    pixels = np.zeros((2, 64, 64), np.uint8)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(
        embed(backbone, pixels, batch_size=2), embed(backbone, pixels.copy(), batch_size=2)
    )
