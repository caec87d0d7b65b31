"""Furniture as boxes: each piece stands with its back to a wall at y = 0, x is along the wall, z up, metres.

Sizes are those of real furniture, so that what a thing looks like tells how far away it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from standin.materials import Look, Rng, books, cloth, colour, facing, look, plain, shades, wood
from standin.textures import PATTERNS


class Box(NamedTuple):
    """An upright box, and the look of the face towards the room where it has another."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    look: Look
    front: Look | None = None


def legs(w: float, d: float, h: float, thick: float, top: Look, y: float = 0.0) -> list[Box]:
    """Four of them, below a top of w x d."""
    return [
        Box((x, y + back, 0), (x + thick, y + back + thick, h), top)
        for x in (-w / 2, w / 2 - thick)
        for back in (0, d - thick)
    ]


def clutter(rng: Rng, w: float, d: float, height: float, most: int = 4) -> list[Box]:
    """Small things on a surface of w x d."""
    things = []
    for _ in range(rng.integers(0, most + 1)):
        a, b, c = rng.uniform(0.06, 0.3), rng.uniform(0.05, 0.2), rng.uniform(0.04, 0.3)
        x, y = rng.uniform(-w / 2, max(w / 2 - a, -w / 2 + 0.01)), rng.uniform(0.02, max(d - b, 0.03))
        skin = plain(rng) if rng.random() < 0.6 else look("picture", colour(rng), 0.7, None)
        things.append(Box((x, y, height), (x + a, y + b, height + c), skin))
    return things


def table(rng: Rng, h: float | None = None) -> list[Box]:
    """A dining table, or with `h` a lower one."""
    w, d, h = rng.uniform(1.0, 1.7), rng.uniform(0.65, 0.95), h or rng.uniform(0.72, 0.76)
    top = wood(rng)
    return [
        Box((-w / 2, 0, h - 0.04), (w / 2, d, h), top),
        *legs(w, d, h - 0.04, 0.06, top),
        *clutter(rng, w, d, h),
    ]


def coffee_table(rng: Rng) -> list[Box]:
    """A low table, for the middle of a room."""
    return table(rng, rng.uniform(0.38, 0.5))


def chair(rng: Rng) -> list[Box]:
    """Its back to the wall."""
    frame, seat = wood(rng), cloth(rng) if rng.random() < 0.5 else wood(rng)
    w, d, h, top = 0.44, 0.44, 0.45, rng.uniform(0.82, 1.0)
    back = Box((-w / 2, 0, h + 0.12), (w / 2, 0.04, top), seat)
    posts = [Box((x, 0, h), (x + 0.04, 0.04, top), frame) for x in (-w / 2, w / 2 - 0.04)]
    return [Box((-w / 2, 0, h - 0.05), (w / 2, d, h), seat), back, *posts, *legs(w, d, h - 0.05, 0.04, frame)]


def sofa(rng: Rng, w: float | None = None) -> list[Box]:
    """With cushions; narrow, an armchair."""
    w, d, skin, pillow = w or rng.uniform(1.5, 2.2), rng.uniform(0.8, 0.95), cloth(rng), cloth(rng)
    seat, back, arm = rng.uniform(0.4, 0.46), rng.uniform(0.8, 0.95), rng.uniform(0.56, 0.66)
    boxes = [
        Box((-w / 2, 0, 0.06), (w / 2, d, seat - 0.14), skin),
        Box((-w / 2, 0, 0), (w / 2, 0.25, back), skin),
    ]
    boxes += [Box((x, 0, 0), (x + 0.18, d, arm), skin) for x in (-w / 2, w / 2 - 0.18)]
    count, inner = max(1, round((w - 0.4) / 0.65)), w - 0.36
    for n in range(count):
        x = -inner / 2 + n * inner / count
        boxes.append(Box((x + 0.01, 0.25, seat - 0.14), (x + inner / count - 0.01, d + 0.02, seat), skin))
        if rng.random() < 0.5:
            boxes.append(Box((x + 0.08, 0.25, seat), (x + 0.46, 0.4, seat + 0.36), pillow))
    return boxes


def armchair(rng: Rng) -> list[Box]:
    """A sofa for one."""
    return sofa(rng, rng.uniform(0.8, 1.0))


