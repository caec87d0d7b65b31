"""What the rooms of the stand-in are made of: colours for the grey textures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from standin.textures import PATTERNS, SHADES

Rng = np.random.Generator
WOODS = ((0.42, 0.24, 0.12), (0.60, 0.42, 0.24), (0.25, 0.14, 0.08), (0.72, 0.58, 0.40), (0.80, 0.76, 0.70))


class Look(NamedTuple):
    """A texture in colours; `period` in metres, or None where one period covers the face."""

    pattern: int
    palette: np.ndarray  # (SHADES, 3) reflectance
    period: float | None
    glow: float = 0.0


def shades(*stops: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """A palette that runs through the given colours, `(SHADES, 3)`."""
    places = np.linspace(0, len(stops) - 1, SHADES)
    return np.stack(
        [np.interp(places, range(len(stops)), channel) for channel in zip(*stops, strict=True)], 1
    )


def look(
    pattern: str,
    colour: np.ndarray | tuple[float, ...],
    contrast: float,
    period: float | None,
    glow: float = 0,
) -> Look:
    """A texture around one colour, from darker to lighter by `contrast`."""
    colour = np.asarray(colour)
    dark, light = colour * (1 - contrast), np.minimum(colour * (1 + contrast), 0.95)
    return Look(PATTERNS.index(pattern), shades(dark, light), period, glow)


def colour(rng: Rng, strength: float = 0.5, low: float = 0.25, high: float = 0.8) -> np.ndarray:
    """Any colour; `strength` 0 is grey."""
    hue = rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2])
    return np.clip(rng.uniform(low, high) * (1 + strength * np.cos(hue)), 0.03, 0.92)


def wood(rng: Rng) -> Look:
    """Boards of one of a few woods."""
    return look("planks", WOODS[rng.integers(len(WOODS))] * rng.uniform(0.8, 1.2, 3), 0.25, 1.7)


def cloth(rng: Rng) -> Look:
    """A woven or striped fabric."""
    pattern = rng.choice(("weave", "weave", "stripes", "motif"))
    return look(pattern, colour(rng, rng.uniform(0.1, 0.7)), 0.3, rng.uniform(0.4, 0.9))


def facing(pattern: str, base: Look) -> Look:
    """`base` with doors or drawers on it: one period, in its colours."""
    dark, middle, light = base.palette[0] * 0.3, base.palette[SHADES // 2], base.palette[-1]
    return Look(PATTERNS.index(pattern), shades(dark, middle, light), None)


def plain(rng: Rng, low: float = 0.05, high: float = 0.85) -> Look:
    """Paint, metal or plastic."""
    return look("plaster", colour(rng, 0.15, low, high), 0.08, 1.0)


def books() -> Look:
    """Shelves of books in many colours."""
    stops = ((0.03, 0.02, 0.02), (0.45, 0.10, 0.08), (0.12, 0.20, 0.40), (0.55, 0.40, 0.2), (0.15, 0.35, 0.2))
    return Look(PATTERNS.index("books"), shades(*stops, (0.85, 0.82, 0.75)), None)
