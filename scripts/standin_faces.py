"""Procedural faces: drawings whose look changes with age, to stand in for photographs.

Everything that changes with age changes smoothly, and each group of cues (proportions, skin, hair, soft tissue)
shows an age of its own that differs from the label by about four years: partly a trait of the person, partly of
the picture. So neighbouring ages look alike, and no single cue gives the age away. Nothing here knows of any method.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

OLDEST = 105  # labels above it exist in IMDB-WIKI, as errors; nobody looks older
CUES = ("shape", "skin", "hair", "tissue")
HAIR = ((22, 17, 15), (46, 30, 22), (84, 54, 32), (120, 80, 44), (172, 130, 76), (208, 176, 112), (136, 62, 30))
IRIS = ((70, 46, 30), (92, 66, 40), (62, 92, 122), (78, 104, 84), (104, 110, 112))
PALE, DARK = (238, 200, 176), (112, 72, 50)


class Face(NamedTuple):
    """One picture to be drawn: who, at which age, and the keys of what chance adds."""

    path: str
    age: int
    person: int
    male: bool


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

    def paint(self, colour: np.ndarray, distance: np.ndarray, opacity: float = 1.0, soft: float = 1.0) -> None:
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
    return np.array(values, np.float32) / 255


def mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
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
    """Distance across, and place along (-1 … 1), a parabola through (u, v); bend and slope are its rise at the end."""
    along, across = ((c.v - v), (c.u - u)) if upright else ((c.u - u), (c.v - v))
    t = along / half
    return across - bend * t * t - slope * t, t


def line(c: Canvas, width: float, strength: float, at: tuple[np.ndarray, np.ndarray]) -> None:
    """A crease: dark in the middle of the stroke, a little light beside it, fading out at both ends."""
    across, t = at
    fade = np.clip(1 - t * t, 0, 1) * np.float32(strength)
    width = max(width, 0.7 * c.px)
    c.shade(-fade * np.exp(-((across / width) ** 2)) + 0.35 * fade * np.exp(-((across / width - 2.2) ** 2)))


# ---- who and when -------------------------------------------------------------------------------------------------


def apparent_ages(age: int, person: np.random.Generator, picture: np.random.Generator) -> dict[str, float]:
    """The age that each group of cues shows: about four years off the label, less in small children."""
    age = min(age, OLDEST)
    spread = min(1.0, 0.3 + age / 28)
    offsets = person.normal(0, 3, len(CUES)) + picture.normal(0, 2.7, len(CUES))
    return dict(zip(CUES, np.clip(age + spread * offsets, 0, OLDEST).tolist(), strict=True))


def traits(rng: np.random.Generator, male: bool) -> dict[str, float]:
    """What stays the same in every picture of a person."""
    n = rng.normal
    return {
        "male": float(male), "width": n(0, 0.028), "height": n(0, 0.03), "gap": n(0, 0.016), "nose": n(0, 0.025),
        "nose_w": n(0, 0.013), "mouth": n(0, 0.02), "lips": n(0, 0.16), "brow": n(0, 0.2), "jaw": n(0, 0.06),
        "eye": n(0, 0.05), "tone": rng.beta(1.3, 2.6), "pink": n(0, 0.02), "hair": rng.integers(len(HAIR)),
        "iris": rng.integers(len(IRIS)), "bald": rng.random(), "beard": rng.random(), "glasses": rng.random(),
        "freckles": rng.random(), "curl": rng.random(), "ears": n(0, 0.1),
    }  # fmt: skip


def looks(t: dict[str, float], ages: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """The measures of one drawing, in units of about half a face: traits, ages and the moment together."""
    shape, tissue, n = ages["shape"], ages["tissue"], rng.normal
    child = float(np.exp(-shape / 7.5)) * 0.75 + 0.25 * (1 - ramp(shape, 4, 19))
    male = t["male"] * ramp(shape, 10, 20)
    drift = shape / 100
    return {
        **t, **{f"{k}_age": v for k, v in ages.items()}, "child": child, "sag": ramp(tissue, 35, 95), "grown_male": male,
        "W": 0.60 + 0.075 * child + t["width"] + 0.02 * male, "H": 0.83 - 0.15 * child + t["height"] + 0.02 * male,
        "eye_v": -0.06 + 0.15 * child + 0.02 * drift, "gap": 0.255 + 0.015 * child + t["gap"],
        "eye_a": (0.112 + 0.028 * child) * (1 + t["eye"]), "open": 0.52 + 0.22 * child - 0.16 * ramp(tissue, 25, 95) + n(0, 0.04),
        "nose_l": 0.30 - 0.13 * child + 0.07 * drift + t["nose"], "nose_w": 0.088 - 0.012 * child + 0.03 * drift + t["nose_w"] + 0.01 * male,
        "mouth_v": 0.475 - 0.045 * child + 0.03 * drift, "mouth_w": 0.205 - 0.05 * child + 0.02 * drift + t["mouth"],
        "lips": (0.058 - 0.012 * child - 0.034 * tissue / 100) * (1 + t["lips"]) * (1.12 - 0.2 * male),
        "brow": (0.012 + 0.013 * ramp(shape, 2, 20) + 0.012 * male - 0.006 * ramp(tissue, 60, 95)) * (1 + t["brow"]),
        "smile": rng.uniform(-0.25, 1), "yaw": n(0, 0.05), "look": n(0, 0.15), "teeth": rng.random(),
    }  # fmt: skip


def skin_colour(f: dict[str, float]) -> np.ndarray:
    """The person's tone; rosy in babies, sallow and spotted later on."""
    base = mix(colour(PALE), colour(DARK), f["tone"])
    rosy, sallow = f["child"] * 0.05 + f["pink"], ramp(f["skin_age"], 20, 95)
    grey = base.mean() * colour((236, 214, 190)) / 0.83
    return np.clip(mix(base, grey, 0.42 * sallow) * (1.03 - 0.09 * sallow) + np.array([rosy, -rosy / 3, 0], np.float32), 0, 1)


