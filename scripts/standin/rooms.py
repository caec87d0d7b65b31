"""Rooms drawn at random, to stand in for those of NYU Depth v2: what stands and hangs where, the light."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from standin import furniture as f
from standin.furniture import Box, Piece
from standin.materials import Look, Rng, colour, look, wood
from standin.raycast import Light, Quads

THIN = 0.07  # metres: the shadow of a leg is left out


class Kind(NamedTuple):
    """A kind of room: metres of its sides and height, what stands and hangs in it, floors and walls."""

    share: float  # of the rooms, relative to the other kinds
    short: tuple[float, float]
    long: tuple[float, float]
    height: tuple[float, float]
    standing: tuple[Piece, ...]  # at the walls
    middle: tuple[Piece, ...]
    hanging: tuple[Piece, ...]
    floors: tuple[str, ...]
    walls: tuple[str, ...]


SOFT, PAPER = ("planks", "carpet", "carpet"), ("plaster", "plaster", "stripes", "motif")
HARD, BARE = ("tiles", "planks", "carpet"), ("plaster", "plaster", "brick")
# fmt: off
KINDS = {
    "living_room": Kind(5, (3.2, 5.0), (4.0, 7.5), (2.4, 2.8),
                        (f.sofa, f.tv, f.armchair, f.bookcase, f.lamp, f.plant, f.chest),
                        (f.coffee_table, f.armchair),
                        (f.window, f.window, f.door, f.picture, f.picture, f.picture), SOFT, PAPER),
    "bedroom": Kind(6, (2.7, 4.0), (3.2, 5.0), (2.4, 2.7),
                    (f.bed, f.wardrobe, f.chest, f.desk, f.lamp, f.chest), (),
                    (f.window, f.door, f.picture, f.picture, f.picture), SOFT, PAPER),
    "kitchen": Kind(4, (2.4, 3.8), (3.0, 5.5), (2.4, 2.7),
                    (f.counter, f.counter, f.fridge, f.counter), (f.table,),
                    (f.window, f.door, f.picture), ("tiles", "planks"), ("plaster", "tiles")),
    "bathroom": Kind(2.5, (1.9, 2.6), (2.2, 3.4), (2.3, 2.6),
                     (f.bathtub, f.basin, f.toilet), (),
                     (f.door, f.window, f.picture), ("tiles",), ("tiles", "plaster")),
    "dining_room": Kind(2, (3.0, 4.2), (3.6, 5.8), (2.4, 2.8),
                        (f.chest, f.bookcase, f.plant, f.chair), (f.table, f.chair, f.chair, f.chair),
                        (f.window, f.door, f.picture, f.picture, f.picture), SOFT, PAPER),
    "office": Kind(3, (2.8, 4.5), (3.2, 6.0), (2.5, 3.0),
                   (f.desk, f.desk, f.bookcase, f.bookcase, f.chest, f.plant), (f.table, f.chair),
                   (f.window, f.door, f.picture, f.blackboard), HARD, BARE),
    "bookstore": Kind(2.5, (5.0, 8.5), (8.0, 13.5), (2.8, 3.6),
                      (f.bookcase,) * 12, (f.rack,) * 7,
                      (f.door, f.window, f.picture), HARD, BARE),
    "classroom": Kind(3, (5.0, 8.0), (7.0, 12.5), (2.7, 3.4),
                      (f.bookcase, f.desk, f.chest), (f.school_desk,) * 12,
                      (f.blackboard, f.window, f.window, f.window, f.door), HARD, BARE),
}
# fmt: on


class Room(NamedTuple):
    """What there is to look at, and how it is lit."""

    kind: str
    size: np.ndarray  # metres: x, y, height
    quads: Quads
    light: Light


# --- a room


def _faces(box: Box) -> Iterator[tuple[tuple, tuple, tuple, tuple, Look]]:
    """Corner, directions, sizes and look of each face that can be seen; the front is at high y."""
    (x, y, z), (a, b, c) = box.low, box.high
    dx, dy, dz = a - x, b - y, c - z
    yield (a, b, z), (-1, 0, 0), (0, 0, 1), (dx, dz), box.front or box.look
    yield (x, y, z), (1, 0, 0), (0, 0, 1), (dx, dz), box.look
    yield (x, b, z), (0, -1, 0), (0, 0, 1), (dy, dz), box.look
    yield (a, y, z), (0, 1, 0), (0, 0, 1), (dy, dz), box.look
    yield (x, y, c), (1, 0, 0), (0, 1, 0), (dx, dy), box.look
    if z > 0:
        yield (x, b, z), (1, 0, 0), (0, -1, 0), (dx, dy), box.look


class Builder:
    """Collects rectangles and the boxes that they bound."""

    def __init__(self) -> None:
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple, Look]] = []
        self.boxes: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, boxes: Sequence[Box], turn: float, place: tuple[float, float]) -> None:
        """Add a piece, turned by `turn` and moved to `place`."""
        c, s = np.cos(turn), np.sin(turn)
        matrix, shift = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([*place, 0])
        for box in boxes:
            for corner, along, up, size, skin in _faces(box):
                self.rows.append((matrix @ corner + shift, matrix @ along, matrix @ up, size, skin))
        for box in boxes:
            # A shadow is that of an upright box along the walls: as large as this one, in the same place.
            low, high = bounds([box], turn, place)
            a, b = bounds([box], np.round(turn * 2 / np.pi) * np.pi / 2, place)
            self.boxes.append(((low + high - b + a) / 2, (low + high + b - a) / 2))

    def shell(self, size: np.ndarray, wall: Look, floor: Look, ceiling: Look) -> None:
        """The walls, floor and ceiling, seen from inside."""
        x, y, z = size
        for corner, along, up, sides, skin in (
            ((0, 0, 0), (0, 1, 0), (0, 0, 1), (y, z), wall),
            ((x, y, 0), (0, -1, 0), (0, 0, 1), (y, z), wall),
            ((x, 0, 0), (-1, 0, 0), (0, 0, 1), (x, z), wall),
            ((0, y, 0), (1, 0, 0), (0, 0, 1), (x, z), wall),
            ((0, 0, 0), (1, 0, 0), (0, 1, 0), (x, y), floor),
            ((0, y, z), (1, 0, 0), (0, -1, 0), (x, y), ceiling),
        ):
            self.rows.append((*map(np.array, (corner, along, up)), sides, skin))

    def quads(self, room_size: np.ndarray) -> Quads:
        """All of it as arrays."""
        origin, along, up, size, skins = zip(*self.rows, strict=True)
        sizes = np.array(size, float)
        periods = np.array([skin.period or np.nan for skin in skins])[:, None]
        low, high = (np.array(ends) for ends in zip(*self.boxes, strict=True))
        thick = np.sort(high - low)[:, 1] > THIN
        return Quads(
            *(np.array(part, float) for part in (origin, along, up)),
            sizes,
            1 / np.where(np.isnan(periods), sizes, periods),
            np.array([skin.pattern for skin in skins]),
            np.array([skin.palette for skin in skins], np.float32),
            np.array([skin.glow for skin in skins]),
            low[thick],
            high[thick],
            room_size,
        )


def bounds(boxes: Sequence[Box], turn: float, place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The low and high corner of what holds the boxes once turned and moved."""
    points = np.array([p for box in boxes for p in itertools.product(*zip(box.low, box.high, strict=True))])
    c, s = np.cos(turn), np.sin(turn)
    x, y = points[:, 0] * c - points[:, 1] * s + place[0], points[:, 0] * s + points[:, 1] * c + place[1]
    points = np.stack([x, y, points[:, 2]], 1)
    return points.min(0), points.max(0)


