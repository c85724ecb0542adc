"""What resembles a fracture and is none: canals, growth plates, folds, old healing, ossicles, metal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fracray.radiographs.phantoms.geometry import Array, Profile, Tube, View, lookup

LOOKALIKES = (
    "nutrient canal",
    "growth plate",
    "skin fold",
    "cast",
    "healed fracture",
    "accessory ossicle",
    "collimator edge",
)


@dataclass(frozen=True)
class Canal:
    """A nutrient canal: a short lucent line that runs obliquely through one wall. Lengths in mm."""

    bone: str
    s: float
    u: float
    slope: float
    length: float
    width: float
    lucency: float

    @property
    def extent(self) -> float:
        """How far along the axis the canal can be seen, in mm from `s`."""
        return 0.75 * self.length

    def share(self, s: Array, u: Array) -> Array:
        """How much of the bone is left, about 1 except in the canal."""
        across = (u - self.u - self.slope * (s - self.s)) / np.hypot(1.0, self.slope)
        inside = np.exp(-np.square(np.square((s - self.s) / (self.length / 2))))
        rim = 0.25 * np.exp(-np.square((np.abs(across) - 2.2 * self.width) / self.width))
        return np.asarray(
            1 - self.lucency * inside * (np.exp(-np.square(across / self.width)) - rim), np.float32
        )


@dataclass(frozen=True)
class GrowthPlate:
    """A growth plate: a smooth lucent band across the end of a bone, its edges sclerotic. Lengths in mm."""

    bone: str
    s: float
    width: float
    wave: float
    phase: float
    half: float
    lucency: float

    @property
    def extent(self) -> float:
        """How far along the axis the plate can be seen, in mm from `s`."""
        return 5 * self.width + self.wave

    def share(self, s: Array, u: Array) -> Array:
        """How much of the bone is left."""
        line = self.s + self.wave * np.sin(u / self.half * 2.2 + self.phase)
        away = (s - line) / self.width
        lucent = self.lucency * np.exp(-np.square(away))
        return np.asarray(1 - lucent + 0.35 * np.exp(-np.square(np.abs(away) - 2.0)), np.float32)


@dataclass(frozen=True)
class Metal:
    """A plate with screws along a bone, or a nail inside it. Lengths in mm."""

    bone: str
    s: float
    length: float
    u: float
    width: float
    thickness: float
    screws: tuple[float, ...]
    screw_length: float

    def thickness_at(self, s: Array, u: Array, pixel: float) -> Array:
        """Path length through metal in mm."""
        soft = max(pixel, 0.15)
        body = (
            _box(s - self.s, self.length / 2, soft) * _box(u - self.u, self.width / 2, soft) * self.thickness
        )
        for at in self.screws:
            body = np.maximum(body, _box(s - at, 1.3, soft) * _box(u, self.screw_length / 2, soft) * 2.4)
        return np.asarray(body, np.float32)


@dataclass(frozen=True)
class Fold:
    """A skin fold: soft tissue thicker on one side of a slightly curved line through the view, in mm."""

    angle: float
    offset: float
    curve: float
    height: float
    fade: float
    sharp: float

    def thickness_at(self, x: Array, y: Array) -> Array:
        """Added soft tissue in mm at view coordinates relative to the middle."""
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        along, across = c * x + s * y, c * y - s * x - np.float32(self.offset)
        away = across - np.float32(self.curve) * np.square(along)
        step = 1 / (1 + np.exp(np.clip(-away / np.float32(self.sharp), -30, 30)))
        return np.asarray(
            self.height * step * np.exp(-np.maximum(away, 0) / np.float32(self.fade)), np.float32
        )


def _box(x: Array, half: float, soft: float) -> Array:
    return np.asarray(np.clip(0.5 + (half - np.abs(x)) / soft, 0, 1), np.float32)


def draw_canal(bone: Tube, shape: Profile, near: float, rng: np.random.Generator) -> Canal:
    """A canal somewhere within 45 mm of axis position `near`, but not in the bone's ends."""
    low, high = 0.15 * bone.length, 0.85 * bone.length
    s = float(np.clip(near + rng.choice((-1, 1)) * rng.uniform(8, 45), low, high))
    here = np.array([s], np.float32)
    half, centre = float(lookup(shape.half, here)[0]), float(lookup(shape.centre, here)[0])
    side = float(rng.choice((-1, 1)))
    return Canal(
        bone.name,
        s,
        centre + side * half * float(rng.uniform(0.4, 0.85)),
        side * float(rng.choice((rng.uniform(0.1, 0.35), rng.uniform(0.4, 0.9)))),
        min(half * 2, float(rng.uniform(6, 15))),
        float(rng.uniform(0.3, 0.5)),
        float(rng.uniform(0.25, 0.6)),
    )


def draw_growth_plate(bone: Tube, shape: Profile, distal: bool, rng: np.random.Generator) -> GrowthPlate:
    """A growth plate near one end of a bone."""
    thick = float(np.max(shape.half))
    away = min(thick * float(rng.uniform(0.6, 0.95)), 0.16 * bone.length)
    s = bone.length - away if distal else away
    half = float(lookup(shape.half, np.array([s], np.float32))[0])
    return GrowthPlate(
        bone.name,
        s,
        float(rng.uniform(0.45, 0.9)),
        float(rng.uniform(0.02, 0.12)) * half,
        float(rng.uniform(0, 6.28)),
        max(half, 1.0),
        float(rng.uniform(0.35, 0.75)),
    )