def bed(rng: Rng) -> list[Box]:
    """Its head at the wall."""
    w, d, frame, sheet, cover = (
        rng.choice((0.95, 1.45, 1.7)),
        2.05,
        wood(rng),
        plain(rng, 0.7, 0.85),
        cloth(rng),
    )
    boxes = [
        Box((-w / 2, 0, 0.1), (w / 2, d, 0.32), frame),
        Box((-w / 2, 0, 0), (w / 2, 0.06, rng.uniform(0.8, 1.2)), frame),
        Box((-w / 2 + 0.02, 0.06, 0.32), (w / 2 - 0.02, d - 0.02, 0.54), sheet),
        Box((-w / 2 - 0.02, 0.65, 0.2), (w / 2 + 0.02, d, 0.58), cover),
    ]
    for x in (0,) if w < 1.2 else (-w / 4, w / 4):
        boxes.append(Box((x - 0.3, 0.1, 0.54), (x + 0.3, 0.5, 0.66), sheet))
    return boxes


def bookcase(rng: Rng) -> list[Box]:
    """A case full of books, things on top."""
    w, d, h = rng.uniform(0.7, 1.3), rng.uniform(0.26, 0.36), rng.uniform(1.2, 2.1)
    return [Box((-w / 2, 0, 0), (w / 2, d, h), wood(rng), books()), *clutter(rng, w, d, h, 3)]


def wardrobe(rng: Rng) -> list[Box]:
    """A tall cupboard with doors."""
    w, skin = rng.uniform(0.9, 1.6), wood(rng) if rng.random() < 0.7 else plain(rng)
    return [Box((-w / 2, 0, 0), (w / 2, 0.6, rng.uniform(1.8, 2.2)), skin, facing("doors", skin))]


def chest(rng: Rng) -> list[Box]:
    """A chest of drawers with things on it."""
    w, d, h, skin = rng.uniform(0.6, 1.2), rng.uniform(0.4, 0.5), rng.uniform(0.6, 1.1), wood(rng)
    return [Box((-w / 2, 0, 0), (w / 2, d, h), skin, facing("drawers", skin)), *clutter(rng, w, d, h)]


def desk(rng: Rng) -> list[Box]:
    """A desk with a screen, and its chair."""
    w, d, h, top, black = (
        rng.uniform(1.1, 1.7),
        rng.uniform(0.6, 0.75),
        0.74,
        wood(rng),
        plain(rng, 0.04, 0.1),
    )
    screen = look("screen", colour(rng, 0.4, 0.3, 0.7), 0.9, None, 0.5)
    boxes = [Box((-w / 2, 0, h - 0.03), (w / 2, d, h), top), *legs(w, d, h - 0.03, 0.05, top)]
    boxes.append(
        Box((w / 2 - 0.42, 0.05, 0), (w / 2 - 0.05, d - 0.03, h - 0.03), top, facing("drawers", top))
    )
    boxes.append(Box((-0.27, 0.15, h + 0.1), (0.27, 0.19, h + 0.45), black, screen))
    boxes.append(Box((-0.04, 0.15, h), (0.04, 0.19, h + 0.1), black))
    seat = rng.uniform(-0.3, 0.1)
    boxes += [_turned_about(box, seat, d + 0.35) for box in chair(rng)]
    return boxes + clutter(rng, w, d * 0.5, h)


def _turned_about(box: Box, x: float, y: float) -> Box:
    """The box in a piece that faces the wall, its front edge at y - depth."""
    (a, b, c), (d, e, f) = box.low, box.high
    return Box((x - d, y - e, c), (x - a, y - b, f), box.look)


def tv(rng: Rng) -> list[Box]:
    """A television on a low bench."""
    w, skin, black = rng.uniform(1.1, 1.8), wood(rng), plain(rng, 0.03, 0.08)
    side = rng.uniform(0.7, 1.2)
    screen = look("screen", colour(rng, 0.5, 0.05, 0.4), 0.9, None, 0.2)
    bench = Box((-w / 2, 0, 0), (w / 2, 0.42, 0.48), skin, facing("doors", skin))
    return [bench, Box((-side / 2, 0.1, 0.52), (side / 2, 0.16, 0.52 + side * 0.58), black, screen)]


