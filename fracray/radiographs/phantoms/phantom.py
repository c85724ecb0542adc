"""Phantoms: synthetic radiographs with known truth. They say nothing about patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fracray.errors import UsageError
from fracray.radiographs.phantoms import attenuation as physics
from fracray.radiographs.phantoms.fractures import broken_chords, displacement_mm, fracture_mask
from fracray.radiographs.phantoms.geometry import Array, View, chord, chords, patch
from fracray.radiographs.phantoms.lookalikes import marker
from fracray.radiographs.phantoms.scene import Scene, build_scene, generators

PLACES = ("proximal third", "middle third", "distal third")
_FINE_MM = 0.5
"""Path lengths are computed on a grid at least this fine: a coarse picture is an average, not a sample."""


@dataclass(frozen=True)
class PhantomTruth:
    """What a phantom shows. Fields about the fracture are None when the bones are sound.

    `box` is (xmin, ymin, xmax, ymax) in pixels, the upper ends exclusive. `displacement_mm` is the shift of
    the distal fragment at the break, `angulation_deg` its bend in the plane of the picture, without sign.
    `side` is the text of the marker.
    """

    seed: int
    label: Literal[0, 1]
    region: str
    projection: str
    bone: str | None
    place: str | None
    kind: str | None
    box: tuple[int, int, int, int] | None
    displacement_mm: float | None
    angulation_deg: float | None
    lookalikes: tuple[str, ...]
    soft_tissue_swelling: bool
    hardware: bool
    side: Literal["left", "right"] | None


@dataclass(frozen=True)
class Phantom:
    """A synthetic radiograph.

    `pixels` is float32 `[H, W]` in 0 to 1, bright where dense. `mask` is bool `[H, W]`, true within about two
    millimetres of the fracture.
    """

    pixels: Array
    truth: PhantomTruth
    mask: NDArray[np.bool_]
    pixel_spacing_mm: float


def make_phantom(seed: int, *, fractured: bool | None = None, long_side: int | None = None) -> Phantom:
    """Make the phantom of a seed.

    `fractured` None lets the seed decide (about 31 % are). With True or False the same person, view and
    look-alikes appear with or without the fracture. `long_side` is the longer edge in pixels, None for the
    seed's own (512 to 1200); the scene does not depend on it. Raises `UsageError` for a negative seed or a
    long side below 32.
    """
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative; give a number from 0 on")
    if long_side is not None and long_side < 32:
        raise UsageError(f"a phantom of {long_side} pixels shows nothing; ask for a long side of 32 or more")
    scene = build_scene(seed, fractured)
    side = long_side or scene.frame.long_side
    pixel = max(scene.frame.width, scene.frame.height) / side
    height, width = max(1, round(scene.frame.height / pixel)), max(1, round(scene.frame.width / pixel))
    finer = min(4, int(np.ceil(pixel / _FINE_MM)))
    fine = scene.frame.view(height * finer, width * finer, pixel / finer)
    draw = generators(seed)
    exposure = scene.exposure
    beam = physics.averaged(
        physics.transmitted(_attenuation(scene, fine, draw["texture"]), exposure, fine.pixel), finer
    )
    measured = physics.detected(beam, exposure, pixel, draw["noise"])
    pixels = physics.displayed(measured, -np.log(np.maximum(beam, 1e-4)), exposure, pixel)
    pixels *= _shutter(scene, height, width)
    mask = _mask(scene, scene.frame.view(height, width, pixel))
    return Phantom(pixels.astype(np.float32), _truth(scene, mask), mask, pixel)


def _attenuation(scene: Scene, view: View, rng: np.random.Generator) -> Array:
    """Line integral of attenuation `[H, W]` on the grid of `view`."""
    grid = (view.height, view.width)
    trabeculae, muscle = _textures(scene, grid, rng)
    soft = np.zeros(grid, np.float32)
    shell = np.zeros(grid, np.float32) if scene.cast else None
    for tube, shape in scene.flesh:
        area = patch(view, tube.start, tube.end, tube.half_width * 1.25 + 10)
        if area is None:
            continue
        path = np.square(np.square(chord(shape, area.s, area.u)))
        soft[area.rows, area.columns] += path
        if shell is not None and tube.half_width > 18:
            wide = type(shape)(shape.centre, shape.half + 5.0, shape.depth + 5.0, *([shape.half] * 3))
            around = shell[area.rows, area.columns]
            np.maximum(around, chord(wide, area.s, area.u), out=around)
    soft = np.sqrt(np.sqrt(soft))
    if shell is not None:
        shell = np.maximum(shell - soft, 0) * np.float32(scene.cast / 10)
    bone = np.zeros(grid, np.float32)
    replaced = np.zeros(grid, np.float32)
    metal = np.zeros(grid, np.float32)
    for tube, shape in scene.bones:
        breaks = scene.fracture is not None and tube.name == scene.fracture.bone
        area = patch(view, tube.start, tube.end, tube.half_width + (20 if breaks or scene.metal else 2))
        if area is None:
            continue
        here = (area.rows, area.columns)
        if scene.fracture is not None and tube.name == scene.fracture.bone:
            compact, spongy = broken_chords(shape, scene.fracture, area.s, area.u, view.pixel)
        else:
            compact, marrow, share = chords(shape, area.s, area.u)
            spongy = marrow * share
        # Where the beam crosses more spongy bone, its grain averages out.
        spongy *= 1 + trabeculae[here] / np.sqrt(np.float32(1.0) + spongy * np.float32(0.9))
        both = compact + spongy
        for feature in scene.bone_features:
            if feature.bone == tube.name:
                near = np.abs(area.s - np.float32(feature.s)) < feature.extent
                both[near] *= feature.share(area.s[near], area.u[near])
        bone[here] += both
        replaced[here] += compact
        if scene.metal is not None and scene.metal.bone == tube.name:
            metal[here] += scene.metal.thickness_at(area.s, area.u, view.pixel)
    soft = np.maximum(soft - replaced, 0) * muscle
    if scene.fold is not None:
        x = (np.arange(view.width, dtype=np.float32) - (view.width - 1) / 2) * np.float32(view.pixel)
        y = (np.arange(view.height, dtype=np.float32) - (view.height - 1) / 2) * np.float32(view.pixel)
        present = np.clip(soft / 12, 0, 1)
        soft = np.maximum(soft + present * scene.fold.thickness_at(x[None, :], y[:, None]), 0)
    total = np.float32(physics.SOFT_TISSUE) * soft + np.float32(physics.COMPACT_BONE * scene.density) * bone
    if shell is not None:
        total += np.float32(physics.PLASTER) * shell * muscle
    if scene.frame.marker is not None:
        size = 0.055 * max(scene.frame.width, scene.frame.height)
        metal += marker(scene.frame.marker, view, scene.frame.marker_at[0], scene.frame.marker_at[1], size)
    return np.asarray(total + np.float32(physics.METAL) * metal, np.float32)


def _textures(scene: Scene, grid: tuple[int, int], rng: np.random.Generator) -> tuple[Array, Array]:
    """The grain of spongy bone, about 0, and a broad, faint factor about 1 for muscle, on the grid."""
    height, width = round(scene.frame.height / 0.5), round(scene.frame.width / 0.5)
    noise = rng.standard_normal((height, width), dtype=np.float32)
    grain = gaussian_filter(noise, (0.95, 0.5)) - gaussian_filter(noise, 2.2)
    coarse = rng.standard_normal((height // 6 + 2, width // 6 + 2), dtype=np.float32)
    broad = gaussian_filter(coarse, (2.0, 0.8)) + gaussian_filter(coarse, 3.0)
    trabeculae = physics.resized(np.asarray(np.clip(1.5 * grain, -0.8, None), np.float32), *grid)
    return trabeculae, physics.resized(np.asarray(1 + 0.07 * broad, np.float32), *grid)


def _shutter(scene: Scene, height: int, width: int) -> Array:
    """The collimator's border as a factor `[H, W]`: 1 in the field, 0 beyond it."""
    left, right, top, bottom = scene.frame.borders

    def opening(v: Array, low: float, high: float) -> Array:
        inside = np.ones_like(v)
        if low:
            inside *= np.clip((v - low) / 0.004, 0, 1)
        if high:
            inside *= np.clip((1 - high - v) / 0.004, 0, 1)
        return inside

    x = (np.arange(width) + 0.5).astype(np.float32) / np.float32(width)
    y = (np.arange(height) + 0.5).astype(np.float32) / np.float32(height)
    return opening(y, top, bottom)[:, None] * opening(x, left, right)[None, :]


