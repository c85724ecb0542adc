"""Which radiographs are copies of one another: flipped, turned, cropped, recompressed, brighter or darker.

Two steps, because radiographs look alike. A perceptual hash of every picture and of its turned copies names
candidates; a candidate counts only if one picture, laid over the other by the best affine map, agrees with it
in its details. The thresholds were chosen on augmented radiographs with known originals.
"""

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 96
"""Side of the small pictures that are compared, pixels."""

_ANGLES = (0, -10, -5, 5, 10)
"""Turns in degrees on top of the eight flips and quarter turns; the alignment finds what lies between."""

_WORTH_ALIGNING = 0.25
"""Least correlation before the alignment; copies have more."""

_SAME_DETAILS = 0.89
"""Least correlation after the alignment for two pictures to count as copies."""

_HASHED_SIDE = 48
"""Side of the pictures that are hashed, pixels; the hash itself keeps 8 x 8 low frequencies."""

_ROWS = 512
"""Pictures compared with all others at a time; bounds the memory."""

_STEPS = 8
"""Most steps of the alignment; copies needed at most 5."""

Grey = NDArray[np.float32]


def thumbnail(pixels: Grey) -> Grey:
    """Return a radiograph `[h, w]` squeezed to `[SIDE, SIDE]`, which is all that the comparison needs."""
    small = Image.fromarray(np.asarray(pixels, dtype=np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def near_duplicate_groups(pictures: Sequence[Grey], distance: int) -> NDArray[np.int64]:
    """Return for each of n pictures, float32 `[h, w]` in [0, 1], the number of its group, int64 `[n]`.

    Pictures of one group are copies of one another, or copies of copies. `distance` is the number of bits of
    64 by which perceptual hashes of candidates may differ: higher finds more and takes longer.
    """
    small = [Image.fromarray(thumbnail(picture)) for picture in pictures]
    details = [_details(picture) for picture in small]
    pairs = [
        (first, second)
        for first, second, turn in _candidates(small, distance)
        if _are_copies(details[second], _details(_turned(small[first], turn)))
    ]
    rows, columns = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(small), len(small)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _candidates(pictures: Sequence[Image.Image], distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield pairs whose hashes are close: the picture to turn, the other one, and the number of the turn."""
    turns = 8 * len(_ANGLES)
    small = [_hashable(picture) for picture in pictures]
    hashes = np.array([[_hash(_turned(picture, turn)) for turn in range(turns)] for picture in small])
    hashes = hashes.reshape(len(pictures), turns)
    found = [np.empty((0, 4), dtype=np.intp)]
    for turn in range(turns):
        for start in range(0, len(pictures), _ROWS):
            bits = np.bitwise_count(hashes[start : start + _ROWS, turn, None] ^ hashes[None, :, 0])
            turned, other = np.nonzero(bits <= distance)
            close = bits[turned, other]
            found.append(np.stack([turned + start, other, np.full_like(turned, turn), close], axis=1))
    rows = np.concatenate(found)
    rows = rows[rows[:, 0] != rows[:, 1]]
    pairs = np.sort(rows[:, :2], axis=1)
    order = np.lexsort((rows[:, 2], rows[:, 3], pairs[:, 1], pairs[:, 0]))
    closest = order[np.unique(pairs[order], axis=0, return_index=True)[1]]
    yield from ((int(row[0]), int(row[1]), int(row[2])) for row in rows[closest])


def _hashable(picture: Image.Image) -> Image.Image:
    grey = np.clip(np.asarray(picture) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.BOX)


def _hash(picture: Image.Image) -> NDArray[np.uint64]:
    return np.packbits(imagehash.phash(picture).hash).view(np.uint64)


def _turned(picture: Image.Image, turn: int) -> Image.Image:
    sector, angle = divmod(turn, len(_ANGLES))
    if sector >= 4:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.rotate(90 * (sector % 4) + _ANGLES[angle], resample=Image.Resampling.BILINEAR)


def _details(image: Image.Image) -> Grey:
    """Return edges and bones without brightness and contrast: band-pass, divided by the local deviation."""
    picture = np.asarray(image)
    coarse = ndimage.gaussian_filter(picture, 4)
    deviation = np.sqrt(ndimage.gaussian_filter((picture - coarse) ** 2, 6) + 1e-4)
    return np.asarray((ndimage.gaussian_filter(picture, 1) - coarse) / deviation, dtype=np.float32)


def _are_copies(fixed: Grey, moving: Grey) -> bool:
    """Return whether `moving` agrees with `fixed` after the best affine map.

    Inverse compositional alignment (Baker and Matthews, International Journal of Computer Vision 56, 2004).
    """
    centre = (SIDE - 1) / 2
    y, x = (np.mgrid[0:SIDE, 0:SIDE] - centre) / centre
    grid = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    gy, gx = (gradient.ravel() * centre for gradient in np.gradient(fixed.astype(np.float64)))
    steepest = np.concatenate([gx * grid, gy * grid])
    hessian = steepest @ steepest.T
    solve = np.linalg.inv(hessian + np.eye(6) * (1e-3 * np.trace(hessian) / 6 + 1e-9))
    warp = np.eye(3)
    best = -1.0
    for _ in range(_STEPS):
        column, row = (warp @ grid)[:2]
        inside = (np.abs(column) <= 1) & (np.abs(row) <= 1)
        moved = ndimage.map_coordinates(moving, [row * centre + centre, column * centre + centre], order=1)
        correlation = _correlation(fixed.ravel()[inside], moved[inside])
        best = max(best, correlation)
        if correlation < _WORTH_ALIGNING or best >= _SAME_DETAILS:
            break
        change = solve @ (steepest @ ((moved - fixed.ravel()) * inside))
        update = np.eye(3)
        update[:2] += change.reshape(2, 3)
        warp = warp @ np.linalg.inv(update)
        if np.abs(warp - np.eye(3)).max() > 0.4 or np.abs(change).max() < 1e-3:
            break
    return best >= _SAME_DETAILS


def _correlation(first: Grey, second: Grey) -> float:
    """Return Pearson's correlation; 0 for pictures without details or that overlap in less than half."""
    if first.size < SIDE * SIDE / 2:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 0.0
