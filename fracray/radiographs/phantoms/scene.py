"""A scene: everything that one seed decides about a phantom, in millimetres, before any pixel exists."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fracray.radiographs.phantoms.anatomy import REGIONS, individual, limb, projected
from fracray.radiographs.phantoms.attenuation import Exposure, draw_exposure
from fracray.radiographs.phantoms.fractures import Break, carried, draw_break
from fracray.radiographs.phantoms.geometry import Profile, Tube, View, bounds, profile
from fracray.radiographs.phantoms.lookalikes import (
    Canal,
    Fold,
    GrowthPlate,
    Metal,
    draw_canal,
    draw_fold,
    draw_growth_plate,
    draw_metal,
    draw_ossicle,
    healed,
)

FRACTURED_SHARE = 0.31
"""Share of fractured phantoms when nobody asks for one: that of the paper's data, 131 of 420."""


@dataclass(frozen=True)
class Framing:
    """What part of the scene the radiograph shows.

    `width` and `height` of the field and its `centre` are in mm, `angle` in radians. `borders` are the
    collimator's shares of the field (left, right, top, bottom). `marker` is "L" or "R", `marker_at` mm from
    the centre.
    """

    width: float
    height: float
    centre: tuple[float, float]
    angle: float
    mirrored: bool
    borders: tuple[float, ...]
    marker: str | None
    marker_at: tuple[float, float]
    long_side: int

    def view(self, height: int, width: int, pixel: float) -> View:
        """The field as a grid of pixels of `pixel` mm."""
        return View(height, width, pixel, self.centre, self.angle, self.mirrored)

    def shows(self, bone: Tube, s: float) -> bool:
        """Whether the point of a bone's axis `s` mm from its start lies well inside the open field."""
        point = np.asarray(bone.start) + np.subtract(bone.end, bone.start) * (s / bone.length)
        matrix, _ = self.view(1, 1, 1.0).to_scene()
        x, y = np.linalg.inv(matrix) @ (point - np.asarray(self.centre)) / np.array([self.width, self.height])
        left, right, top, bottom = self.borders
        return bool(left + 0.03 < x + 0.5 < 0.97 - right and top + 0.03 < y + 0.5 < 0.97 - bottom)


@dataclass(frozen=True)
class Scene:
    """One phantom without pixels. Lengths are in mm, angles in radians."""

    seed: int
    region: str
    projection: str
    bones: tuple[tuple[Tube, Profile], ...]
    flesh: tuple[tuple[Tube, Profile], ...]
    target: Tube
    intact: Profile
    fracture: Break | None
    bone_features: tuple[Canal | GrowthPlate, ...]
    metal: Metal | None
    fold: Fold | None
    cast: float
    lookalikes: tuple[str, ...]
    swelling: bool
    frame: Framing
    density: float
    exposure: Exposure


def generators(seed: int) -> dict[str, np.random.Generator]:
    """Independent generators for the parts of a phantom, so that one part's draws never move another's."""
    names = ("label", "body", "fracture", "lookalikes", "framing", "exposure", "texture", "noise")
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {
        name: np.random.Generator(np.random.PCG64(child)) for name, child in zip(names, children, strict=True)
    }