def _mask(scene: Scene, view: View) -> NDArray[np.bool_]:
    mask = np.zeros((view.height, view.width), dtype=bool)
    if scene.fracture is None:
        return mask
    area = patch(view, scene.target.start, scene.target.end, scene.target.half_width + 20)
    if area is None:
        raise AssertionError(f"phantom {scene.seed}: the fracture lies outside the field")
    near = fracture_mask(scene.intact, scene.fracture, area.s, area.u)
    if not near.any():
        # A picture too coarse for the mask still has one pixel that holds the break.
        away = np.hypot(area.s - scene.fracture.s, area.u - scene.fracture.pivot)
        near = away == away.min()
    mask[area.rows, area.columns] = near
    return mask


def _truth(scene: Scene, mask: NDArray[np.bool_]) -> PhantomTruth:
    side: Literal["left", "right"] | None = None
    if scene.frame.marker is not None:
        side = "left" if scene.frame.marker == "L" else "right"
    sound = PhantomTruth(
        seed=scene.seed,
        label=0,
        region=scene.region,
        projection=scene.projection,
        bone=None,
        place=None,
        kind=None,
        box=None,
        displacement_mm=None,
        angulation_deg=None,
        lookalikes=scene.lookalikes,
        soft_tissue_swelling=scene.swelling,
        hardware=scene.metal is not None,
        side=side,
    )
    fracture = scene.fracture
    if fracture is None:
        return sound
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    third = min(2, int(3 * fracture.s / scene.target.length))
    return replace(
        sound,
        label=1,
        bone=fracture.bone,
        place=PLACES[third],
        kind=fracture.kind,
        box=(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
        displacement_mm=displacement_mm(fracture),
        angulation_deg=abs(float(np.rad2deg(fracture.angle))),
    )
