"""Procedural faces: drawings whose look changes with age, to stand in for photographs.

Everything that changes with age changes smoothly, and each group of cues (proportions, skin, hair, soft
tissue) shows an age of its own that differs from the label by about four years: partly a trait of the person,
partly of the picture. So neighbouring ages look alike, and no single cue gives the age away. The numbers were
set by looking at the drawings; no method was trained to choose them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from standin.canvas import Canvas
from standin.hair import draw_back_hair, draw_beard, draw_front_hair, strands
from standin.layers import (
    draw_background,
    draw_body,
    draw_extras,
    draw_eyes,
    draw_head,
    draw_mouth,
    draw_nose,
    draw_wrinkles,
    new_canvas,
)
from standin.looks import apparent_ages, hair_colour, looks, skin_colour, traits


class Face(NamedTuple):
    """One picture to be drawn: who, at which age, and the keys of what chance adds."""

    path: str
    age: int
    person: int
    male: bool


def photograph(c: Canvas, rng: np.random.Generator) -> Image.Image:
    """What camera, film and print add: light, colour, contrast, grey-scale, blur and grain."""
    gain = rng.uniform(0.72, 1.2) * (1 + rng.normal(0, 0.05, 3))
    slope = 1 + 0.2 * rng.normal() * c.x + 0.1 * rng.normal() * c.y
    picture = (c.rgb - 0.5) * rng.uniform(0.75, 1.15) + 0.5
    picture = picture * gain[:, None, None].astype(np.float32) * slope
    if rng.random() < 0.32:
        picture = grey_print(picture, rng)
    picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(rng.gamma(1.5, 0.012))
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    image = Image.fromarray(pixels.transpose(1, 2, 0).copy())
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9) * image.width / 96))
    return image


def grey_print(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A black-and-white print, now and then yellowed."""
    tint = np.array([1.0, 0.97, 0.9]) if rng.random() < 0.3 else np.ones(3)
    luma = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), picture, 1)
    return luma[None] * tint[:, None, None].astype(np.float32)


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
    draw_eyes(c, f, hair)
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
