import numpy as np
import pytest

from fracray.errors import BackboneError
from fracray.vision.backbone import Backbone
from fracray.vision.embed import embed


def test_an_embedding_does_not_depend_on_its_batch(backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)
    whole = embed(backbone, pixels, batch_size=32)
    assert whole.shape == (7, 512)
    assert whole.dtype == np.float32
    for size in (1, 2, 3, 7):
        np.testing.assert_allclose(embed(backbone, pixels, batch_size=size), whole, rtol=1e-5, atol=1e-5)


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