def hair_colour(f: dict[str, float], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The colour, light in small children and grey between 40 and 80, and how grey it is."""
    natural = mix(colour(HAIR[int(f["hair"])]), colour((206, 172, 120)), 0.5 * f["child"])
    dyed = f["male"] < 0.5 and rng.random() < 0.3
    grey = ramp(f["hair_age"], 36, 84) * (0.55 if dyed else 1.0)
    return mix(natural, colour((214, 212, 208)), grey), grey


# ---- layers, back to front ----------------------------------------------------------------------------------------


def new_canvas(size: int, f: dict[str, float], rng: np.random.Generator) -> Canvas:
    """An empty picture with the face turned, moved and scaled in it."""
    x, y = np.meshgrid(*[((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)] * 2)
    angle, scale = rng.normal(0, 0.09), 1.2 + rng.normal(0, 0.06) - 0.03 * f["child"]
    dx, dy = rng.normal(0, 0.05, 2)
    cos, sin = np.float32(scale * np.cos(angle)), np.float32(scale * np.sin(angle))
    u, v = (x - np.float32(dx)), (y - np.float32(dy + 0.04))
    return Canvas(np.zeros((3, size, size), np.float32), x, y, cos * u + sin * v, cos * v - sin * u, 2 / size * scale)


def draw_background(c: Canvas, rng: np.random.Generator) -> None:
    """Two colours, a gradient between them, and some blur of a room or a street behind."""
    one, two = rng.uniform(0.08, 0.92, (2, 1)) + rng.normal(0, 0.08, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    share = 0.5 + 0.4 * (np.cos(angle) * c.x + np.sin(angle) * c.y) + rng.uniform(0, 0.35) * noise(
        rng, len(c.x), (int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    )
    share = np.clip(share, 0, 1).astype(np.float32)
    c.rgb[:] = np.clip(one, 0, 1)[:, None, None].astype(np.float32) * (1 - share)
    c.rgb += np.clip(two, 0, 1)[:, None, None].astype(np.float32) * share


def draw_body(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Clothes and neck; a child's neck is thin and its shoulders narrow."""
    clothes = np.clip(rng.uniform(0.05, 0.9) + rng.normal(0, 0.12, 3), 0, 1)
    broad = 0.78 - 0.2 * f["child"] + 0.12 * f["grown_male"]
    c.paint(clothes, ellipse(c, 0, 1.42, broad + 0.35, 0.52), soft=2)
    neck = (0.62 - 0.16 * f["child"] + 0.1 * f["grown_male"]) * f["W"]
    c.paint(skin * 0.74, np.maximum(np.abs(c.u) - neck, np.hypot(c.u, c.v - 0.6) - 0.55 - 0.02 * f["child"]), soft=2)
    if f["skin_age"] > 40:
        for side in (-1, 1):
            line(c, 0.02, 0.35 * ramp(f["skin_age"], 45, 85), stroke(c, side * 0.13, 0.98, 0.2, 0.02, 0.03 * side, upright=True))


def head_field(c: Canvas, f: dict[str, float]) -> np.ndarray:
    """Radius over the head's own: below 1 inside. A round skull above; below, cheeks that narrow to a chin."""
    down = np.clip(c.v / f["H"], 0, 1)
    jaw = 0.20 - 0.09 * f["child"] - 0.05 * f["grown_male"] - 0.10 * f["sag"] + t_clip(f["jaw"])
    width = f["W"] * (1 - jaw * down**1.5 - 0.10 * np.clip(down - 0.72, 0, 1) * (1 - f["child"]))
    width = width * (1 + 0.06 * f["child"] * np.exp(-(((c.v - 0.32) / 0.22) ** 2)))
    width = width + 0.045 * f["sag"] * np.exp(-(((c.v - 0.60 * f["H"] / 0.8) / 0.14) ** 2))
    height = np.where(c.v < 0, f["H"] * (0.97 + 0.06 * f["child"]), f["H"])
    return ((np.abs(c.u) / width) ** 2.25 + (np.abs(c.v) / height) ** 2.25) ** np.float32(1 / 2.25)


def t_clip(value: float) -> float:
    return float(np.clip(value, -0.1, 0.1))


def draw_head(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Ears and head, with the light from one side and the blush, blotches and spots of the skin."""
    ear = (0.13 - 0.02 * f["child"] + 0.05 * f["shape_age"] / 100) * (1 + f["ears"])
    for side in (-1, 1):
        c.paint(skin * 0.86, ellipse(c, side * (f["W"] + 0.015), f["eye_v"] + 0.12, 0.075, ear), soft=1.5)
    r = c.cache["head"] = head_field(c, f)
    inside = c.cache["inside"] = np.clip(0.5 - (r - 1) * f["W"] / (1.3 * c.px), 0, 1)
    c.blend(skin, inside)
    angle, power = rng.normal(0, 0.9), rng.uniform(0.08, 0.34)
    depth = np.sqrt(np.clip(1 - r * r, 0, 1))
    light = np.sin(angle) * c.u / f["W"] - 0.6 * np.cos(angle) * c.v / f["H"]
    c.shade(inside * (power * (light * 0.8 + depth - 0.75) - 0.10 * np.clip(c.v - 0.5, 0, 1)))
    for side in (-1, 1):
        cheek = np.exp(-(((c.u - side * 0.34) / 0.17) ** 2) - ((c.v - 0.28) / 0.15) ** 2) * inside
        blush = 0.30 * f["child"] + 0.10 * (1 - ramp(f["skin_age"], 15, 60)) + 0.05
        c.blend(skin * np.array([1.05, 0.76, 0.74], np.float32), cheek * blush)
        c.shade(-0.26 * f["sag"] * np.exp(-(((c.u - side * 0.4) / 0.1) ** 2) - ((c.v - 0.42) / 0.16) ** 2) * inside)
    draw_skin_texture(c, f, skin, rng)


def draw_skin_texture(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Unevenness that grows with age, freckles on some, age spots after fifty."""
    inside, size = c.cache["inside"], len(c.x)
    rough = 0.008 + 0.05 * ramp(f["skin_age"], 22, 95)
    c.shade(inside * rough * (noise(rng, size, (14, 14)) + 0.8 * noise(rng, size, (32, 30))))
    spots, freckles = 20 * ramp(f["skin_age"], 48, 98), 14 * (f["freckles"] > 0.85)
    for k in range(int(rng.poisson(spots + freckles))):
        u, v, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.62, 0.55), rng.uniform(0.012, 0.032)
        dark = 0.12 + 0.3 * ramp(f["skin_age"], 48, 98) if k >= freckles else 0.15
        c.shade(inside * (-dark * np.exp(-((c.u - u) ** 2 + (c.v - v) ** 2) / r**2)))


def draw_wrinkles(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """Creases, each with an age at which it starts; they deepen and grow longer until ninety."""
    age, smile = f["skin_age"], 0.5 + 0.5 * max(f["smile"], 0)
    eye = f["eye_v"]
    for k in range(4):
        strength = 0.34 * ramp(age, 30 + 7 * k, 88 + 4 * k) * rng.uniform(0.7, 1.2)
        at = eye - 0.24 - 0.085 * k + rng.normal(0, 0.01)
        line(c, 0.014, strength, stroke(c, rng.normal(0, 0.03), at, 0.26 + 0.12 * ramp(age, 35, 80), 0.03))
    for side in (-1, 1):
        fold = 0.05 + 0.42 * ramp(age, 22, 85) + 0.08 * smile
        line(c, 0.018, fold, stroke(c, side * 0.225, 0.36, 0.17, side * 0.02, side * 0.055, upright=True))
        line(c, 0.016, 0.4 * ramp(age, 42, 90), stroke(c, side * 0.235, 0.59, 0.12, side * 0.015, upright=True))
        line(c, 0.014, 0.3 * ramp(age, 38, 80), stroke(c, side * 0.03, eye - 0.1, 0.07, 0, side * 0.006, upright=True))
        bag = stroke(c, side * f["gap"], eye + 0.115 + 0.03 * f["sag"], 0.13, -0.035)
        line(c, 0.018, 0.06 + 0.42 * ramp(age, 28, 85), bag)
        for k in range(3):
            crow = stroke(c, side * (f["gap"] + 0.2), eye - 0.03 + 0.05 * k, 0.075, 0.005, side * 0.03 * (k - 1))
            line(c, 0.010, 0.42 * smile * ramp(age, 32 + 4 * k, 82), crow)
    for k in range(-3, 4):
        mouth = stroke(c, 0.05 * k, f["mouth_v"] - 0.075, 0.045, 0, 0.004 * k, upright=True)
        line(c, 0.008, 0.32 * ramp(age, 55, 95), mouth)


def draw_eyes(c: Canvas, f: dict[str, float], skin: np.ndarray, hair: np.ndarray) -> None:
    """Whites, iris, lids that come down, lashes, and brows that thicken in youth and grey later."""
    iris, a, yaw = colour(IRIS[int(f["iris"])]), f["eye_a"], f["yaw"]
    b = a * max(f["open"], 0.2)
    for side in (-1, 1):
        u, v = side * f["gap"] + yaw, f["eye_v"]
        c.shade(-0.2 * (1 - 0.6 * f["child"]) * np.exp(-(((c.u - u) / 0.15) ** 2) - ((c.v - v + 0.04) / 0.1) ** 2))
        t = (c.u - u) / a
        lid = v - b * (1 - t * t) + f["sag"] * 0.035 * np.clip(side * t, 0, 1)
        ball = np.maximum(np.maximum(lid - c.v, c.v - (v + 0.72 * b * (1 - t * t))), (np.abs(t) - 1) * a)
        white = colour((244, 240, 234)) * (1 - 0.12 * ramp(f["skin_age"], 40, 95))
        c.paint(white, ball)
        r = a * (0.50 + 0.06 * f["child"])
        disc = np.hypot(c.u - u - a * 0.3 * f["look"], c.v - v + 0.05 * a)
        c.paint(iris, np.maximum(disc - r, ball))
        c.paint(colour((14, 12, 12)), np.maximum(disc - 0.5 * r, ball))
        c.paint(colour((250, 250, 250)), ellipse(c, u + 0.02, v - 0.03, 0.016, 0.016), 0.8)
        lash = 0.012 + 0.008 * (1 - f["male"]) * ramp(f["shape_age"], 12, 20)
        c.paint(colour((34, 24, 22)), np.maximum(np.abs(c.v - lid) - lash, (np.abs(t) - 1) * a), 0.8)
        if f["tissue_age"] > 18:
            line(c, 0.014, 0.5 * ramp(f["tissue_age"], 18, 80), stroke(c, u, v - b - 0.035 + 0.02 * f["sag"], a * 1.1, 0.045, side * 0.03 * f["sag"]))
        draw_brow(c, f, hair, side)


def draw_brow(c: Canvas, f: dict[str, float], hair: np.ndarray, side: int) -> None:
    across, t = stroke(c, side * (f["gap"] + 0.01) + f["yaw"], f["eye_v"] - 0.185 + 0.03 * f["child"] + 0.02 * f["sag"], 0.16, 0.035, side * -0.012)
    shape = np.maximum(np.abs(across) - f["brow"] * (1.1 + 0.4 * -side * t), (np.abs(t) - 1) * 0.16)
    c.paint(hair * 0.72, shape, 0.35 + 0.5 * (1 - f["child"]), soft=2)


def draw_nose(c: Canvas, f: dict[str, float], skin: np.ndarray) -> None:
    """A ridge with a shadow on one side, wings and nostrils."""
    tip, w, yaw = f["eye_v"] + f["nose_l"], f["nose_w"], f["yaw"] * 1.8
    run = np.clip((c.v - f["eye_v"]) / f["nose_l"], 0, 1)
    window = ((c.v > f["eye_v"] - 0.03) & (c.v < tip + 0.03)).astype(np.float32) * run
    centre = yaw * run
    for side in (-1, 1):
        edge = c.u - centre - side * (0.03 + w * 0.75 * run**2)
        c.shade(-0.17 * (1 - 0.5 * f["child"]) * window * np.exp(-((edge / 0.028) ** 2)))
        c.paint(skin * 0.45, ellipse(c, yaw + side * w * 0.5, tip + 0.012, 0.024, 0.014), 0.75, soft=2)
        line(c, 0.014, 0.3, stroke(c, yaw + side * w, tip - 0.02, 0.045, side * -0.02, 0, upright=True))
    c.shade(0.13 * np.exp(-(((c.u - yaw) / 0.04) ** 2) - ((c.v - tip + 0.04) / 0.05) ** 2))
    line(c, 0.02, 0.2, stroke(c, yaw, tip + 0.035, w * 1.1, -0.02))


def draw_mouth(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Lips that grow thinner and paler, their corners up in a smile and down with age."""
    w, u0, v0 = f["mouth_w"] * (1 + 0.18 * max(f["smile"], 0)), f["yaw"] * 1.2, f["mouth_v"]
    curve = -0.07 * f["smile"] + 0.035 * f["sag"]
    across, t = stroke(c, u0, v0, w, curve)
    body = np.clip(1 - t * t, 0, 1)
    red = rng.uniform(0.3, 0.8) if f["male"] < 0.5 and f["shape_age"] > 15 else 0.15
    lip = mix(skin * np.array([0.9, 0.62, 0.6], np.float32), colour((176, 40, 52)), red * (1 - 0.5 * f["sag"]))
    lip = mix(lip, skin * 0.85, 0.45 * f["sag"])
    gap = 0.05 * max(f["smile"], 0) * (f["teeth"] < 0.4)
    upper = f["lips"] * body * (1 - 0.22 * np.exp(-((t / 0.16) ** 2)))
    lower = f["lips"] * 1.25 * body + gap * body
    c.paint(lip, np.maximum(np.maximum(-across - upper, across - lower), (np.abs(t) - 1) * w), 0.9, soft=1.5)
    if gap > 0.015:
        c.paint(colour((238, 232, 220)) * (1 - 0.2 * f["sag"]), np.maximum(np.abs(across - gap * body / 2) - gap * body / 2, (np.abs(t) - 0.95) * w))
    line(c, 0.012, 0.6, (across - gap * body, t))
    line(c, 0.03, 0.16, stroke(c, u0, v0 + 0.11, w * 0.6, -0.02))


def strands(c: Canvas, f: dict[str, float], hair: np.ndarray, grey: float, rng: np.random.Generator) -> np.ndarray:
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


def draw_front_hair(c: Canvas, f: dict[str, float], hair: np.ndarray, rng: np.random.Generator) -> None:
    """The cap of hair above a hairline that goes back, at the temples first, and thins; sparse in babies."""
    bald = ramp(f["hair_age"], 24 + 14 * f["bald"], 82 + 20 * f["bald"]) * f["male"] * (0.5 + 0.5 * (f["bald"] < 0.7))
    thin = ramp(f["hair_age"], 45, 95)
    volume = 0.02 + 0.10 * rng.uniform(0.3, 1) * (1 - 0.6 * thin) * (1 - 0.8 * f["child"]) + 0.05 * f["curl"] * (1 - f["child"])
    t = np.abs(c.u) / f["W"]
    part = rng.choice([-1, 1]) * rng.uniform(0, 0.12) * c.u / f["W"]
    fringe = rng.uniform(0.02, 0.2) * (1 - bald) if rng.random() < 0.45 else 0.0
    top = -0.56 * f["H"] / 0.83 - 0.16 * f["child"] * (1 - ramp(f["shape_age"], 0, 4)) + fringe - 0.05 * thin
    edge = top - 0.40 * bald + 0.55 * t**4 + part - 0.25 * bald * np.exp(-(((t - 0.55) / 0.25) ** 2))
    edge = edge + 0.02 * noise(rng, len(c.x), (16, 3))
    outer = (c.cache["head"] - 1) * f["W"] - volume + 0.02 * f["curl"] * noise(rng, len(c.x), (12, 12))
    sideburn = np.maximum(c.v - f["eye_v"] - 0.05, 0.9 - t) if f["male"] > 0.5 else np.float32(9)
    cover = (1 - 0.75 * (1 - ramp(f["shape_age"], 0.3, 4.5))) * (1 - 0.25 * thin)
    c.paint(hair, np.maximum(np.minimum(np.maximum(c.v - edge, -9), np.maximum(sideburn, 0.88 - c.cache["head"])), outer), cover, soft=3)


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


def draw_extras(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """Glasses, more often with age, and now and then a hat."""
    if f["glasses"] < 0.06 + 0.26 * ramp(f["shape_age"], 38, 75) and rng.random() < 0.7 and f["shape_age"] > 6:
        frame = np.clip(rng.uniform(0.05, 0.5) + rng.normal(0, 0.05, 3), 0, 1)
        r, thick = rng.uniform(0.15, 0.19), rng.uniform(0.01, 0.022)
        rings = [np.abs(ellipse(c, s * f["gap"] + f["yaw"], f["eye_v"] + 0.02, r, r * 0.85)) for s in (-1, 1)]
        bridge = np.maximum(np.abs(c.v - f["eye_v"]), np.abs(c.u - f["yaw"]) - f["gap"] + r) + 0
        c.paint(frame, np.minimum(np.minimum(*rings), bridge) - thick, 0.9)
    if rng.random() < 0.05:
        shade = np.clip(rng.uniform(0.1, 0.8) + rng.normal(0, 0.1, 3), 0, 1)
        brim = -0.5 * f["H"] / 0.83 + rng.normal(0, 0.04)
        crown = np.maximum(ellipse(c, 0, -0.55, f["W"] * 1.12, 0.62), c.v - brim)
        c.paint(shade, np.minimum(crown, ellipse(c, 0, brim, f["W"] * rng.uniform(1.1, 1.5), 0.06)), soft=2)


# ---- the photograph -----------------------------------------------------------------------------------------------


def photograph(c: Canvas, rng: np.random.Generator) -> Image.Image:
    """What camera, film and print add: light, colour, contrast, grey-scale, blur and grain."""
    gain = rng.uniform(0.72, 1.2) * (1 + rng.normal(0, 0.05, 3))
    slope = 1 + 0.2 * rng.normal() * c.x + 0.1 * rng.normal() * c.y
    picture = (c.rgb - 0.5) * rng.uniform(0.75, 1.15) + 0.5
    picture = picture * gain[:, None, None].astype(np.float32) * slope
    if rng.random() < 0.32:
        tint = np.array([1.0, 0.97, 0.9]) if rng.random() < 0.3 else np.ones(3)
        luma = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), picture, 1)
        picture = luma[None] * tint[:, None, None].astype(np.float32)
    picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(rng.gamma(1.5, 0.012))
    image = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy())
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9) * image.width / 96))
    return image


def draw(face: Face, index: int, seed: int, size: int) -> tuple[Image.Image, int]:
    """The picture of one face, and the JPEG quality that it is stored with."""
    person, rng = (np.random.default_rng([seed, kind, key]) for kind, key in ((1, face.person), (2, index)))
    fixed = traits(person, face.male)
    f = looks(fixed, apparent_ages(face.age, person, rng), rng)
    skin, (hair, grey) = skin_colour(f), hair_colour(f, rng)
    c = new_canvas(size, f, rng)
    draw_background(c, rng)
    streaked = strands(c, f, hair, grey, rng)
    draw_back_hair(c, f, streaked, rng)
    draw_body(c, f, skin, rng)
    draw_head(c, f, skin, rng)
    draw_wrinkles(c, f, rng)
    draw_eyes(c, f, skin, hair)
    draw_nose(c, f, skin)
    draw_beard(c, f, streaked, rng)
    draw_mouth(c, f, skin, rng)
    draw_front_hair(c, f, streaked, rng)
    draw_extras(c, f, rng)
    return photograph(c, rng), int(rng.integers(60, 96))


def save(job: tuple[Path, Face, int, int, int]) -> None:
    """Draw one face and write it; the unit of work of a process pool."""
    folder, face, index, seed, size = job
    image, quality = draw(face, index, seed, size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    target = folder / face.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())


def contact_sheet(pictures: list[tuple[Path, int]], out: Path, columns: int = 12, side: int = 88) -> None:
    """A PNG of the given pictures in order of age, the age below each."""
    ordered = sorted(pictures, key=lambda item: item[1])
    rows = -(-len(ordered) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + 18)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (path, age) in enumerate(ordered):
        x, y = k % columns * (side + 4) + 2, k // columns * (side + 18) + 2
        with Image.open(path) as image:
            sheet.paste(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y))
        pen.text((x + side // 2, y + side + 1), str(age), fill="black", anchor="ma")
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(out, optimize=True)
