"""Where on the radiograph the evidence for a fracture lies: class activation maps of the decision's own
logit."""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from fracray.errors import UsageError
from fracray.vision.backbone import Backbone, normalise, pool
from fracray.vision.device import exact_arithmetic

Method = Literal["gradcam", "gradcam++", "layercam", "eigencam"]
_METHODS = dict(zip(get_args(Method), (GradCAM, GradCAMPlusPlus, LayerCAM, EigenCAM), strict=True))


class _Decision(nn.Module):
    """The logit as a function of the last feature map alone: all that these methods differentiate."""

    def __init__(self, image_gradient: NDArray[np.floating], device: torch.device) -> None:
        super().__init__()
        # These methods divide by sums with a small constant; at a largest weight of 1 it does not matter.
        scaled = image_gradient / max(float(np.abs(image_gradient).max()), 1e-30)
        self.weights = nn.Parameter(torch.tensor(scaled, dtype=torch.float32, device=device))
        self.last = nn.Identity()

    def forward(self, feature_map: Tensor) -> Tensor:
        return (pool(self.last(feature_map)) @ self.weights).unsqueeze(1)


def decision_map(
    backbone: Backbone,
    image_gradient: NDArray[np.floating],
    pixels: NDArray[np.uint8],
    method: Method = "gradcam",
) -> NDArray[np.float32]:
    """Return heat float32 `[n, s, s]` in [0, 1] over preprocessed radiographs `pixels` uint8 `[n, s, s]`.

    `image_gradient` `[d]` is the derivative of the fracture's logit by the embedding, so that the map
    explains the fused decision's image part and not a head of its own. Each map's highest value is 1; it is
    all zero where nothing speaks for a fracture, and on a picture of one single value. The methods: Grad-CAM
    (Selvaraju 2017), Grad-CAM++ (Chattopadhay 2018), LayerCAM (Jiang 2021), Eigen-CAM (Muhammad 2020, which
    ignores the logit). Leaves no hook on `backbone`. Raises `UsageError` for an unknown method or a gradient
    of another length.
    """
    if method not in _METHODS:
        raise UsageError(f"map method '{method}' is not known; choose one of: {', '.join(_METHODS)}")
    if image_gradient.shape != (backbone.embedding_dim,):
        raise UsageError(
            f"the image gradient has shape {image_gradient.shape}, the embedding {backbone.embedding_dim} "
            "numbers; take both from one bundle"
        )
    device = next(backbone.parameters()).device
    with torch.no_grad(), exact_arithmetic():
        feature_map = backbone.eval().feature_map(normalise(torch.tensor(pixels, device=device)))
    decision = _Decision(image_gradient, device)
    with torch.enable_grad(), _METHODS[method](decision, [decision.last]) as cam:
        small = cam(feature_map.requires_grad_(), targets=[torch.sum] * len(pixels))
    heat = np.stack([_spread(cells, pixels.shape[1], backbone.stride) for cells in small])
    heat[pixels.min(axis=(1, 2)) == pixels.max(axis=(1, 2))] = 0
    return heat


def _spread(cells: NDArray[np.float32], size: int, stride: int) -> NDArray[np.float32]:
    # Cell i looks at a neighbourhood of pixel i * stride (convolutions of odd width, padded by half of it),
    # so the map is laid out from there; stretching it over the square would shift it by half a cell.
    places = np.mgrid[0:size, 0:size] / stride
    spread: NDArray[np.float32] = map_coordinates(cells, places, output=np.float32, order=1, mode="nearest")
    highest = float(spread.max())
    return spread / highest if highest > 0 else spread