def counter(rng: Rng) -> list[Box]:
    """A run of kitchen: cupboards below and above, a worktop with appliances."""
    w, skin, top = (
        rng.uniform(1.2, 2.8),
        wood(rng) if rng.random() < 0.6 else plain(rng, 0.5, 0.85),
        plain(rng),
    )
    units = max(1, round(w / 0.9))
    boxes = [Box((-w / 2, 0, 0.88), (w / 2, 0.64, 0.92), top)]
    for n in range(units):
        left, right = (-w / 2 + w * part / units for part in (n, n + 1))
        front = facing(rng.choice(("doors", "drawers")), skin)
        boxes.append(Box((left, 0, 0), (right, 0.6, 0.88), skin, front))
        if rng.random() < 0.8:
            boxes.append(Box((left, 0, 1.42), (right, 0.35, 2.1), skin, facing("doors", skin)))
    return boxes + clutter(rng, w, 0.55, 0.92, 6)


def fridge(rng: Rng) -> list[Box]:
    """Two doors, one above the other."""
    skin, gap, h = plain(rng, 0.6, 0.85), plain(rng, 0.05, 0.1), rng.uniform(1.5, 1.85)
    doors = [
        Box((-0.35, 0, low), (0.35, 0.66, high), skin) for low, high in ((0.03, h - 0.55), (h - 0.53, h))
    ]
    return [Box((-0.34, 0, 0), (0.34, 0.6, h - 0.01), gap), *doors]


def bathtub(rng: Rng) -> list[Box]:
    """An open box of enamel."""
    white, w = look("plaster", (0.85, 0.85, 0.83), 0.05, 1), rng.uniform(1.5, 1.7)
    inner = look("plaster", (0.6, 0.62, 0.62), 0.1, 1)
    rim = [Box((-w / 2, 0, 0), (w / 2, 0.1, 0.56), white), Box((-w / 2, 0.65, 0), (w / 2, 0.75, 0.56), white)]
    ends = [Box((x, 0.1, 0), (x + 0.1, 0.65, 0.56), white) for x in (-w / 2, w / 2 - 0.1)]
    return [*rim, *ends, Box((-w / 2 + 0.1, 0.1, 0), (w / 2 - 0.1, 0.65, 0.2), inner)]


def basin(rng: Rng) -> list[Box]:
    """A washbasin on a cupboard, with a mirror."""
    skin, white = plain(rng, 0.4, 0.85), look("plaster", (0.86, 0.86, 0.85), 0.04, 1)
    w = rng.uniform(0.6, 1.1)
    mirror = look("screen", (0.62, 0.66, 0.68), 0.4, None)
    return [
        Box((-w / 2, 0, 0), (w / 2, 0.48, 0.78), skin, facing("doors", skin)),
        Box((-w / 2 - 0.02, 0, 0.78), (w / 2 + 0.02, 0.5, 0.86), white),
        Box((-w / 2, 0, 1.1), (w / 2, 0.03, 1.9), skin, mirror),
        *clutter(rng, w, 0.2, 0.86, 3),
    ]


def toilet(rng: Rng) -> list[Box]:
    """With its tank at the wall."""
    white = look("plaster", rng.uniform(0.78, 0.88) * np.ones(3), 0.05, 1)
    tank = Box((-0.2, 0, 0.35), (0.2, 0.2, 0.8), white)
    return [
        tank,
        Box((-0.12, 0.1, 0), (0.12, 0.6, 0.36), white),
        Box((-0.19, 0.18, 0.36), (0.19, 0.66, 0.42), white),
    ]


def lamp(rng: Rng) -> list[Box]:
    """A standing lamp."""
    h, pole = rng.uniform(1.4, 1.7), plain(rng, 0.05, 0.4)
    shade = look("plaster", (0.9, 0.8, 0.6), 0.05, 1, glow=1.2)
    foot = Box((-0.14, 0.05, 0), (0.14, 0.33, 0.03), pole)
    return [foot, Box((-0.02, 0.17, 0), (0.02, 0.21, h), pole), Box((-0.2, 0, h - 0.3), (0.2, 0.4, h), shade)]