def healed(shape: Profile, s: float, rng: np.random.Generator) -> Profile:
    """The profile of a bone with an old healed fracture: a smooth spindle of callus and a slight bend."""
    mm = (np.arange(shape.half.size, dtype=np.float32) + 0.5) * np.float32(0.1)
    half = float(lookup(shape.half, np.array([s], np.float32))[0])
    spindle = np.exp(-np.square((mm - s) / (half * rng.uniform(0.9, 1.6)))).astype(np.float32)
    swell = np.float32(1) + np.float32(rng.uniform(0.12, 0.3)) * spindle
    step = np.float32(rng.normal(0, 0.12) * half) / (1 + np.exp(np.clip(-(mm - s) / 4, -30, 30)))
    return replace(
        shape,
        half=shape.half * swell,
        depth=shape.depth * swell,
        centre=shape.centre + step.astype(np.float32),
        inner_half=shape.inner_half * (1 - 0.2 * spindle),
        inner_depth=shape.inner_depth * (1 - 0.2 * spindle),
        spongy=shape.spongy + np.float32(0.12) * spindle,
    )


def draw_metal(bone: Tube, shape: Profile, near: float, rng: np.random.Generator) -> Metal:
    """A plate with screws or a nail about axis position `near`."""
    here = np.array([near], np.float32)
    half, centre = float(lookup(shape.half, here)[0]), float(lookup(shape.centre, here)[0])
    length = min(bone.length * 0.6, half * float(rng.uniform(7, 11)))
    s = near + float(rng.normal(0, 0.1)) * length
    if rng.random() < 0.35:
        width = half * float(rng.uniform(0.5, 0.8))
        return Metal(bone.name, bone.length / 2, bone.length * 0.8, centre, width, width * 0.8, (), 0.0)
    count = int(rng.integers(4, 8))
    screws = tuple(float(s + length * (f - 0.5)) for f in (np.arange(count) + 0.5) / count)
    side = float(rng.choice((-1, 1)))
    return Metal(
        bone.name,
        s,
        length,
        centre + side * half * float(rng.uniform(0.2, 1.1)),
        half * 0.75,
        2.6,
        screws,
        2 * half * float(rng.uniform(0.8, 1.05)),
    )


def draw_fold(extent: float, rng: np.random.Generator) -> Fold:
    """A fold that crosses the view somewhere in its middle part; `extent` is the short side in mm."""
    return Fold(
        float(rng.uniform(-0.9, 0.9)),
        float(rng.uniform(-0.4, 0.4)) * extent,
        float(rng.normal(0, 0.0015)),
        float(rng.choice((-1, 1)) * rng.uniform(1.5, 5.0)),
        float(rng.uniform(3, 25)),
        float(rng.uniform(0.2, 0.6)),
    )


def draw_ossicle(bone: Tube, shape: Profile, site: float, rng: np.random.Generator) -> Tube:
    """A small round bone with a smooth rim beside a bone, which may be taken for a chip."""
    along = np.subtract(bone.end, bone.start) / bone.length
    across = np.array([along[1], -along[0]])
    radius = float(rng.uniform(1.2, 2.8))
    s = site + float(rng.normal(0, 14))
    here = np.array([np.clip(s, 1, bone.length - 1)], np.float32)
    half, centre = float(lookup(shape.half, here)[0]), float(lookup(shape.centre, here)[0])
    away = centre + float(rng.choice((-1, 1))) * (half + radius + float(rng.uniform(-0.6, 2.5)))
    middle = np.asarray(bone.start) + along * s + across * away
    start, end = middle - along * radius * 1.25, middle + along * radius * 1.25
    return Tube(
        "accessory ossicle",
        (float(start[0]), float(start[1])),
        (float(end[0]), float(end[1])),
        ((0, radius * 0.5, radius * 0.6), (0.5, radius, radius), (1, radius * 0.6, radius * 0.5)),
        0.9,
        0.6,
        (radius, radius),
        spongy=1.2,
    )


_LETTERS = {
    "L": (((0, -1), (0, 1)), ((0, 1), (1, 1))),
    "R": (
        ((0, -1), (0, 1)),
        ((0, -1), (0.7, -1)),
        ((0.7, -1), (1, -0.5)),
        ((1, -0.5), (0.7, 0)),
        ((0.7, 0), (0, 0)),
        ((0.4, 0), (1, 1)),
    ),
}


def marker(letter: str, view: View, x: float, y: float, size: float) -> Array:
    """Thickness in mm of a lead letter with its middle at (x, y) mm from the middle of the view, `[H, W]`."""
    px = (np.arange(view.width, dtype=np.float32) - (view.width - 1) / 2) * np.float32(
        view.pixel
    ) - np.float32(x)
    py = (np.arange(view.height, dtype=np.float32) - (view.height - 1) / 2) * np.float32(
        view.pixel
    ) - np.float32(y)
    thickness = np.zeros((view.height, view.width), np.float32)
    columns = np.flatnonzero(np.abs(px) < 2 * size)
    rows = np.flatnonzero(np.abs(py) < 2 * size)
    if not columns.size or not rows.size:
        return thickness
    area = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    gx, gy = px[None, columns], py[rows, None]
    nearest = np.full((rows.size, columns.size), 1e3, np.float32)
    for (x0, y0), (x1, y1) in _LETTERS[letter]:
        ax, ay, bx, by = (np.float32(v * size / 2) for v in (x0 - 0.5, y0, x1 - 0.5, y1))
        dx, dy = bx - ax, by - ay
        t = np.clip(((gx - ax) * dx + (gy - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(gx - ax - t * dx, gy - ay - t * dy))
    soft = max(view.pixel, 0.15)
    thickness[area] = 1.6 * np.clip(0.5 + (size * 0.11 - nearest) / soft, 0, 1)
    return thickness
