"""The canvas of a drawn face: blending, and shapes with soft edges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass
class Canvas:
    """The picture so far, and where its pixels lie: in the picture (`x`, `y`) and in the face (`u`, `v`)."""

    rgb: np.ndarray  # float32 (3, n, n), 0 … 1
    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    px: float  # the size of a pixel in face units
    cache: dict[str, np.ndarray] = field(default_factory=dict)

    def paint(
        self, colour: np.ndarray, distance: np.ndarray, opacity: float = 1.0, soft: float = 1.0
    ) -> None:
        """Lay a colour where the signed distance is negative; `soft` widens the edge, in pixels."""
        self.blend(colour, np.clip(0.5 - distance / (self.px * soft), 0, 1) * np.float32(opacity))

    def blend(self, colour: np.ndarray, alpha: np.ndarray) -> None:
        """Lay a colour `(3,)` or `(3, n, n)` at the given opacity."""
        colour = np.asarray(colour, np.float32)
        self.rgb += alpha * ((colour[:, None, None] if colour.ndim == 1 else colour) - self.rgb)

    def shade(self, amount: np.ndarray) -> None:
        """Make darker (below 0) or lighter, as a factor."""
        self.rgb *= 1 + amount


def ramp(value: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, smooth between."""
    t = float(np.clip((value - start) / (end - start), 0, 1))
    return t * t * (3 - 2 * t)


def colour(values: tuple[float, ...]) -> np.ndarray:
    """A colour given as 0 … 255."""
    return np.array(values, np.float32) / 255


def mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """A colour on the way from a (`share` 0) to b (1)."""
    return (a + (b - a) * share).astype(np.float32)


def noise(rng: np.random.Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise `(size, size)` with about unit range, of `cells` = (across, down) blobs."""
    coarse = Image.fromarray(rng.standard_normal((cells[1], cells[0])).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def ellipse(c: Canvas, u: float, v: float, a: float, b: float) -> np.ndarray:
    """The signed distance from an ellipse, nearly."""
    return (np.hypot((c.u - u) / a, (c.v - v) / b) - 1) * min(a, b)


def stroke(
    c: Canvas, u: float, v: float, half: float, bend: float, slope: float = 0.0, upright: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Distance across, and place along (-1 … 1), a parabola through (u, v) that rises by bend + slope."""
    along, across = ((c.v - v), (c.u - u)) if upright else ((c.u - u), (c.v - v))
    t = along / half
    return across - bend * t * t - slope * t, t


def line(c: Canvas, width: float, strength: float, at: tuple[np.ndarray, np.ndarray]) -> None:
    """A crease: dark in the middle of the stroke, a little light beside it, fading out at both ends."""
    across, t = at
    fade = np.clip(1 - t * t, 0, 1) * np.float32(strength)
    width = max(width, 0.7 * c.px)
    c.shade(-fade * np.exp(-((across / width) ** 2)) + 0.35 * fade * np.exp(-((across / width - 2.2) ** 2)))


def fold(
    c: Canvas, width: float, strength: float, u: float, v: float,
    half: float, bend: float, slope: float = 0.0, upright: bool = False,
) -> None:  # fmt: skip
    """A crease along a stroke."""
    line(c, width, strength, stroke(c, u, v, half, bend, slope, upright))


def blob(c: Canvas, u: float, v: float, a: float, b: float) -> np.ndarray:
    """A soft spot: 1 at (u, v), less and less over a and b."""
    return np.exp(-(((c.u - u) / a) ** 2) - ((c.v - v) / b) ** 2)
