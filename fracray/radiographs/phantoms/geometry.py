"""Bones and soft tissue as hollow elliptic tubes, in millimetres, and their path lengths along the beam."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float32]
Point = tuple[float, float]
STEP_MM = 0.1


@dataclass(frozen=True)
class Tube:
    """A bone, or a stretch of soft tissue: an axis from `start` to `end` and a width along it.

    Points are (x, y) in millimetres, y pointing away from the trunk. `knots` are (fraction of the length,
    half width to the left, half width to the right). `depth` is the extent along the beam over the width,
    `spongy` the amount of spongy bone relative to the usual. `caps` are the lengths over which the two ends
    round off. `cortex` is the thickness of compact bone at mid-shaft. `paired` bones have a neighbour that
    holds them. `along` names the bones that bend a stretch of soft tissue when they break.
    `parent` is the bone that this one hangs on: it moves along when the parent breaks.
    """

    name: str
    start: Point
    end: Point
    knots: tuple[tuple[float, float, float], ...]
    depth: float = 0.9
    cortex: float = 0.0
    caps: tuple[float, float] = (3.0, 3.0)
    bow: float = 0.0
    parent: str = ""
    paired: bool = False
    spongy: float = 1.0
    along: tuple[str, ...] = ()

    @property
    def length(self) -> float:
        """Length of the axis in mm."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    @property
    def half_width(self) -> float:
        """Largest distance of the outline from the axis in mm, curvature included."""
        return max(max(left, right) for _, left, right in self.knots) + abs(self.bow)

    def scaled(self, factor: float) -> Tube:
        """The same bone of a smaller or larger person."""
        return replace(
            self,
            start=(self.start[0] * factor, self.start[1] * factor),
            end=(self.end[0] * factor, self.end[1] * factor),
            knots=tuple((f, a * factor, b * factor) for f, a, b in self.knots),
            cortex=self.cortex * factor,
            caps=(self.caps[0] * factor, self.caps[1] * factor),
            bow=self.bow * factor,
        )


@dataclass
class Profile:
    """What a tube looks like at each tenth of a millimetre of its axis: all arrays are `[n]`, in mm."""

    centre: Array
    half: Array
    depth: Array
    inner_half: Array
    inner_depth: Array
    spongy: Array


def profile(tube: Tube) -> Profile:
    """Tabulate a tube's width, depth, marrow space and share of spongy bone along its axis."""
    n = max(64, round(tube.length / STEP_MM))
    s = (np.arange(n) + 0.5) / n
    knots = np.asarray(tube.knots)
    sides = PchipInterpolator(knots[:, 0], knots[:, 1:])(s)
    mm = s * tube.length
    rounding = _round_off(mm, tube.caps[0]) * _round_off(tube.length - mm, tube.caps[1])
    centre = (sides[:, 1] - sides[:, 0]) / 2 + tube.bow * 4 * s * (1 - s)
    half = sides.mean(axis=1)
    middle = float(np.interp(0.5, s, half))
    # Compact bone thins where the shaft flares and becomes spongy.
    flare = np.clip(middle / half, 0.15, 1.0) ** 1.8 * np.clip(np.minimum(s, 1 - s) / 0.16, 0.0, 1.0)
    wall = np.maximum(tube.cortex * flare, min(0.8, tube.cortex))
    rim = min(0.9, tube.cortex)
    inside = _round_off(mm - rim, tube.caps[0]) * _round_off(tube.length - mm - rim, tube.caps[1])
    inner_half = np.maximum(half * inside - wall, 0.0)
    inner_depth = np.maximum(half * tube.depth * inside - wall, 0.0)
    spongy = tube.spongy * (0.05 + 0.17 * (1 - flare))
    columns = (centre, half * rounding, half * tube.depth * rounding, inner_half, inner_depth, spongy)
    return Profile(*(column.astype(np.float32) for column in columns))