def build_scene(seed: int, fractured: bool | None) -> Scene:
    """Everything about the phantom of a seed; sound ones, too, are framed about a random site."""
    draw = generators(seed)
    if fractured is None:
        fractured = bool(draw["label"].random() < FRACTURED_SHARE)
    body = draw["body"]
    weights = np.array([region.weight for region in REGIONS])
    region = REGIONS[int(body.choice(len(REGIONS), p=weights / weights.sum()))]
    projection = str(body.choice(region.projections))
    young = bool(body.random() < 0.22)
    size = float(body.uniform(0.72, 0.9) if young else body.normal(1.0, 0.06))
    bones, flesh = limb(region.limb)
    bones = [individual(projected(bone, projection, True), body).scaled(size) for bone in bones]
    stoutness = float(body.normal(1.0, 0.12))
    flesh = [_stout(projected(part, projection, False).scaled(size), stoutness) for part in flesh]
    name, low, high = region.targets[int(body.integers(len(region.targets)))]
    target = next(bone for bone in bones if bone.name == name)
    site = float(body.uniform(low, high)) * target.length
    density = float(np.clip(body.normal(1.0, 0.1), 0.72, 1.25))

    frame = _framing(region.field, size, target, site, draw["framing"])
    shapes = {name: profile(target)}
    fracture = draw_break(target, shapes[name], site, draw["fracture"])
    swollen = bool(draw["fracture"].random() < (0.5 if fractured else 0.2))
    bulge = float(draw["fracture"].uniform(0.05, 0.16))
    extra = _draw_extras(target, shapes[name], site, young, frame, draw["lookalikes"])
    if extra.old_fracture is not None:
        shapes[name] = extra.old_fracture

    if fractured and not target.paired and fracture.kind not in ("buckle", "hairline"):
        moving = _beyond(name, bones)
        bones = [carried(bone, target, fracture) if bone.name in moving else bone for bone in bones]
        flesh = [
            carried(part, target, fracture) if part.parent in moving | {name} else part for part in flesh
        ]
    bones += [extra.ossicle] if extra.ossicle is not None else []
    bones, flesh = _visible(bones, frame), _visible(flesh, frame)
    shapes.update({bone.name: profile(bone) for bone in bones if bone.name not in shapes})
    flesh_shapes = [
        _shaped(part, target, site, bulge if swollen else 0.0, fracture if fractured else None)
        for part in flesh
    ]
    return Scene(
        seed=seed,
        region=region.name,
        projection=projection,
        bones=tuple((bone, shapes[bone.name]) for bone in bones),
        flesh=tuple(zip(flesh, flesh_shapes, strict=True)),
        target=target,
        intact=shapes[name],
        fracture=fracture if fractured else None,
        bone_features=extra.features,
        metal=extra.metal,
        fold=extra.fold,
        cast=extra.cast,
        lookalikes=extra.names,
        swelling=swollen,
        density=density,
        exposure=draw_exposure(draw["exposure"]),
        frame=frame,
    )


@dataclass(frozen=True)
class _Extras:
    """The look-alikes of one scene that its field shows."""

    names: tuple[str, ...]
    features: tuple[Canal | GrowthPlate, ...]
    ossicle: Tube | None
    old_fracture: Profile | None
    fold: Fold | None
    cast: float
    metal: Metal | None


def _draw_extras(
    target: Tube, shape: Profile, site: float, young: bool, frame: Framing, rng: np.random.Generator
) -> _Extras:
    """Draw look-alikes, alike for sound and fractured bones. What lies outside the field is left out."""
    chance = rng.random(7)
    canal = draw_canal(target, shape, site, rng)
    plates = [draw_growth_plate(target, shape, distal, rng) for distal in (False, True)]
    fold = draw_fold(min(frame.width, frame.height), rng)
    ossicle = draw_ossicle(target, shape, site, rng)
    # Old and new breaks stay apart; a short bone has no room for both.
    old_site = site + float(rng.choice((-1, 1)) * rng.uniform(22, 55))
    old = healed(shape, float(np.clip(old_site, 0.12 * target.length, 0.88 * target.length)), rng)
    metal = draw_metal(target, shape, site, rng)
    thickness = float(rng.uniform(3, 7))

    has_canal = chance[0] < 0.3 and frame.shows(target, canal.s)
    shown_plates = [plate for plate in plates if young and frame.shows(target, plate.s)]
    has_fold, has_cast = chance[2] < 0.14, chance[3] < 0.04
    room = 0.12 < old_site / target.length < 0.88
    has_old = chance[4] < 0.18 and room and frame.shows(target, old_site)
    has_ossicle = chance[5] < 0.11 and frame.shows(ossicle, ossicle.length / 2)
    present = {
        "nutrient canal": has_canal,
        "growth plate": bool(shown_plates),
        "skin fold": has_fold,
        "cast": has_cast,
        "healed fracture": has_old,
        "accessory ossicle": has_ossicle,
        "collimator edge": any(frame.borders),
    }
    return _Extras(
        names=tuple(name for name, there in present.items() if there),
        features=(*([canal] if has_canal else []), *shown_plates),
        ossicle=ossicle if has_ossicle else None,
        old_fracture=old if has_old else None,
        fold=fold if has_fold else None,
        cast=thickness if has_cast else 0.0,
        metal=metal if chance[6] < 0.035 else None,
    )


