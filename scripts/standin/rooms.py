"""Draw rooms at random, to stand in for those of NYU Depth v2: a shell, and boxes in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from standin.furniture import FLOORS, KINDS, MATERIALS, PIECES, WALLS, Kind, Piece

Rng = np.random.Generator
GOLDEN = 0.6180339887498949  # steps of the golden ratio give each kind its share in any run of rooms
SHELL = 3  # surfaces of the room itself: walls, floor, ceiling; those of the boxes follow
CELL = 0.03  # metres, of the map of shadows on the floor
TRIES = 10  # places that are tried for a piece of furniture; then it is left out
GAP = 0.02  # metres between two pieces
TONES = {"plaster": (0.6, 0.85), "screen": (0.03, 0.15), "window": (0.85, 0.9), "brick": (0.4, 0.6)}


class Room(NamedTuple):
    """What there is to look at, and how it is lit; float32, S surfaces of which B are boxes."""

    reach: float  # metres at which half of the light is lost on the way to the camera
    size: np.ndarray  # (3,) metres: x, y, height
    boxes: np.ndarray  # (B, 2, 3) low and high corners
    origins: np.ndarray  # (S, 3) where the cells of a material begin
    colours: np.ndarray  # (S, 3) reflectance
    materials: np.ndarray  # (S, 7) a `Material` each
    floor: np.ndarray  # shadows on the floor, 0 to 1, in cells of CELL along x and y
    lamp: np.ndarray  # (3,)


def kind_of(seed: int, number: int) -> str:
    """Return the kind of a room."""
    shares = np.cumsum([kind.share for kind in KINDS.values()])
    place = (np.random.default_rng([seed, 2]).random() + number * GOLDEN) % 1
    return list(KINDS)[int(np.searchsorted(shares / shares[-1], place, side="right"))]


def colour(rng: Rng, material: str) -> np.ndarray:
    """Draw the colour of something made of a material."""
    if material in ("wood", "planks"):  # from dark to light, brown to white
        return np.array([1, rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.8)]) * rng.uniform(0.2, 0.75)
    tone = rng.uniform(*TONES.get(material, (0.25, 0.7)))
    hue = rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2])
    return np.clip(tone * (1 + rng.uniform(0.05, 0.4) * np.cos(hue)), 0.03, 0.92)


def turned(corners: np.ndarray, wall: int) -> np.ndarray:
    """Turn boxes `(n, 2, 3)`, in shares of a piece at the wall y = 0, so that they face away from `wall`."""
    if wall >= 2:  # the far walls
        corners = corners.copy()
        corners[..., 1] = 1 - corners[:, ::-1, 1]
    return corners[..., [1, 0, 2]] if wall % 2 else corners


def place(rng: Rng, piece: Piece, size: np.ndarray, at_wall: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners `(2, 3)` of a piece somewhere in the room, and those of its boxes `(n, 2, 3)`."""
    wall, sides = int(rng.integers(4)), rng.uniform(piece.smallest, piece.largest)
    across = sides[[1, 0, 2]] if wall % 2 else sides
    low = rng.random(3) * (size - across)
    low[2] = piece.above
    if at_wall:
        off = 1 - wall % 2  # the axis that leads away from the wall
        low[off] = (size - across)[off] if wall >= 2 else 0
    shares = turned(np.array([box[:6] for box in piece.boxes]).reshape(-1, 2, 3), wall)
    return np.stack([low, low + across]), low + shares * across


def furnish(rng: Rng, kind: Kind, size: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    """Put the pieces of this kind of room where they fit; return their boxes, colours and materials."""
    held, boxes, colours, names = np.empty((0, 2, 3)), [], [], []
    wanted = [(name, True) for name in kind.beside.split()] + [(name, False) for name in kind.middle.split()]
    for piece, at_wall in ((PIECES[name], at_wall) for name, at_wall in wanted):
        for _ in range(TRIES):
            around, placed = place(rng, piece, size, at_wall)
            near = ((around[0] < held[:, 1] + GAP) & (around[1] > held[:, 0] - GAP)).all(1)
            if (around[0] >= 0).all() and (around[1] <= size).all() and not near.any():
                made_of = [box[6] for box in piece.boxes]
                palette = {name: colour(rng, name) for name in dict.fromkeys(made_of)}
                held = np.concatenate([held, around[None]])
                boxes.append(placed)
                colours += [palette[name] for name in made_of]
                names += made_of
                break
    return np.concatenate(boxes), colours, names


def floor_shadows(size: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how much of the light the boxes keep off each cell of the floor; the higher a box, the less."""
    shadows = np.zeros(np.ceil(size[:2] / CELL).astype(int) + 1, np.float32)
    for low, high in boxes:
        (x, y), (a, b) = (low[:2] / CELL).astype(int), np.ceil(high[:2] / CELL).astype(int)
        np.maximum(shadows[x:a, y:b], np.exp(-low[2] / 2), out=shadows[x:a, y:b])
    return gaussian_filter(shadows, 0.12 / CELL)


def room(seed: int, number: int) -> Room:
    """Draw room `number` of a stand-in."""
    rng, kind = np.random.default_rng([seed, 0, number]), KINDS[kind_of(seed, number)]
    size = rng.uniform(kind.smallest, kind.largest)
    size[:2] = rng.permutation(size[:2])
    shell = [str(rng.choice(WALLS)), str(rng.choice(FLOORS)), "plaster"]
    skins = [colour(rng, shell[0]), colour(rng, shell[1]) * 0.8, np.full(3, rng.uniform(0.75, 0.88))]
    boxes, colours, names = furnish(rng, kind, size)
    lamp = rng.uniform((0.3, 0.3, 0.75), (0.7, 0.7, 0.88)) * size
    origins = np.concatenate([np.zeros((SHELL, 3)), boxes[:, 0]])
    materials = np.array([MATERIALS[name] for name in shell + names])
    parts = (size, boxes, origins, np.array(skins + colours), materials, floor_shadows(size, boxes), lamp)
    return Room(rng.uniform(2.5, 4), *(part.astype(np.float32) for part in parts))
