"""Bones and soft tissue of an average adult's limbs, seen from the front, in millimetres.

The measures are rounded to what common anatomical tables give; each phantom scales and varies them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fracray.radiographs.phantoms.geometry import Tube

Knots = tuple[tuple[float, float, float], ...]
Limb = tuple[list[Tube], list[Tube]]
FINGERS = ("thumb", "index finger", "middle finger", "ring finger", "little finger")
ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _blob(
    name: str, x: float, y: float, half: float, tall: float, parent: str = "", depth: float = 0.9
) -> Tube:
    knots: Knots = (
        (0.0, half * 0.72, half * 0.8),
        (0.3, half, half * 0.98),
        (0.7, half * 0.95, half),
        (1.0, half * 0.78, half * 0.7),
    )
    cap = tall * 0.42
    return Tube(
        name, (x, y - tall / 2), (x, y + tall / 2), knots, depth, 0.9, (cap, cap), parent=parent, spongy=1.3
    )


def _long_small(
    name: str,
    start: tuple[float, float],
    degrees: float,
    length: float,
    shaft: float,
    base: float,
    head: float,
    parent: str,
) -> Tube:
    angle = np.deg2rad(degrees)
    end = (start[0] + length * float(np.sin(angle)), start[1] + length * float(np.cos(angle)))
    knots: Knots = (
        (0.0, base * 0.95, base),
        (0.08, base, base),
        (0.25, shaft * 1.12, shaft * 1.1),
        (0.5, shaft, shaft),
        (0.75, shaft * 1.1, shaft * 1.12),
        (0.92, head, head),
        (1.0, head * 0.9, head * 0.9),
    )
    return Tube(name, start, end, knots, 0.95, shaft * 0.42, (1.6, head * 0.8), parent=parent)


def _ray(
    names: list[str],
    start: tuple[float, float],
    degrees: float,
    lengths: tuple[float, ...],
    width: float,
    root: str,
) -> list[Tube]:
    bones: list[Tube] = []
    parent = root
    for i, (name, length) in enumerate(zip(names, lengths, strict=True)):
        shaft = width * (1.0, 1.05, 0.9, 0.7)[i]
        base = width * (1.75, 1.75, 1.5, 1.5)[i]
        head = width * (1.65, 1.4, 1.25, 1.0)[i]
        bone = _long_small(name, start, degrees, length, shaft, base, head, parent)
        bones.append(bone)
        angle = np.deg2rad(degrees)
        start = (bone.end[0] + 2.0 * float(np.sin(angle)), bone.end[1] + 2.0 * float(np.cos(angle)))
        parent = name
    return bones


def _finger_flesh(bones: list[Tube], half: float) -> Tube:
    first, last = bones[1], bones[-1]
    stretch = (last.end[0] - last.start[0], last.end[1] - last.start[1])
    end = (last.end[0] + 0.4 * stretch[0], last.end[1] + 0.4 * stretch[1])
    back = bones[0]
    start = (first.start[0] * 0.7 + back.start[0] * 0.3, first.start[1] * 0.7 + back.start[1] * 0.3)
    knots: Knots = (
        (0.0, half * 1.15, half * 1.15),
        (0.4, half * 1.05, half * 1.05),
        (0.75, half * 0.92, half * 0.92),
        (1.0, half * 0.85, half * 0.85),
    )
    names = tuple(bone.name for bone in bones[1:])
    return Tube("flesh", start, end, knots, 0.85, caps=(14, 9), parent=bones[0].name, along=names)


def arm() -> Limb:
    """From the shoulder (y -310 mm) over the elbow (0) to the finger tips."""
    humerus: Knots = (
        (0, 20, 19),
        (0.06, 25, 23),
        (0.13, 19, 18),
        (0.24, 13, 13),
        (0.5, 11, 11),
        (0.75, 11, 11),
        (0.88, 16, 15),
        (0.955, 30, 26),
        (1, 25, 22),
    )
    radius: Knots = (
        (0, 10, 10),
        (0.05, 10.5, 10.5),
        (0.1, 7, 7),
        (0.17, 8.6, 7.2),
        (0.3, 7, 7),
        (0.6, 7.4, 7.4),
        (0.8, 8.4, 8.6),
        (0.92, 13, 13),
        (0.98, 16, 16),
        (1, 15, 15),
    )
    ulna: Knots = (
        (0, 11, 11),
        (0.08, 13, 11.5),
        (0.14, 11.5, 10),
        (0.25, 8.2, 8.2),
        (0.5, 6.8, 6.8),
        (0.8, 5.6, 5.6),
        (0.93, 6.2, 6.2),
        (1, 7.6, 7.6),
    )
    bones = [
        Tube("humerus", (6, -310), (0, 2), humerus, 0.85, 4.2, (18, 6), 2.0),
        Tube("radius", (14, 6), (11, 240), radius, 0.8, 2.7, (3, 5), 6.0, parent="humerus", paired=True),
        Tube("ulna", (-9, -20), (-14, 232), ulna, 0.9, 2.7, (8, 4), -3.0, parent="humerus", paired=True),
    ]
    carpals = (
        ("scaphoid", 15, 252, 7, 18),
        ("lunate", 3, 248, 7.5, 14),
        ("triquetrum", -9, 251, 6.5, 14),
        ("pisiform", -14, 253, 4.5, 9),
        ("trapezium", 21, 266, 6.5, 14),
        ("trapezoid", 12, 266, 5, 12),
        ("capitate", 4, 264, 6.5, 22),
        ("hamate", -8, 265, 7.5, 19),
    )
    bones += [_blob(name, x, y, half, tall, "radius") for name, x, y, half, tall in carpals]
    rays = (
        (26, 272, 34, 4.6, (44, 31, 22)),
        (14, 275, 7, 4.1, (65, 40, 24, 17)),
        (4.5, 277, 1, 4.2, (63, 44, 28, 18)),
        (-5, 276, -5, 3.7, (56, 41, 27, 18)),
        (-13, 274, -12, 3.6, (52, 32, 19, 16)),
    )
    flesh = [
        Tube(
            "flesh",
            (5, -360),
            (0, 40),
            ((0, 62, 60), (0.5, 50, 48), (0.85, 44, 42), (1, 40, 40)),
            0.9,
            caps=(60, 60),
            along=("humerus",),
        ),
        Tube(
            "flesh",
            (0, -45),
            (0, 275),
            ((0, 44, 44), (0.3, 45, 46), (0.6, 33, 34), (0.88, 27, 28), (1, 30, 31)),
            0.75,
            caps=(60, 40),
            parent="humerus",
        ),
        Tube(
            "flesh",
            (3, 225),
            (1, 348),
            ((0, 28, 30), (0.4, 36, 42), (0.8, 41, 43), (1, 40, 38)),
            0.34,
            caps=(40, 16),
            parent="humerus",
        ),
    ]
    for i, (x, y, degrees, width, lengths) in enumerate(rays):
        names = [f"{ORDINALS[i]} metacarpal", f"proximal phalanx of the {FINGERS[i]}"]
        names += [] if i == 0 else [f"middle phalanx of the {FINGERS[i]}"]
        names += [f"distal phalanx of the {FINGERS[i]}"]
        ray = _ray(names, (x, y), degrees, lengths, width, "radius")
        bones += ray
        flesh.append(_finger_flesh(ray, width * 2.35))
        if i == 0:
            flesh.append(
                replace(
                    flesh[-1],
                    start=ray[0].start,
                    end=ray[0].end,
                    parent="radius",
                    depth=0.9,
                    knots=((0, 13, 13), (1, 13, 13)),
                    along=(ray[0].name,),
                )
            )
    return bones, flesh


def leg() -> Limb:
    """From the hip (y -460 mm) over the knee (0) to the heel."""
    femur: Knots = (
        (0, 22, 24),
        (0.05, 26, 32),
        (0.12, 22, 25),
        (0.2, 17.5, 18),
        (0.5, 14.5, 14.5),
        (0.75, 16.5, 16.5),
        (0.88, 26, 26),
        (0.95, 41, 40),
        (1, 38, 37),
    )
    tibia: Knots = (
        (0, 36, 36),
        (0.03, 38, 38),
        (0.08, 31, 30),
        (0.18, 19, 19.5),
        (0.35, 14.5, 15),
        (0.6, 12.5, 12.5),
        (0.8, 13.5, 13.5),
        (0.92, 20, 19),
        (0.975, 26, 22),
        (1, 27, 21),
    )
    fibula: Knots = (
        (0, 9, 9),
        (0.03, 12, 11),
        (0.09, 7, 7),
        (0.5, 6.6, 6.6),
        (0.85, 7.2, 7.2),
        (0.93, 10.5, 9),
        (0.97, 10, 8.5),
        (1, 7, 6),
    )
    bones = [
        Tube("femur", (18, -430), (0, -4), femur, 0.88, 6.2, (16, 12), 5.0),
        Tube(
            "femoral neck",
            (10, -408),
            (-42, -462),
            ((0, 17, 17), (0.45, 16, 16), (0.7, 23, 23), (1, 22, 22)),
            0.95,
            1.8,
            (14, 16),
        ),
        _blob("patella", 1, -22, 21, 42, "femur", 0.45),
        Tube("tibia", (0, 5), (3, 372), tibia, 0.9, 4.8, (5, 5), 1.0, parent="femur", paired=True),
        Tube("fibula", (37, 24), (27, 397), fibula, 0.95, 2.6, (7, 9), -2.0, parent="femur", paired=True),
        Tube(
            "medial malleolus",
            (-17, 352),
            (-21, 388),
            ((0, 5, 5), (0.4, 8, 7.5), (0.8, 7, 6.5), (1, 6, 5)),
            1.3,
            0.9,
            (10, 9),
            parent="tibia",
        ),
        Tube(
            "talus",
            (2, 377),
            (1, 408),
            ((0, 17, 17), (0.15, 19, 18.5), (0.5, 20, 21), (1, 15, 18)),
            1.2,
            1.0,
            (4, 16),
            parent="tibia",
        ),
        Tube(
            "calcaneus",
            (3, 396),
            (6, 448),
            ((0, 14, 14), (0.4, 15, 16), (0.75, 19, 20), (1, 18, 19)),
            1.7,
            1.0,
            (14, 20),
            parent="tibia",
        ),
    ]
    flesh = [
        Tube(
            "flesh",
            (12, -520),
            (0, 60),
            ((0, 88, 88), (0.5, 74, 74), (0.8, 58, 58), (1, 52, 52)),
            0.95,
            caps=(80, 70),
            along=("femur",),
        ),
        Tube(
            "flesh",
            (3, -60),
            (6, 425),
            ((0, 54, 54), (0.35, 56, 60), (0.6, 44, 47), (0.85, 35, 37), (1, 38, 38)),
            0.9,
            caps=(70, 40),
            parent="femur",
        ),
        Tube(
            "flesh",
            (4, 350),
            (4, 458),
            ((0, 34, 34), (0.5, 41, 40), (1, 42, 40)),
            0.95,
            caps=(30, 26),
            parent="femur",
        ),
    ]
    return bones, flesh


def foot() -> Limb:
    """The foot seen from above, from the ankle (y 0) to the toes."""
    bones = [
        Tube(
            "tibia", (-4, -240), (-2, 4), ((0, 12, 12), (0.75, 14, 14), (0.93, 22, 20), (1, 25, 22)), 1.0, 4.0
        ),
        Tube(
            "fibula",
            (22, -240),
            (24, 14),
            ((0, 6, 6), (0.8, 6.5, 6.5), (0.93, 9.5, 8.5), (1, 7, 6)),
            0.95,
            2.2,
            (3, 8),
        ),
        _blob("calcaneus", 8, 14, 15, 56, depth=0.8),
        _blob("talus", -5, 17, 16, 40, depth=0.6),
        _blob("navicular", -10, 45, 17, 14),
        _blob("cuboid", 17, 54, 12, 28),
        _blob("medial cuneiform", -21, 63, 9, 23),
        _blob("intermediate cuneiform", -9, 62, 6.5, 17),
        _blob("lateral cuneiform", 2, 62, 7, 21),
    ]
    rays = (
        (-23, 77, -9, 7.0, (60, 32, 23)),
        (-10, 73, -3, 3.9, (73, 27, 13, 10)),
        (2, 75, 2, 3.7, (69, 26, 12, 9)),
        (12, 75, 7, 3.7, (67, 24, 10, 9)),
        (23, 71, 12, 3.8, (65, 22, 9, 9)),
    )
    toes = ("great toe", "second toe", "third toe", "fourth toe", "fifth toe")
    flesh = [
        Tube("flesh", (5, -260), (2, 50), ((0, 38, 38), (0.7, 36, 37), (1, 36, 38)), 0.9, caps=(20, 50)),
        Tube(
            "flesh",
            (3, -25),
            (1, 165),
            ((0, 36, 36), (0.35, 38, 40), (0.75, 46, 47), (1, 44, 40)),
            0.5,
            caps=(30, 22),
        ),
    ]
    for i, (x, y, degrees, width, lengths) in enumerate(rays):
        middle = [] if i == 0 else [f"middle phalanx of the {toes[i]}"]
        names = [
            f"{ORDINALS[i]} metatarsal",
            f"proximal phalanx of the {toes[i]}",
            *middle,
            f"distal phalanx of the {toes[i]}",
        ]
        ray = _ray(names, (x, y), degrees, lengths, width, "cuboid")
        bones += ray
        flesh.append(_finger_flesh(ray, width * 2.2 if i == 0 else 8.5))
    return bones, flesh
