"""Grey textures of period 1, in ever smaller copies: what walls, floors and furniture are covered with."""

from __future__ import annotations

import functools

import numpy as np

SIDE = 512  # of the sharpest copy, in texels
LEVELS = 9  # 512 to 2 texels
SHADES = 32
PATTERNS = (
    "plaster", "planks", "tiles", "stripes", "motif", "carpet", "brick", "weave",
    "doors", "drawers", "books", "window", "picture", "door", "screen", "leaves",
)  # fmt: skip


def _grid(across: float = 1, down: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each texel: periods across and down."""
    place = (np.arange(SIDE) + 0.5) / SIDE
    return place[None] * across, place[:, None] * down


def _cloud(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Smooth periodic noise of mean 0 and deviation 1; its spectrum falls by `slope`."""
    fx, fy = np.meshgrid(np.fft.rfftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE) * SIDE)
    size = np.hypot(fx * stretch, fy)
    size[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * size**-slope, (SIDE, SIDE))
    return noise / noise.std()


def _edges(place: np.ndarray, width: float) -> np.ndarray:
    """1 near whole numbers, 0 elsewhere."""
    return (np.abs(place - np.round(place)) < width / 2).astype(float)


def _cells(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A random number for each unit cell."""
    column, line = (np.floor(place).astype(int) for place in np.broadcast_arrays(x, y))
    table = rng.random((line.max() + 1, column.max() + 1))
    return table[line, column]


def _panels(across: int, down: int, gap: float = 0.03) -> np.ndarray:
    """Doors or drawers: a light board with a dark gap around, a moulding inside, and a knob."""
    x, y = _grid(across, down)
    dx, dy = (0.5 - np.abs(place % 1 - 0.5) for place in (x, y))
    edge = np.minimum(dx * (SIDE / across) / SIDE, dy * (SIDE / down) / SIDE)
    board = 0.75 - 0.15 * ((edge > 0.04) & (edge < 0.055))
    knob = (np.abs(x % 1 - 0.5) < 0.03 * across) & (np.abs(y % 1 - 0.5) < 0.02 * down)
    return np.where(edge < gap / 2, 0.05, np.where(knob, 1.0, board))


def _draw(name: str, rng: np.random.Generator) -> np.ndarray:
    """One texture, about 0 to 1."""
    x, y = _grid()
    match name:
        case "plaster":
            return 0.5 + 0.10 * _cloud(rng, 0.6) + 0.08 * _cloud(rng, 1.6)
        case "planks":
            px, py = _grid(2, 8)
            shift = px + (np.floor(py) * 0.37) % 1 * 2
            tone = _cells(rng, shift % 2, py)
            grain = 0.10 * _cloud(rng, 0.8, 0.04)
            return 0.2 + 0.5 * tone + grain - 0.5 * np.maximum(_edges(py, 0.05), _edges(shift, 0.012))
        case "tiles":
            px, py = _grid(4, 4)
            grout = np.maximum(_edges(px, 0.05), _edges(py, 0.05))
            return np.where(
                grout > 0, 0.05, 0.65 + 0.25 * (_cells(rng, px, py) - 0.5) + 0.04 * _cloud(rng, 1)
            )
        case "stripes":
            return 0.5 + 0.35 * np.sign(np.sin(2 * np.pi * 8 * x)) + 0.05 * _cloud(rng, 0.7) + 0 * y
        case "motif":
            px, py = _grid(6, 6)
            row = np.floor(py) % 2 / 2
            flower = np.hypot((px + row) % 1 - 0.5, py % 1 - 0.5)
            petals = 0.28 + 0.12 * np.cos(5 * np.arctan2((px + row) % 1 - 0.5, py % 1 - 0.5))
            return np.where(flower < petals, 0.85, 0.3) + 0.05 * _cloud(rng, 0.7)
        case "carpet":
            return 0.5 + 0.18 * rng.standard_normal((SIDE, SIDE)) + 0.10 * _cloud(rng, 1.2)
        case "brick":
            px, py = _grid(4, 14)
            shift = px + np.floor(py) % 2 / 2
            mortar = np.maximum(_edges(py, 0.12), _edges(shift, 0.04))
            return np.where(
                mortar > 0, 0.95, 0.25 + 0.35 * _cells(rng, shift % 4, py) + 0.06 * _cloud(rng, 0.8)
            )
        case "weave":
            return (
                0.5 + 0.22 * np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y) + 0.10 * _cloud(rng, 1.0)
            )
        case "doors":
            return _panels(2, 1) + 0.04 * _cloud(rng, 0.9, 8)
        case "drawers":
            return _panels(1, 4) + 0.04 * _cloud(rng, 0.9, 0.1)
        case "books":
            return _books(rng)
        case "window":
            px, py = _grid(2, 2)
            frame = np.maximum(_edges(px, 0.14), _edges(py, 0.10))
            return np.where(frame > 0, 0.1, np.clip(0.75 + 0.25 * y[::-1] + 0.08 * _cloud(rng, 1.8), 0.4, 1))
        case "picture":
            edge = np.minimum(0.5 - np.abs(x - 0.5), 0.5 - np.abs(y - 0.5))
            inside = 0.5 + 0.25 * _cloud(rng, 1.9)
            return np.where(edge < 0.05, 0.0, np.where(edge < 0.13, 1.0, inside))
        case "door":
            px, py = _grid(2, 3)
            dx, dy = (0.5 - np.abs(place % 1 - 0.5) for place in (px, py))
            field = np.minimum(dx, dy)
            knob = np.hypot(x - 0.9, (y - 0.48) * 2.2) < 0.04
            return np.where(
                knob, 0.0, 0.7 - 0.25 * ((field > 0.16) & (field < 0.22)) + 0.04 * _cloud(rng, 1, 8)
            )
        case "screen":
            edge = np.minimum(0.5 - np.abs(x - 0.5), 0.5 - np.abs(y - 0.5))
            return np.where(edge < 0.04, 0.15, 0.35 + 0.35 * (x + y) / 2 + 0.05 * _cloud(rng, 1.8))
        case "leaves":
            return 0.5 + 0.30 * _cloud(rng, 1.1)
    raise ValueError(name)


def _books(rng: np.random.Generator) -> np.ndarray:
    """Five shelves of books of different widths, heights and colours."""
    shelf = np.full((SIDE, SIDE), 0.02)
    for number in range(5):
        bottom, room = number * SIDE // 5 + 8, SIDE // 5 - 20
        left = 8
        while left < SIDE - 10:
            width = min(int(rng.integers(7, 20)), SIDE - 8 - left)
            top = bottom + int(room * rng.uniform(0.65, 1))
            tone = rng.uniform(0.15, 1)
            shelf[bottom:top, left : left + width - 1] = tone
            shelf[top - 14 : top - 9, left : left + width - 1] = 1 - tone
            left += width if rng.random() > 0.05 else 3 * width
        shelf[bottom - 8 : bottom] = 0.55  # the board
    return shelf


@functools.cache
def texture_bank() -> tuple[np.ndarray, np.ndarray]:
    """All textures in all sizes in one row of shades, uint8, and where each starts, int32 (patterns, LEVELS).

    The same in every stand-in: colours, sizes and light are what differs.
    """
    parts, starts, end = [], np.zeros((len(PATTERNS), LEVELS), np.int32), 0
    for number, name in enumerate(PATTERNS):
        texture = np.clip(_draw(name, np.random.default_rng([7, number])), 0, 1)
        for level in range(LEVELS):
            starts[number, level] = end
            parts.append(np.minimum(texture * SHADES, SHADES - 1).astype(np.uint8).ravel())
            end += texture.size
            texture = (texture[::2, ::2] + texture[1::2, ::2] + texture[::2, 1::2] + texture[1::2, 1::2]) / 4
    return np.concatenate(parts), starts
