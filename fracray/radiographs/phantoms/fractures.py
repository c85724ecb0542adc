"""Fractures: where a bone breaks, along which line, and how the fragments have moved."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from fracray.radiographs.phantoms.geometry import Array, Profile, Tube, chords, lookup

KINDS = ("transverse", "oblique", "spiral", "comminuted", "greenstick", "buckle", "hairline")
_SHARES = (0.17, 0.15, 0.14, 0.12, 0.1, 0.1, 0.22)
_TABLE_MM = 60.0
_MASK_MM = 2.0


@dataclass(frozen=True)
class Break:
    """A fracture in the coordinates of its bone: `s` along the axis, `u` across it, all in mm.

    `slopes` and `offsets` give the line on the near and the far wall, `jag` its roughness tabulated over u.
    The distal fragment turns by `angle` (radians) about (`s`, `pivot`) and shifts by (`shorten`, `shift`).
    `lucency` is the share of bone missing in a hairline of `width`; `reach` the stretch of u it covers.
    `wedge` is the half length of a third fragment on the side `side` (1 or -1), which moved out by `push`.
    """

    bone: str
    kind: str
    s: float
    half: float
    slopes: tuple[float, float]
    offsets: tuple[float, float]
    jag: Array
    gap: float = 0.0
    angle: float = 0.0
    pivot: float = 0.0
    shorten: float = 0.0
    shift: float = 0.0
    lucency: float = 0.0
    width: float = 0.5
    reach: tuple[float, float] = (-99.0, 99.0)
    side: int = 1
    wedge: float = 0.0
    push: float = 0.0
    turn: float = 0.0
    bulge: float = 0.0

    def line(self, u: Array, wall: int) -> Array:
        """Axis position in mm of the fracture line on a wall (0 near, 1 far) at each u."""
        index = np.clip((u + _TABLE_MM) * 10, 0, self.jag.size - 1).astype(np.int32)
        jag = self.jag[index] if wall == 0 else self.jag[self.jag.size - 1 - index]
        return np.asarray(self.s + self.offsets[wall] + self.slopes[wall] * u + jag, dtype=np.float32)

    def to_fragment(self, s: Array, u: Array) -> tuple[Array, Array]:
        """Where a point of the picture lay on the distal fragment before it moved."""
        return _undo(s, u, self.s, self.pivot, self.angle, self.shorten, self.shift)

    def to_wedge(self, s: Array, u: Array) -> tuple[Array, Array]:
        """The same for the third fragment of a comminuted fracture."""
        return _undo(
            s, u, self.s, self.side * self.half, self.turn, self.shorten / 2, self.push + self.shift / 2
        )


def _undo(
    s: Array, u: Array, s0: float, u0: float, angle: float, ds: float, du: float
) -> tuple[Array, Array]:
    c, n = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    a, b = s - np.float32(s0 + ds), u - np.float32(u0 + du)
    return c * a + n * b + np.float32(s0), c * b - n * a + np.float32(u0)


def draw_break(bone: Tube, shape: Profile, s: float, rng: np.random.Generator) -> Break:
    """Draw a fracture of a bone at axis position `s` in mm."""
    here = np.array([s], dtype=np.float32)
    half = float(lookup(shape.half, here)[0])
    centre = float(lookup(shape.centre, here)[0])
    kind = KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
    side = int(rng.choice((-1, 1)))
    rough = float(rng.uniform(0.15, 0.5)) * min(1.0, half / 6)
    noise = rng.standard_normal(round(2 * _TABLE_MM * 10))
    jag = sum(gaussian_filter1d(noise, sigma) * sigma**0.5 for sigma in (3.0, 9.0)) * rough
    tilt = float(rng.normal(0.0, 0.12)) * half
    base = Break(
        bone.name,
        kind,
        s,
        half,
        (0.0, 0.0),
        (tilt / 2, -tilt / 2),
        np.asarray(jag, np.float32),
        side=side,
        pivot=centre,
    )
    slope = {
        "transverse": rng.uniform(0, 0.25),
        "oblique": rng.uniform(0.6, 1.6),
        "spiral": rng.uniform(1.2, 2.2),
        "comminuted": rng.uniform(0, 0.9),
        "greenstick": rng.uniform(0, 0.3),
        "buckle": rng.uniform(0, 0.15),
        "hairline": rng.choice((rng.uniform(0, 0.3), rng.uniform(0.5, 2.0))),
    }[kind]
    sign = float(rng.choice((-1.0, 1.0)))
    slopes = (sign * slope, sign * slope * (-0.6 if kind == "spiral" else 1.0))
    # The line runs through the middle of the bone, wherever that lies.
    base = replace(
        base, slopes=slopes, offsets=tuple(o - m * centre for o, m in zip(base.offsets, slopes, strict=True))
    )
    return _MOVES[kind](base, bone, centre, rng)


def _displaced(base: Break, bone: Tube, centre: float, rng: np.random.Generator) -> Break:
    severity = float(rng.beta(1.2, 2.4))
    # Near a joint the ligaments hold a short fragment.
    room = min(base.half * 1.3, 13.0, max(0.2 * (bone.length - base.s), 2.5) if bone.paired else 13.0)
    shift = base.side * severity * room
    shorten = -float(rng.uniform(0.0, 0.25)) * severity * room
    angle = -base.side * float(rng.normal(0.5, 0.5)) * severity * np.deg2rad(18.0)
    if bone.paired:
        # The neighbour holds the far joint in place: a shifted fragment turns about it.
        angle = -float(np.arctan2(shift, max(bone.length - base.s, 20.0)))
    gap = float(rng.uniform(0.35, 1.1)) * (1 + severity)
    moved = replace(base, shift=shift, shorten=shorten, angle=float(angle), gap=gap)
    if base.kind != "comminuted":
        return moved
    return replace(
        moved,
        wedge=min(base.half, 12.0) * float(rng.uniform(0.8, 1.9)),
        push=base.side * float(rng.uniform(0.4, 3.0)),
        turn=float(rng.normal(0.0, 0.09)),
        gap=gap * 1.1,
    )


def _greenstick(base: Break, bone: Tube, centre: float, rng: np.random.Generator) -> Break:
    angle = float(np.deg2rad(rng.uniform(2.0, 8.0)))
    side = base.side
    return replace(
        base,
        angle=-side * angle,
        pivot=centre - side * base.half * float(rng.uniform(0.3, 0.8)),
        gap=float(rng.uniform(0.0, 0.2)),
    )


def _buckle(base: Break, bone: Tube, centre: float, rng: np.random.Generator) -> Break:
    return replace(
        base,
        bulge=float(rng.uniform(0.07, 0.2)) * base.half + float(rng.uniform(0.2, 0.5)),
        width=float(rng.uniform(1.4, 3.0)),
        angle=base.side * float(np.deg2rad(rng.uniform(0.0, 4.0))),
    )


def _hairline(base: Break, bone: Tube, centre: float, rng: np.random.Generator) -> Break:
    covered = float(rng.uniform(0.7, 2.3)) * base.half
    edge = centre + base.side * base.half * 1.2
    reach = (edge - covered, edge) if base.side > 0 else (edge, edge + covered)
    return replace(
        base,
        lucency=float(rng.uniform(0.32, 0.95)),
        width=float(rng.uniform(0.3, 0.6)) * (0.85 + base.half / 40),
        reach=reach,
    )


_MOVES = {
    "transverse": _displaced,
    "oblique": _displaced,
    "spiral": _displaced,
    "comminuted": _displaced,
    "greenstick": _greenstick,
    "buckle": _buckle,
    "hairline": _hairline,
}


def displacement_mm(fracture: Break) -> float:
    """How far the fragments have moved against each other at the break, in mm."""
    return float(np.hypot(fracture.shift, fracture.shorten))


def bent(shape: Profile, fracture: Break) -> Profile:
    """The profile of a bone with a buckle: the wall bulges out on one side, is pressed together and bends."""
    mm = (np.arange(shape.half.size, dtype=np.float32) + 0.5) * np.float32(0.1)
    ring = np.exp(-np.square((mm - fracture.s) / fracture.width)).astype(np.float32)
    out = np.float32(fracture.bulge) * ring
    bend = np.float32(np.tan(fracture.angle)) * _soft_ramp(mm - fracture.s, 4.0)
    return replace(
        shape,
        centre=shape.centre + out * np.float32(fracture.side * 0.45) + bend,
        half=shape.half + out * 0.55,
        inner_half=np.maximum(shape.inner_half - out * 0.1, 0),
        spongy=shape.spongy * (1 + ring * np.float32(0.35)),
    )


def _soft_ramp(x: Array, width: float) -> Array:
    return np.asarray(0.5 * (x + np.sqrt(np.square(x) + width**2)), dtype=np.float32)


def broken_chords(shape: Profile, fracture: Break, s: Array, u: Array, pixel: float) -> tuple[Array, Array]:
    """Compact and spongy bone in mm, of all fragments; marrow counts with its share of spongy bone."""
    if fracture.kind == "buckle":
        compact, marrow, share = chords(bent(shape, fracture), s, u)
        return compact, marrow * share
    if fracture.kind == "hairline":
        compact, marrow, share = chords(shape, s, u)
        marrow *= share
        span = fracture.half * (1.3 * max(abs(m) for m in fracture.slopes) + 0.5) + 4.0
        near = np.abs(s - np.float32(fracture.s)) < span
        keep = _hairline_share(fracture, s[near], u[near])
        compact[near] *= keep
        marrow[near] *= keep
        return compact, marrow
    total = _fragment(shape, fracture, s, u, -1, pixel)
    moved = fracture.to_fragment(s, u)
    total = _add(total, _fragment(shape, fracture, *moved, 1, pixel))
    if fracture.wedge:
        total = _add(total, _fragment(shape, fracture, *fracture.to_wedge(s, u), 0, pixel))
    return total


def _add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    return a[0] + b[0], a[1] + b[1]


def _fragment(
    shape: Profile, fracture: Break, s: Array, u: Array, part: int, pixel: float
) -> tuple[Array, Array]:
    span = fracture.half * (1.2 * max(abs(m) for m in fracture.slopes) + 0.5) + 1.3 * fracture.wedge + 4.0
    low, high = (-1e9 if part < 0 else fracture.s - span), (1e9 if part > 0 else fracture.s + span)
    there = (s > low) & (s < high)
    s, u = s[there], u[there]
    compact, marrow, share = chords(shape, s, u)
    marrow *= share
    cut = np.abs(s - np.float32(fracture.s)) < span
    s, u = s[cut], u[cut]
    kept = np.float32(0.5) * (_kept(fracture, s, u, 0, part, pixel) + _kept(fracture, s, u, 1, part, pixel))
    compact[cut] *= kept
    marrow[cut] *= kept
    whole = np.zeros((2, *there.shape), np.float32)
    whole[0][there], whole[1][there] = compact, marrow
    return whole[0], whole[1]


def _kept(fracture: Break, s: Array, u: Array, wall: int, part: int, pixel: float) -> Array:
    """How much of a wall (0 to 1) belongs to the proximal (-1), distal (1) or third fragment (0)."""
    line = fracture.line(u, wall)
    spread: Array | float = 0.0
    if fracture.wedge:
        spread = (
            fracture.wedge * np.maximum(fracture.side * (u - fracture.pivot) / fracture.half + 0.25, 0) / 1.25
        )
    edge = max(pixel, 0.15)
    if part == 0:
        room = np.minimum(s - line + spread, line + spread - s) - fracture.gap / 2
    elif part < 0:
        room = line - spread - s - fracture.gap / 2
    else:
        room = s - line - spread - fracture.gap / 2
    return np.asarray(np.clip(0.5 + room / edge, 0.0, 1.0), dtype=np.float32)


def _hairline_share(fracture: Break, s: Array, u: Array) -> Array:
    low, high = fracture.reach
    inside = np.clip((u - low) / 1.5, 0, 1) * np.clip((high - u) / 1.5, 0, 1)
    lost = np.zeros_like(s)
    for wall, share in ((0, 0.62), (1, 0.38)):
        # The distance across the line, not along the axis, is what makes its width.
        across = (s - fracture.line(u, wall)) / np.hypot(1.0, fracture.slopes[wall])
        lost += np.float32(share) * np.exp(-np.square(across / fracture.width)).astype(np.float32)
    return np.asarray(1 - fracture.lucency * inside * lost, dtype=np.float32)


def fracture_mask(shape: Profile, fracture: Break, s: Array, u: Array) -> NDArrayBool:
    """True within two millimetres of the break: its line, both fragments' edges, the third fragment."""
    mask = _near(shape, fracture, s, u)
    if fracture.kind not in ("buckle", "hairline"):
        mask |= _near(shape, fracture, *fracture.to_fragment(s, u))
        if fracture.wedge:
            mask |= _near(shape, fracture, *fracture.to_wedge(s, u))
    return mask


