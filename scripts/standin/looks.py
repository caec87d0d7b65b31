"""Who is drawn, and how age shows: traits of a person, apparent ages of each group of cues, colours."""

from __future__ import annotations

import numpy as np
from standin.canvas import colour, mix, ramp

OLDEST = 105  # labels above it exist in IMDB-WIKI, as errors; nobody looks older
CUES = ("shape", "skin", "hair", "tissue")
HAIR = (
    (22, 17, 15), (46, 30, 22), (84, 54, 32), (120, 80, 44), (172, 130, 76), (208, 176, 112), (136, 62, 30),
)  # fmt: skip
IRIS = ((70, 46, 30), (92, 66, 40), (62, 92, 122), (78, 104, 84), (104, 110, 112))
PALE, DARK = (238, 200, 176), (112, 72, 50)


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
        "male": float(male), "width": n(0, 0.028), "height": n(0, 0.03), "gap": n(0, 0.016),
        "nose": n(0, 0.025),
        "nose_w": n(0, 0.013), "mouth": n(0, 0.02), "lips": n(0, 0.16), "brow": n(0, 0.2), "jaw": n(0, 0.06),
        "eye": n(0, 0.05), "tone": rng.beta(1.3, 2.6), "pink": n(0, 0.02), "hair": float(rng.integers(len(HAIR))),
        "iris": float(rng.integers(len(IRIS))), "bald": rng.random(), "beard": rng.random(), "glasses": rng.random(),
        "freckles": rng.random(), "curl": rng.random(), "ears": n(0, 0.1),
    }  # fmt: skip


def looks(t: dict[str, float], ages: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """The measures of one drawing, in units of about half a face: traits, ages and the moment together."""
    shape, tissue, n = ages["shape"], ages["tissue"], rng.normal
    child = float(np.exp(-shape / 7.5)) * 0.75 + 0.25 * (1 - ramp(shape, 4, 19))
    male = t["male"] * ramp(shape, 10, 20)
    drift = shape / 100
    brow = 0.012 + 0.013 * ramp(shape, 2, 20) + 0.012 * male - 0.006 * ramp(tissue, 60, 95)
    return {
        **t, **{f"{k}_age": v for k, v in ages.items()},
        "child": child, "sag": ramp(tissue, 35, 95), "grown_male": male,
        "W": 0.60 + 0.075 * child + t["width"] + 0.02 * male,
        "H": 0.83 - 0.15 * child + t["height"] + 0.02 * male,
        "eye_v": -0.06 + 0.15 * child + 0.02 * drift,
        "gap": 0.255 + 0.015 * child + t["gap"],
        "eye_a": (0.112 + 0.028 * child) * (1 + t["eye"]),
        "open": 0.52 + 0.22 * child - 0.16 * ramp(tissue, 25, 95) + n(0, 0.04),
        "nose_l": 0.30 - 0.13 * child + 0.07 * drift + t["nose"],
        "nose_w": 0.088 - 0.012 * child + 0.03 * drift + t["nose_w"] + 0.01 * male,
        "mouth_v": 0.475 - 0.045 * child + 0.03 * drift,
        "mouth_w": 0.205 - 0.05 * child + 0.02 * drift + t["mouth"],
        "lips": (0.058 - 0.012 * child - 0.034 * tissue / 100) * (1 + t["lips"]) * (1.12 - 0.2 * male),
        "brow": brow * (1 + t["brow"]),
        "smile": rng.uniform(-0.25, 1), "yaw": n(0, 0.05), "look": n(0, 0.15), "teeth": rng.random(),
    }  # fmt: skip


def skin_colour(f: dict[str, float]) -> np.ndarray:
    """The person's tone; rosy in babies, sallow and spotted later on."""
    base = mix(colour(PALE), colour(DARK), f["tone"])
    rosy, sallow = f["child"] * 0.05 + f["pink"], ramp(f["skin_age"], 20, 95)
    grey = base.mean() * colour((236, 214, 190)) / 0.83
    faded = mix(base, grey, 0.42 * sallow) * (1.03 - 0.09 * sallow)
    return np.clip(faded + np.array([rosy, -rosy / 3, 0], np.float32), 0, 1)


def hair_colour(f: dict[str, float], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The colour, light in small children and grey between 40 and 80, and how grey it is."""
    natural = mix(colour(HAIR[int(f["hair"])]), colour((206, 172, 120)), 0.5 * f["child"])
    dyed = f["male"] < 0.5 and rng.random() < 0.3
    grey = ramp(f["hair_age"], 36, 84) * (0.55 if dyed else 1.0)
    return mix(natural, colour((214, 212, 208)), grey), grey
