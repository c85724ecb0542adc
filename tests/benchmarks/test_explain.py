import numpy as np
import torch
from explain import CUT, METHODS, SmallBackbone

from fracray.explain.grad_cam import decision_map


def test_the_small_network_can_be_explained_by_every_method() -> None:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (2, CUT, CUT), np.uint8)
    for method in METHODS:
        heat = decision_map(SmallBackbone(), lambda embeddings: embeddings.sum(1), pixels, method)
        assert heat.shape == pixels.shape
        assert heat.max(axis=(1, 2)).tolist() == [1, 1]