def furnish(builder: Builder, rng: Rng, kind: Kind, size: np.ndarray) -> None:
    """Put the pieces of this kind of room where they fit; what does not fit is left out."""
    held: list[tuple[np.ndarray, np.ndarray]] = []

    def place(piece: Piece, where: Callable[[np.ndarray], tuple[float, tuple[float, float]]]) -> None:
        boxes = piece(rng)
        for _ in range(10):
            turn, spot = where(bounds(boxes, 0, (0, 0))[1])
            low, high = bounds(boxes, turn, spot)
            inside = (low > -0.02).all() and (high < size + 0.02).all()
            if inside and not any((low < b + 0.02).all() and (high > a - 0.02).all() for a, b in held):
                held.append((low, high))
                builder.add(boxes, turn, spot)
                return

    def at_wall(high: np.ndarray) -> tuple[float, tuple[float, float]]:
        wall, (x, y, _), gap = rng.integers(4), size, 0.005
        side = size[wall % 2]
        along = rng.uniform(min(high[0] + 0.02, side / 2), max(side - high[0] - 0.02, side / 2))
        spots = (along, gap), (x - gap, along), (along, y - gap), (gap, along)
        return wall * np.pi / 2, spots[wall]

    def anywhere(high: np.ndarray) -> tuple[float, tuple[float, float]]:
        turn = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.12)
        return turn, tuple(rng.uniform(0.2, 0.8, 2) * size[:2])

    for piece in kind.hanging[:3] + kind.standing:
        place(piece, at_wall)
    for piece in kind.middle:
        place(piece, anywhere)
    for piece in kind.hanging[3:]:
        place(piece, at_wall)