def _near(shape: Profile, fracture: Break, s: Array, u: Array) -> NDArrayBool:
    half = lookup(shape.half, s) + np.float32(1.0 + fracture.bulge)
    inside = np.abs(u - lookup(shape.centre, s)) < half
    inside &= (u > fracture.reach[0] - 1) & (u < fracture.reach[1] + 1)
    near = np.zeros(s.shape, dtype=bool)
    distance = _MASK_MM + (fracture.width if fracture.kind == "buckle" else 0.0)
    for wall in (0, 1):
        away = np.abs(s - fracture.line(u, wall)) / np.float32(np.hypot(1.0, fracture.slopes[wall]))
        if fracture.wedge:
            spread = (
                fracture.wedge
                * np.maximum(fracture.side * (u - fracture.pivot) / fracture.half + 0.25, 0)
                / 1.25
            )
            away = np.maximum(away - spread, 0)
        near |= away < distance
    return np.asarray(near & inside, dtype=np.bool_)


NDArrayBool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def carried(tube: Tube, bone: Tube, fracture: Break) -> Tube:
    """A bone beyond the break, moved along with the distal fragment."""
    along = np.subtract(bone.end, bone.start) / bone.length
    across = np.array([along[1], -along[0]])

    def move(point: tuple[float, float]) -> tuple[float, float]:
        offset = np.subtract(point, bone.start)
        a, b = float(offset @ along) - fracture.s, float(offset @ across) - fracture.pivot
        c, n = np.cos(fracture.angle), np.sin(fracture.angle)
        a, b = c * a - n * b + fracture.shorten, n * a + c * b + fracture.shift
        moved = np.asarray(bone.start) + along * (a + fracture.s) + across * (b + fracture.pivot)
        return float(moved[0]), float(moved[1])

    return replace(tube, start=move(tube.start), end=move(tube.end))