def _round_off(mm: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """1 inside, falling to 0 at the end of a tube like a rounded corner."""
    x = np.clip(1 - mm / max(cap, 1e-6), 0.0, 1.0)
    rounded: NDArray[np.float64] = (1 - x**3) ** (1 / 2.5)
    return np.where(mm <= 0, 0.0, rounded)


@dataclass(frozen=True)
class View:
    """A grid of pixel centres and where they lie in the scene.

    `centre` is the scene point in the middle of the field, `angle` the turn of the limb in radians.
    """

    height: int
    width: int
    pixel: float
    centre: Point
    angle: float
    mirrored: bool

    def to_scene(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The matrix `[2, 2]` and offset `[2]` that take (column, row) to scene millimetres."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if self.mirrored else 1.0, 1.0])
        matrix = turn * self.pixel
        middle = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        return matrix, np.asarray(self.centre) - matrix @ middle


@dataclass(frozen=True)
class Patch:
    """The part of a view that a tube covers, with its own coordinates there.

    `s` runs along the axis from the start, `u` across it, both `[h, w]` in mm.
    """

    rows: slice
    columns: slice
    s: Array
    u: Array


def bounds(view: View, start: Point, end: Point, reach: float) -> tuple[slice, slice] | None:
    """Rows and columns of the view within `reach` mm of an axis, None when it lies outside."""
    matrix, offset = view.to_scene()
    axis = np.subtract(end, start)
    length = float(np.hypot(*axis))
    along = axis / length
    across = np.array([along[1], -along[0]])
    corners = [
        np.add(start, along * a + across * b)
        for a in (-reach * 0.4, length + reach * 0.4)
        for b in (-reach, reach)
    ]
    pixels = (np.linalg.inv(matrix) @ (np.asarray(corners) - offset).T).T
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, [view.width, view.height])
    if (high <= low).any():
        return None
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def patch(view: View, start: Point, end: Point, reach: float) -> Patch | None:
    """The patch of the view within `reach` mm of the axis, None when the tube lies outside."""
    area = bounds(view, start, end, reach)
    if area is None:
        return None
    matrix, offset = view.to_scene()
    along = np.subtract(end, start) / float(np.hypot(*np.subtract(end, start)))
    across = np.array([along[1], -along[0]])
    rows, columns = (np.arange(part.start, part.stop) for part in area)

    def coordinate(direction: NDArray[np.float64]) -> Array:
        step = direction @ matrix
        base = float(direction @ (offset - np.asarray(start)))
        grid = (step[1] * rows + base).astype(np.float32)[:, None] + (step[0] * columns).astype(np.float32)[
            None, :
        ]
        return np.asarray(grid, dtype=np.float32)

    return Patch(area[0], area[1], coordinate(along), coordinate(across))


def lookup(table: Array, s: Array) -> Array:
    """Values of a table of a tube at axis positions `s` in mm, 0 beyond its ends."""
    return np.append(table, np.float32(0.0))[_index(table.size, s)]


def _index(size: int, s: Array) -> NDArray[np.int32]:
    # One before the start counts as one past the end, where every table holds 0.
    index: NDArray[np.int32] = np.clip(s * np.float32(1 / STEP_MM), -1, size).astype(np.int32)
    index[s < 0] = size
    return index


def chords(shape: Profile, s: Array, u: Array) -> tuple[Array, Array, Array]:
    """Path lengths in mm in compact bone and marrow space, and the latter's share of spongy bone."""
    index = _index(shape.half.size, s)
    take = [
        np.append(t, np.float32(0))
        for t in (shape.centre, shape.half, shape.depth, shape.inner_half, shape.inner_depth, shape.spongy)
    ]
    v = np.square(u - take[0][index])
    outer = _chord(v, take[1][index], take[2][index])
    inner = np.minimum(_chord(v, take[3][index], take[4][index]), outer)
    return outer - inner, inner, take[5][index]


def chord(shape: Profile, s: Array, u: Array) -> Array:
    """Path length in mm through the whole tube."""
    index = _index(shape.half.size, s)
    centre, half, depth = (np.append(t, np.float32(0)) for t in (shape.centre, shape.half, shape.depth))
    return _chord(np.square(u - centre[index]), half[index], depth[index])


def _chord(squared: Array, half: Array, depth: Array) -> Array:
    half *= half
    half += np.float32(1e-6)
    inside = squared / half
    np.subtract(np.float32(1.0), inside, out=inside)
    np.maximum(inside, np.float32(0.0), out=inside)
    np.sqrt(inside, out=inside)
    depth *= 2
    inside *= depth
    return inside