# What walls and floors are covered with: contrast, and metres of a period
COVERINGS = {
    "plaster": (0.10, 1.5), "stripes": (0.12, 1.0), "motif": (0.15, 1.1), "carpet": (0.35, 0.8),
    "tiles": (0.30, 1.2), "brick": (0.30, 1.0),
}  # fmt: skip


def covering(rng: Rng, pattern: str, low: float, high: float) -> Look:
    """A colour and texture of a wall or floor, its tone between `low` and `high`."""
    if pattern == "planks":
        return wood(rng)
    contrast, period = COVERINGS[pattern]
    return look(pattern, colour(rng, 0.25, low, high), contrast, period * rng.uniform(0.8, 1.25))


def lighting(rng: Rng, size: np.ndarray) -> Light:
    """A lamp below the ceiling, a weaker one near a wall, and light from all around."""
    lamp = np.array([*(rng.uniform(0.3, 0.7, 2) * size[:2]), size[2] - rng.uniform(0.35, 0.8)])
    window = np.array([*(rng.uniform(0.05, 0.95, 2) * size[:2]), rng.uniform(1.2, 2.0)])
    powers = np.array([rng.uniform(1.5, 3.5), rng.uniform(0.2, 0.8)]) * size[:2].max() / 4
    return Light(np.array([lamp, window]), powers, rng.uniform(0.14, 0.3) * rng.uniform(0.8, 1.2, 3))


def kind_of(seed: int, number: int) -> str:
    """The kind of a room: steps of the golden ratio give each kind its share in any run of rooms."""
    shares = np.cumsum([kind.share for kind in KINDS.values()])
    place = (np.random.default_rng([seed, 2]).random() + number * 0.6180339887498949) % 1
    return list(KINDS)[int(np.searchsorted(shares / shares[-1], place, side="right"))]


def room(seed: int, number: int) -> Room:
    """Room `number` of a stand-in."""
    rng = np.random.default_rng([seed, 0, number])
    name = kind_of(seed, number)
    kind = KINDS[name]
    sides = rng.uniform(*kind.short), rng.uniform(*kind.long)
    size = np.array([*(sides if rng.random() < 0.5 else sides[::-1]), rng.uniform(*kind.height)])
    builder = Builder()
    floor, wall = (
        covering(rng, rng.choice(names), *tone)
        for names, tone in ((kind.floors, (0.2, 0.55)), (kind.walls, (0.4, 0.85)))
    )
    builder.shell(size, wall, floor, look("plaster", rng.uniform(0.75, 0.88) * np.ones(3), 0.05, 2.0))
    furnish(builder, rng, kind, size)
    return Room(name, size, builder.quads(size), lighting(rng, size))