def _stout(part: Tube, factor: float) -> Tube:
    factor = float(np.clip(factor, 0.75, 1.4)) if part.half_width > 18 else 1 + (factor - 1) * 0.3
    return replace(part, knots=tuple((f, a * factor, b * factor) for f, a, b in part.knots))


def _visible(tubes: list[Tube], frame: Framing) -> list[Tube]:
    view = frame.view(round(frame.height), round(frame.width), 1.0)
    return [
        tube for tube in tubes if bounds(view, tube.start, tube.end, tube.half_width * 1.25 + 12) is not None
    ]


def _beyond(name: str, bones: list[Tube]) -> set[str]:
    moving: set[str] = set()
    for bone in bones:
        if bone.parent == name or bone.parent in moving:
            moving.add(bone.name)
    return moving


def _shaped(part: Tube, target: Tube, site: float, bulge: float, fracture: Break | None) -> Profile:
    """The profile of a stretch of flesh: swollen at the site, bent with the bone inside it."""
    shape = profile(part)
    point = np.asarray(target.start) + np.subtract(target.end, target.start) * (site / target.length)
    axis = np.subtract(part.end, part.start) / part.length
    s = float((point - part.start) @ axis)
    mm = (np.arange(shape.half.size, dtype=np.float32) + 0.5) * np.float32(0.1)
    if bulge and -10 < s < part.length + 10:
        spread = max(part.half_width * 0.7, 9.0)
        swell = (1 + bulge * np.exp(-np.square((mm - s) / spread))).astype(np.float32)
        shape = replace(shape, half=shape.half * swell, depth=shape.depth * swell)
    if fracture is not None and target.name in part.along and fracture.kind not in ("buckle", "hairline"):
        ramp = 0.5 * (mm - s + np.sqrt(np.square(mm - s) + 15.0**2))
        move = np.tan(fracture.angle) * ramp + fracture.shift / (1 + np.exp(np.clip(-(mm - s) / 8, -30, 30)))
        shape = replace(shape, centre=shape.centre + move.astype(np.float32))
    return shape


def _framing(
    field: tuple[float, float], size: float, target: Tube, site: float, rng: np.random.Generator
) -> Framing:
    long_mm = float(rng.uniform(*field)) * (0.5 + 0.5 * size)
    short_mm = long_mm * float(rng.uniform(0.55, 0.9))
    portrait = bool(rng.random() < 0.86)
    width, height = (short_mm, long_mm) if portrait else (long_mm, short_mm)
    angle = float(np.clip(rng.normal(0, 0.14), -0.4, 0.4))
    if not portrait:
        angle += float(rng.choice((-1, 1))) * np.pi / 2 * float(rng.random() < 0.6)
    mirrored = bool(rng.random() < 0.5)
    point = np.asarray(target.start) + np.subtract(target.end, target.start) * (site / target.length)
    offset = np.array([rng.uniform(-0.27, 0.27) * width, rng.uniform(-0.33, 0.33) * height])
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre = point - turn @ offset
    borders = [float(rng.uniform(0.01, 0.06)) if rng.random() < 0.22 else 0.0 for _ in range(4)]
    corner = (-1.0 if offset[0] > 0 else 1.0, float(rng.choice((-1, 1))))
    marker_at = (
        corner[0] * width * float(rng.uniform(0.36, 0.42)),
        corner[1] * height * float(rng.uniform(0.36, 0.43)),
    )
    marked = bool(rng.random() < 0.6)
    return Framing(
        width=width,
        height=height,
        centre=(float(centre[0]), float(centre[1])),
        angle=angle,
        mirrored=mirrored,
        borders=tuple(borders),
        marker=("L" if mirrored else "R") if marked else None,
        marker_at=marker_at,
        long_side=int(rng.integers(512, 1201)),
    )
