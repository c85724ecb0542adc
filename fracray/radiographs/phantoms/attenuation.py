"""From path lengths to a picture: Beer-Lambert, scatter, blur, quantum noise and the display curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from fracray.radiographs.phantoms.geometry import Array

# Linear attenuation in 1/mm at an effective 40 keV (NIST XCOM mass attenuation times density, rounded).
SOFT_TISSUE = 0.0268
COMPACT_BONE = 0.128
METAL = 1.0
PLASTER = 0.045


@dataclass(frozen=True)
class Exposure:
    """How a radiograph was taken and is shown.

    `photons` per mm2 at the detector without a patient, `blur` the point spread in mm (sigma), `scatter` the
    share of scattered photons, `heel` the fall of intensity along and across the field, `floor` and `ceiling`
    the display window relative to the typical soft tissue and the densest bone, `gamma` the display curve,
    `local` how far the display evens out large-scale density.
    """

    photons: float
    blur: float
    scatter: float
    heel: tuple[float, float]
    floor: float
    ceiling: float
    gamma: float
    local: float


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw technique and display of one radiograph."""
    return Exposure(
        photons=float(np.exp(rng.uniform(np.log(2.5e4), np.log(1.6e5)))),
        blur=float(rng.uniform(0.1, 0.32)),
        scatter=float(rng.uniform(0.03, 0.16)),
        heel=(float(rng.normal(0, 0.1)), float(rng.normal(0, 0.06))),
        floor=float(rng.uniform(0.0, 0.5)),
        ceiling=float(rng.uniform(1.02, 1.35)),
        gamma=float(rng.uniform(0.8, 1.35)),
        local=float(rng.uniform(0.1, 0.5)),
    )


def smooth(image: Array, sigma: float) -> Array:
    """Blur by a wide Gaussian of `sigma` pixels, on a coarser grid where that is enough."""
    factor = max(1, int(sigma / 3))
    height, width = image.shape
    small = resized(image, max(2, height // factor), max(2, width // factor))
    return resized(
        np.asarray(gaussian_filter(small, sigma / factor, mode="nearest"), np.float32), height, width
    )


def resized(image: Array, height: int, width: int) -> Array:
    """The image on another grid; area-averaging when that grid is coarser."""
    if image.shape == (height, width):
        return image
    return np.asarray(
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32
    )


def averaged(image: Array, factor: int) -> Array:
    """Mean over blocks of `factor` x `factor` pixels."""
    if factor == 1:
        return image
    height, width = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def transmitted(attenuation: Array, exposure: Exposure, pixel: float) -> Array:
    """Intensity at the detector relative to the open beam, noise-free, for a grid of `pixel` mm."""
    intensity = np.exp(-attenuation)
    sigma = exposure.blur / pixel
    if sigma > 0.3:
        intensity = gaussian_filter(intensity, sigma, mode="nearest", truncate=3.0)
    spread = smooth(intensity, 18.0 / pixel)
    return np.asarray((1 - exposure.scatter) * intensity + exposure.scatter * spread, dtype=np.float32)


def detected(intensity: Array, exposure: Exposure, pixel: float, rng: np.random.Generator) -> Array:
    """The measured attenuation: with heel effect, and the quantum noise of the photons in a pixel."""
    height, width = intensity.shape
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(exposure.heel[0])
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(exposure.heel[1])
    photons = intensity * (1 + down + across) * np.float32(exposure.photons * pixel**2)
    noisy = photons + np.sqrt(photons) * rng.standard_normal(intensity.shape, dtype=np.float32)
    floor = np.float32(exposure.photons * pixel**2 * 1e-4)
    open_beam = np.float32(exposure.photons * pixel**2)
    return np.asarray(-np.log(np.maximum(noisy, floor) / open_beam), dtype=np.float32)


def displayed(measured: Array, clean: Array, exposure: Exposure, pixel: float) -> Array:
    """Grey values 0 to 1, bright where dense. `clean` is the noise-free attenuation that sets the window."""
    step = max(1, round(0.8 / pixel))
    sample = clean[::step, ::step]
    tissue = sample[sample > 0.15]
    if tissue.size < 50:
        tissue = sample.ravel()
    typical, dense = np.percentile(tissue, 50), np.percentile(tissue, 99.6)
    low = exposure.floor * typical
    high = low + exposure.ceiling * max(float(dense - low), 0.25)
    evened = measured - np.float32(exposure.local) * (
        smooth(clean, 14.0 / pixel) - np.float32(typical)
    ) * np.float32(0.6)
    x = (evened - np.float32(low)) / np.float32(high - low)
    # A toe instead of a hard cut keeps thin soft tissue faintly visible.
    toe = np.float32(0.08)
    x = np.float32(0.5) * (x + np.sqrt(np.square(x) + toe**2))
    x = np.clip((x - np.float32(0.02)) / np.float32(1.0), 0, None)
    x = x / np.sqrt(np.sqrt(1 + np.square(np.square(x))))
    return np.asarray(np.power(x, np.float32(exposure.gamma)), dtype=np.float32)
