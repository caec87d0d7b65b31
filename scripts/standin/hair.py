"""Draw the hair and the beard of a face."""

from __future__ import annotations

import numpy as np
from standin.canvas import Canvas, ellipse, noise, ramp, stroke


def strands(
    c: Canvas, f: dict[str, float], hair: np.ndarray, grey: float, rng: np.random.Generator
) -> np.ndarray:
    """The colour of hair at each pixel `(3, n, n)`: streaked, and salt and pepper while it turns grey."""
    cells = (int(30 + 10 * f["curl"]), int(5 + 22 * f["curl"]))
    streak = noise(rng, len(c.x), cells) * (0.12 + 0.32 * grey * (1 - grey))
    return np.clip(hair[:, None, None] * (1 + streak), 0, 1)


def draw_back_hair(c: Canvas, f: dict[str, float], hair: np.ndarray, rng: np.random.Generator) -> None:
    """Hair behind the head: long on most women, growing through childhood, shorter and flatter in old age."""
    length = rng.uniform(0.2, 1.15) * ramp(f["shape_age"], 1, 9) * (1 - 0.6 * ramp(f["hair_age"], 45, 85))
    if f["male"] > 0.5 or length < 0.15:
        return
    puff = 0.07 + 0.09 * f["curl"] - 0.04 * ramp(f["hair_age"], 50, 90)
    wide = np.abs(c.u) - (f["W"] + puff) + 0.04 * noise(rng, len(c.x), (9, 9)) * f["curl"]
    below = np.maximum(wide + np.clip(c.v, 0, 2) * 0.04, np.maximum(c.v - length, -c.v - 0.25))
    c.paint(hair * 0.8, np.minimum(below, ellipse(c, 0, -0.1, f["W"] + puff, f["H"] + puff * 0.4)), soft=2)


def baldness(f: dict[str, float]) -> float:
    """How far the hair of a man has gone, 0 … 1: when it starts and where it ends differ between men."""
    gone = ramp(f["hair_age"], 24 + 14 * f["bald"], 82 + 20 * f["bald"])
    return gone * f["male"] * (0.5 + 0.5 * (f["bald"] < 0.7))


def hairline(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """How low the hair comes at each pixel: a parting, perhaps a fringe, and temples that go back first."""
    bald, t = baldness(f), np.abs(c.u) / f["W"]
    part = rng.choice([-1, 1]) * rng.uniform(0, 0.12) * c.u / f["W"]
    fringe = rng.uniform(0.02, 0.2) * (1 - bald) if rng.random() < 0.45 else 0.0
    top = -0.56 * f["H"] / 0.83 - 0.16 * f["child"] * (1 - ramp(f["shape_age"], 0, 4)) + fringe
    top = top - 0.05 * ramp(f["hair_age"], 45, 95)
    edge = top - 0.40 * bald + 0.55 * t**4 + part - 0.25 * bald * np.exp(-(((t - 0.55) / 0.25) ** 2))
    return edge + 0.02 * noise(rng, len(c.x), (16, 3))


def draw_front_hair(c: Canvas, f: dict[str, float], hair: np.ndarray, rng: np.random.Generator) -> None:
    """The cap of hair above the hairline, thinner with age and sparse in babies."""
    thin, head = ramp(f["hair_age"], 45, 95), c.cache["head"]
    volume = 0.02 + 0.10 * rng.uniform(0.3, 1) * (1 - 0.6 * thin) * (1 - 0.8 * f["child"])
    volume = volume + 0.05 * f["curl"] * (1 - f["child"])
    edge = hairline(c, f, rng)
    outer = (head - 1) * f["W"] - volume + 0.02 * f["curl"] * noise(rng, len(c.x), (12, 12))
    beside = np.abs(c.u) / f["W"]
    sideburn = np.maximum(c.v - f["eye_v"] - 0.05, 0.9 - beside) if f["male"] > 0.5 else np.float32(9)
    cover = (1 - 0.75 * (1 - ramp(f["shape_age"], 0.3, 4.5))) * (1 - 0.25 * thin)
    grown = np.minimum(np.maximum(c.v - edge, -9), np.maximum(sideburn, 0.88 - head))
    c.paint(hair, np.maximum(grown, outer), cover, soft=3)


def draw_beard(c: Canvas, f: dict[str, float], hair: np.ndarray, rng: np.random.Generator) -> None:
    """Stubble on most grown men, a beard or a moustache on some."""
    grown = f["male"] * ramp(f["shape_age"], 15, 24)
    if grown < 0.05:
        return
    lower = np.clip((c.v - 0.28 - 0.25 * np.exp(-((c.u / 0.2) ** 2))) / 0.12, 0, 1) * c.cache["inside"]
    full = f["beard"] > 0.82
    rough = 0.75 + 0.25 * noise(rng, len(c.x), (30, 30))
    c.blend(hair * 0.8, np.clip(lower * rough * grown * (0.75 if full else rng.uniform(0.02, 0.2)), 0, 1))
    if full or f["beard"] < 0.12:
        across, t = stroke(c, f["yaw"] * 1.5, f["mouth_v"] - 0.062, f["mouth_w"] * 1.1, 0.05)
        c.paint(hair * 0.8, np.maximum(np.abs(across) - 0.036, (np.abs(t) - 1) * 0.2), 0.8 * grown, soft=2.5)
