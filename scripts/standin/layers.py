"""Draw the layers of a face but its hair, from back to front."""

from __future__ import annotations

import numpy as np
from standin.canvas import Canvas, blob, colour, ellipse, fold, line, mix, noise, ramp, stroke
from standin.looks import IRIS


def new_canvas(size: int, f: dict[str, float], rng: np.random.Generator) -> Canvas:
    """An empty picture with the face turned, moved and scaled in it."""
    x, y = np.meshgrid(*[((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)] * 2)
    angle, scale = rng.normal(0, 0.09), 1.2 + rng.normal(0, 0.06) - 0.03 * f["child"]
    dx, dy = rng.normal(0, 0.05, 2)
    cos, sin = np.float32(scale * np.cos(angle)), np.float32(scale * np.sin(angle))
    u, v = (x - np.float32(dx)), (y - np.float32(dy + 0.04))
    blank = np.zeros((3, size, size), np.float32)
    return Canvas(blank, x, y, cos * u + sin * v, cos * v - sin * u, 2 / size * scale)


def draw_background(c: Canvas, rng: np.random.Generator) -> None:
    """Two colours, a gradient between them, and some blur of a room or a street behind."""
    one, two = rng.uniform(0.08, 0.92, (2, 1)) + rng.normal(0, 0.08, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    gradient = 0.5 + 0.4 * (np.cos(angle) * c.x + np.sin(angle) * c.y)
    strength, cells = rng.uniform(0, 0.35), (int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    share = np.clip(gradient + strength * noise(rng, len(c.x), cells), 0, 1).astype(np.float32)
    c.rgb[:] = np.clip(one, 0, 1)[:, None, None].astype(np.float32) * (1 - share)
    c.rgb += np.clip(two, 0, 1)[:, None, None].astype(np.float32) * share


def draw_body(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Clothes and neck; a child's neck is thin and its shoulders narrow."""
    clothes = np.clip(rng.uniform(0.05, 0.9) + rng.normal(0, 0.12, 3), 0, 1)
    broad = 0.78 - 0.2 * f["child"] + 0.12 * f["grown_male"]
    c.paint(clothes, ellipse(c, 0, 1.42, broad + 0.35, 0.52), soft=2)
    neck = (0.62 - 0.16 * f["child"] + 0.1 * f["grown_male"]) * f["W"]
    below = np.hypot(c.u, c.v - 0.6) - 0.55 - 0.02 * f["child"]
    c.paint(skin * 0.74, np.maximum(np.abs(c.u) - neck, below), soft=2)
    if f["skin_age"] > 40:
        for side in (-1, 1):
            strength = 0.35 * ramp(f["skin_age"], 45, 85)
            fold(c, 0.02, strength, side * 0.13, 0.98, 0.2, 0.02, 0.03 * side, upright=True)


def head_field(c: Canvas, f: dict[str, float]) -> np.ndarray:
    """Radius over the head's own: below 1 inside. A round skull, and cheeks that narrow to a chin."""
    down = np.clip(c.v / f["H"], 0, 1)
    jaw = 0.20 - 0.09 * f["child"] - 0.05 * f["grown_male"] - 0.10 * f["sag"]
    jaw = jaw + float(np.clip(f["jaw"], -0.1, 0.1))
    width = f["W"] * (1 - jaw * down**1.5 - 0.10 * np.clip(down - 0.72, 0, 1) * (1 - f["child"]))
    width = width * (1 + 0.06 * f["child"] * np.exp(-(((c.v - 0.32) / 0.22) ** 2)))
    width = width + 0.045 * f["sag"] * np.exp(-(((c.v - 0.60 * f["H"] / 0.8) / 0.14) ** 2))
    height = np.where(c.v < 0, f["H"] * (0.97 + 0.06 * f["child"]), f["H"])
    return ((np.abs(c.u) / width) ** 2.25 + (np.abs(c.v) / height) ** 2.25) ** np.float32(1 / 2.25)


def draw_head(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Ears and head, with light, blush, hollow cheeks and the texture of the skin."""
    ear = (0.13 - 0.02 * f["child"] + 0.05 * f["shape_age"] / 100) * (1 + f["ears"])
    for side in (-1, 1):
        c.paint(skin * 0.86, ellipse(c, side * (f["W"] + 0.015), f["eye_v"] + 0.12, 0.075, ear), soft=1.5)
    r = c.cache["head"] = head_field(c, f)
    inside = c.cache["inside"] = np.clip(0.5 - (r - 1) * f["W"] / (1.3 * c.px), 0, 1)
    c.blend(skin, inside)
    light_head(c, f, rng)
    for side in (-1, 1):
        cheek = blob(c, side * 0.34, 0.28, 0.17, 0.15) * inside
        blush = 0.30 * f["child"] + 0.10 * (1 - ramp(f["skin_age"], 15, 60)) + 0.05
        c.blend(skin * np.array([1.05, 0.76, 0.74], np.float32), cheek * blush)
        c.shade(-0.26 * f["sag"] * blob(c, side * 0.4, 0.42, 0.1, 0.16) * inside)
    draw_skin_texture(c, f, rng)


def light_head(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """The light from one side, on a head as round as an egg."""
    r, inside = c.cache["head"], c.cache["inside"]
    angle, power = rng.normal(0, 0.9), rng.uniform(0.08, 0.34)
    depth = np.sqrt(np.clip(1 - r * r, 0, 1))
    light = np.sin(angle) * c.u / f["W"] - 0.6 * np.cos(angle) * c.v / f["H"]
    c.shade(inside * (power * (light * 0.8 + depth - 0.75) - 0.10 * np.clip(c.v - 0.5, 0, 1)))


def draw_skin_texture(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
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
    age, smile, eye = f["skin_age"], 0.5 + 0.5 * max(f["smile"], 0), f["eye_v"]
    for k in range(4):
        strength = 0.34 * ramp(age, 30 + 7 * k, 88 + 4 * k) * rng.uniform(0.7, 1.2)
        at = eye - 0.24 - 0.085 * k + rng.normal(0, 0.01)
        fold(c, 0.014, strength, rng.normal(0, 0.03), at, 0.26 + 0.12 * ramp(age, 35, 80), 0.03)
    for side in (-1, 1):
        beside_mouth = 0.05 + 0.42 * ramp(age, 22, 85) + 0.08 * smile
        fold(c, 0.018, beside_mouth, side * 0.225, 0.36, 0.17, side * 0.02, side * 0.055, upright=True)
        below_mouth = 0.4 * ramp(age, 42, 90)
        fold(c, 0.016, below_mouth, side * 0.235, 0.59, 0.12, side * 0.015, upright=True)
        frown = 0.3 * ramp(age, 38, 80)
        fold(c, 0.014, frown, side * 0.03, eye - 0.1, 0.07, 0, side * 0.006, upright=True)
        bag = 0.06 + 0.42 * ramp(age, 28, 85)
        fold(c, 0.018, bag, side * f["gap"], eye + 0.115 + 0.03 * f["sag"], 0.13, -0.035)
        for k in range(3):
            crow = 0.42 * smile * ramp(age, 32 + 4 * k, 82)
            at = eye - 0.03 + 0.05 * k
            fold(c, 0.010, crow, side * (f["gap"] + 0.2), at, 0.075, 0.005, side * 0.03 * (k - 1))
    for k in range(-3, 4):
        above_lips = 0.32 * ramp(age, 55, 95)
        fold(c, 0.008, above_lips, 0.05 * k, f["mouth_v"] - 0.075, 0.045, 0, 0.004 * k, upright=True)


def draw_eyes(c: Canvas, f: dict[str, float], hair: np.ndarray) -> None:
    """Both eyes in their sockets, the creases of the upper lids, and the brows."""
    sockets = -0.2 * (1 - 0.6 * f["child"])
    for side in (-1, 1):
        u, v = side * f["gap"] + f["yaw"], f["eye_v"]
        c.shade(sockets * np.exp(-(((c.u - u) / 0.15) ** 2) - ((c.v - v + 0.04) / 0.1) ** 2))
        b = draw_eyeball(c, f, side, u, v)
        if f["tissue_age"] > 18:
            hooded, at = 0.5 * ramp(f["tissue_age"], 18, 80), v - b - 0.035 + 0.02 * f["sag"]
            fold(c, 0.014, hooded, u, at, f["eye_a"] * 1.1, 0.045, side * 0.03 * f["sag"])
        draw_brow(c, f, hair, side)


def draw_eyeball(c: Canvas, f: dict[str, float], side: int, u: float, v: float) -> float:
    """White, iris, pupil, glint and lashes between lids that come down; returns how far they are open."""
    a = f["eye_a"]
    b = a * max(f["open"], 0.2)
    t = (c.u - u) / a
    lid = v - b * (1 - t * t) + f["sag"] * 0.035 * np.clip(side * t, 0, 1)
    ends = (np.abs(t) - 1) * a
    ball = np.maximum(np.maximum(lid - c.v, c.v - (v + 0.72 * b * (1 - t * t))), ends)
    c.paint(colour((244, 240, 234)) * (1 - 0.12 * ramp(f["skin_age"], 40, 95)), ball)
    r = a * (0.50 + 0.06 * f["child"])
    disc = np.hypot(c.u - u - a * 0.3 * f["look"], c.v - v + 0.05 * a)
    c.paint(colour(IRIS[int(f["iris"])]), np.maximum(disc - r, ball))
    c.paint(colour((14, 12, 12)), np.maximum(disc - 0.5 * r, ball))
    c.paint(colour((250, 250, 250)), ellipse(c, u + 0.02, v - 0.03, 0.016, 0.016), 0.8)
    lash = 0.012 + 0.008 * (1 - f["male"]) * ramp(f["shape_age"], 12, 20)
    c.paint(colour((34, 24, 22)), np.maximum(np.abs(c.v - lid) - lash, ends), 0.8)
    return b


def draw_brow(c: Canvas, f: dict[str, float], hair: np.ndarray, side: int) -> None:
    """An arc that is thicker towards the nose, grows in youth and sinks later."""
    v = f["eye_v"] - 0.185 + 0.03 * f["child"] + 0.02 * f["sag"]
    across, t = stroke(c, side * (f["gap"] + 0.01) + f["yaw"], v, 0.16, 0.035, side * -0.012)
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
        fold(c, 0.014, 0.3, yaw + side * w, tip - 0.02, 0.045, side * -0.02, 0, upright=True)
    c.shade(0.13 * np.exp(-(((c.u - yaw) / 0.04) ** 2) - ((c.v - tip + 0.04) / 0.05) ** 2))
    fold(c, 0.02, 0.2, yaw, tip + 0.035, w * 1.1, -0.02)


def lip_colour(f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Redder than the skin, more so on most women, and fading with age."""
    red = rng.uniform(0.3, 0.8) if f["male"] < 0.5 and f["shape_age"] > 15 else 0.15
    bare = skin * np.array([0.9, 0.62, 0.6], np.float32)
    lip = mix(bare, colour((176, 40, 52)), red * (1 - 0.5 * f["sag"]))
    return mix(lip, skin * 0.85, 0.45 * f["sag"])


def draw_mouth(c: Canvas, f: dict[str, float], skin: np.ndarray, rng: np.random.Generator) -> None:
    """Lips that grow thinner and paler, their corners up in a smile and down with age."""
    w, u0, v0 = f["mouth_w"] * (1 + 0.18 * max(f["smile"], 0)), f["yaw"] * 1.2, f["mouth_v"]
    curve = -0.07 * f["smile"] + 0.035 * f["sag"]
    across, t = stroke(c, u0, v0, w, curve)
    body = np.clip(1 - t * t, 0, 1)
    lip = lip_colour(f, skin, rng)
    gap = 0.05 * max(f["smile"], 0) * (f["teeth"] < 0.4)
    upper = f["lips"] * body * (1 - 0.22 * np.exp(-((t / 0.16) ** 2)))
    lower = f["lips"] * 1.25 * body + gap * body
    c.paint(lip, np.maximum(np.maximum(-across - upper, across - lower), (np.abs(t) - 1) * w), 0.9, soft=1.5)
    if gap > 0.015:
        row = np.maximum(np.abs(across - gap * body / 2) - gap * body / 2, (np.abs(t) - 0.95) * w)
        c.paint(colour((238, 232, 220)) * (1 - 0.2 * f["sag"]), row)
    line(c, 0.012, 0.6, (across - gap * body, t))
    fold(c, 0.03, 0.16, u0, v0 + 0.11, w * 0.6, -0.02)


def draw_extras(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """Glasses, more often with age, and now and then a hat."""
    wears = f["glasses"] < 0.06 + 0.26 * ramp(f["shape_age"], 38, 75)
    if wears and rng.random() < 0.7 and f["shape_age"] > 6:
        draw_glasses(c, f, rng)
    if rng.random() < 0.05:
        draw_hat(c, f, rng)


def draw_glasses(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """Two rings and a bridge."""
    frame = np.clip(rng.uniform(0.05, 0.5) + rng.normal(0, 0.05, 3), 0, 1)
    r, thick = rng.uniform(0.15, 0.19), rng.uniform(0.01, 0.022)
    rings = [np.abs(ellipse(c, s * f["gap"] + f["yaw"], f["eye_v"] + 0.02, r, r * 0.85)) for s in (-1, 1)]
    bridge = np.maximum(np.abs(c.v - f["eye_v"]), np.abs(c.u - f["yaw"]) - f["gap"] + r)
    c.paint(frame, np.minimum(np.minimum(*rings), bridge) - thick, 0.9)


def draw_hat(c: Canvas, f: dict[str, float], rng: np.random.Generator) -> None:
    """A crown and a brim."""
    shade = np.clip(rng.uniform(0.1, 0.8) + rng.normal(0, 0.1, 3), 0, 1)
    brim = -0.5 * f["H"] / 0.83 + rng.normal(0, 0.04)
    crown = np.maximum(ellipse(c, 0, -0.55, f["W"] * 1.12, 0.62), c.v - brim)
    c.paint(shade, np.minimum(crown, ellipse(c, 0, brim, f["W"] * rng.uniform(1.1, 1.5), 0.06)), soft=2)