def plant(rng: Rng) -> list[Box]:
    """A pot and a heap of leaves."""
    pot, green = plain(rng), np.array([0.12, 0.3, 0.08]) * rng.uniform(0.7, 1.5)
    leaves = look("leaves", green, 0.9, 0.5)
    boxes = [Box((-0.16, 0.1, 0), (0.16, 0.42, 0.32), pot)]
    for _ in range(rng.integers(5, 9)):
        x, y, z = rng.uniform(-0.22, 0.02), rng.uniform(0.02, 0.3), rng.uniform(0.35, 0.9)
        a, c = rng.uniform(0.1, 0.25), rng.uniform(0.15, 0.4)
        boxes.append(Box((x, y, z), (x + a, y + a, z + c), leaves))
    return boxes


def rack(rng: Rng) -> list[Box]:
    """A low double shelf of a shop, books on its front."""
    w, h, skin = rng.uniform(1.2, 2.4), rng.uniform(1.0, 1.6), wood(rng)
    return [Box((-w / 2, 0, 0), (w / 2, 0.7, h), skin, books()), *clutter(rng, w, 0.6, h, 5)]


def school_desk(rng: Rng) -> list[Box]:
    """A table with a chair behind it."""
    top, w = wood(rng), rng.uniform(0.7, 1.3)
    boxes = [Box((-w / 2, 0.45, 0.7), (w / 2, 0.95, 0.74), top), *legs(w, 0.5, 0.7, 0.05, top, 0.45)]
    return boxes + chair(rng) + [
        Box((low[0], low[1] + 0.45, low[2]), (high[0], high[1] + 0.45, high[2]), skin, front)
        for low, high, skin, front in clutter(rng, w, 0.45, 0.74, 2)
    ]  # fmt: skip


Piece = Callable[[Rng], list[Box]]


def picture(rng: Rng) -> list[Box]:
    """A framed picture."""
    w, h, z = rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.8), rng.uniform(1.25, 1.5)
    stops = colour(rng, 0.6, 0.05, 0.3), colour(rng, 0.8), colour(rng, 0.8), (0.9, 0.9, 0.86)
    canvas = Look(PATTERNS.index("picture"), shades(*stops), None)
    return [Box((-w / 2, 0, z), (w / 2, 0.03, z + h), plain(rng), canvas)]


def door(rng: Rng) -> list[Box]:
    """A closed door in its frame."""
    skin = plain(rng, 0.5, 0.85) if rng.random() < 0.6 else wood(rng)
    w, frame = rng.uniform(0.75, 0.92), plain(rng, 0.4, 0.85)
    board = Box((-w / 2, 0, 0), (w / 2, 0.03, 2.03), skin, facing("door", skin))
    posts = [Box((x, 0, 0), (x + 0.08, 0.05, 2.1), frame) for x in (-w / 2 - 0.08, w / 2)]
    return [board, *posts, Box((-w / 2, 0, 2.03), (w / 2, 0.05, 2.1), frame)]


def window(rng: Rng) -> list[Box]:
    """A bright window, often with curtains."""
    w, low, high = rng.uniform(0.8, 1.8), rng.uniform(0.75, 1.0), rng.uniform(1.9, 2.2)
    sky = Look(
        PATTERNS.index("window"), shades((0.5, 0.48, 0.45), (0.6, 0.65, 0.62), (0.9, 0.94, 1.0)), None, 1.6
    )
    boxes = [Box((-w / 2, 0, low), (w / 2, 0.02, high), plain(rng, 0.6, 0.85), sky)]
    boxes.append(Box((-w / 2 - 0.06, 0, low - 0.05), (w / 2 + 0.06, 0.14, low), plain(rng, 0.6, 0.85)))
    if rng.random() < 0.6:
        cloths = look("stripes", colour(rng, 0.5), 0.18, rng.uniform(0.5, 0.9))
        for x in (-w / 2 - 0.3, w / 2 - 0.02):
            boxes.append(
                Box((x, 0.03, 0.1 if rng.random() < 0.6 else low - 0.1), (x + 0.32, 0.1, high + 0.1), cloths)
            )
    return boxes


def blackboard(rng: Rng) -> list[Box]:
    """A wide board, dark or white."""
    w, frame = rng.uniform(2.0, 3.5), wood(rng)
    board = look("plaster", (0.10, 0.2, 0.15) if rng.random() < 0.5 else (0.85, 0.85, 0.85), 0.25, 1.5)
    return [Box((-w / 2, 0, 0.85), (w / 2, 0.04, 2.05), frame, board)]
