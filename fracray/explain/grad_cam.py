"""Where on a radiograph the evidence for a fracture lies: class activation maps of the decision's own
logit."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from fracray.config import HeatMapMethod
from fracray.errors import UsageError
from fracray.vision.backbone import Backbone, pool
from fracray.vision.device import exact_arithmetic
from fracray.vision.normalise import normalise

LogitFunction = Callable[[Tensor], Tensor]
"""A differentiable function from embeddings [n, d] to logits [n], each row for itself."""

_METHODS = dict(zip(get_args(HeatMapMethod), (GradCAM, GradCAMPlusPlus, LayerCAM, EigenCAM), strict=True))


class _Tangent(nn.Module):
    """Logits as functions of the last feature map, linear with given slopes [n, d] by the embedding.

    The embedding is the feature map's mean, so every derivative by a place of the map follows from these
    slopes, whatever function of the embedding the logit is. As a module of its own it leaves the backbone
    without hooks and a classifier without gradients.
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = nn.Parameter(slopes)
        self.last = nn.Identity()

    def forward(self, feature_map: Tensor) -> Tensor:
        return (pool(self.last(feature_map)) * self.slopes).sum(dim=1, keepdim=True)


def decision_map(
    backbone: Backbone, logit: LogitFunction, pixels: NDArray[np.uint8], method: HeatMapMethod = "gradcam"
) -> NDArray[np.float32]:
    """Return heat float32 `[n, s, s]` in [0, 1] over preprocessed radiographs `pixels` uint8 `[n, s, s]`.

    `logit` takes the embeddings `[n, d]` of these radiographs, as a torch tensor, to the logits `[n]` of a
    fracture; the map explains that function, for instance `Classifier.logit_function`, and not a head of its
    own. Each map's highest value is 1; all of it is zero where no place speaks for a fracture. The methods:
    Grad-CAM (Selvaraju 2017), Grad-CAM++ (Chattopadhay 2018), LayerCAM (Jiang 2021), Eigen-CAM (Muhammad
    2020, which ignores the logit). Leaves no hook on `backbone`. Raises `UsageError` for an unknown method
    and for a function that does not take these embeddings to `[n]`.
    """
    laid_out = []
    for cells in place_map(backbone, logit, pixels, method):
        looks = [
            spread(one, pixels.shape[1], backbone.stride, backbone.offset)
            for one in np.split(cells, 1 + backbone.mirror, axis=1)
        ]
        heat = looks[0] + np.flip(looks[1], axis=1) if backbone.mirror else looks[0]
        highest = float(heat.max())
        laid_out.append(heat / highest if highest > 0 else heat)
    return np.stack(laid_out)


def place_map(
    backbone: Backbone, logit: LogitFunction, pixels: NDArray[np.uint8], method: HeatMapMethod = "gradcam"
) -> NDArray[np.float32]:
    """Return `decision_map` before it is spread: float32 `[n, h, w]` in [0, 1], a number for each place of
    `Backbone.feature_map`."""
    if method not in _METHODS:
        raise UsageError(f"map method '{method}' is not known; choose one of: {', '.join(_METHODS)}")
    device = next(backbone.parameters()).device
    with torch.no_grad(), exact_arithmetic():
        feature_map = backbone.eval().feature_map(normalise(torch.tensor(pixels, device=device)))
    decision = _Tangent(_slopes(logit, pool(feature_map)))
    with torch.enable_grad(), _METHODS[method](decision, [decision.last]) as cam:
        cells: NDArray[np.float32] = cam(feature_map.requires_grad_(), targets=[torch.sum] * len(pixels))
    return cells


def _slopes(logit: LogitFunction, embeddings: Tensor) -> Tensor:
    """Derivatives `[n, d]` of each row's logit by its embedding, the largest of each row scaled to 1.

    The methods add small constants to what they divide by; scaled, these do not matter.
    """
    with torch.enable_grad():
        embeddings = embeddings.detach().requires_grad_()
        try:
            logits = logit(embeddings)
        except RuntimeError as error:
            shape = list(embeddings.shape)
            raise UsageError(f"the logit function does not take embeddings {shape}: {error}") from None
        if logits.shape != embeddings.shape[:1]:
            raise UsageError(
                f"the logit function gives {list(logits.shape)} for {len(embeddings)} embeddings; "
                "it has to give one number for each"
            )
        (slopes,) = torch.autograd.grad(logits.sum(), embeddings)
    largest = slopes.abs().amax(dim=1, keepdim=True)
    return slopes / largest.clamp_min(torch.finfo(slopes.dtype).tiny)


def spread(cells: NDArray[np.float32], size: int, stride: int, offset: int) -> NDArray[np.float32]:
    """Return `cells` `[h, w]` laid out over a square of `size` pixels as cubic B-splines.

    Straight lines between cells would put the hottest pixel into the middle of a cell whatever the cells
    around it say; the sum of B-splines has it towards the warmer ones, and is never below zero.
    """
    # Cell i looks at a neighbourhood of pixel offset + i * stride, so the map is laid out from there;
    # stretching it over the square would shift it by half a cell.
    places = (np.mgrid[0:size, 0:size] - offset) / stride
    laid_out: NDArray[np.float32] = map_coordinates(
        cells, places, output=np.float32, order=3, mode="nearest", prefilter=False
    )
    return laid_out
