"""Head-like volumes whose label changes shape and texture continuously."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from common.datasets.own import label_bins, make_splits

NUMBER = 1000  # of volumes at scale 1
LOW, HIGH = 20.0, 90.0  # limits of a label, which few are near to the upper one


def draw_volumes(folder: Path, args: argparse.Namespace) -> None:
    """Write `volumes.csv` with path, label, subject and split, and the volumes, uint8."""
    rng = np.random.default_rng(args.seed)
    number = max(20, round(NUMBER * args.scale))
    subjects = np.sort(rng.integers(0, max(1, round(number / 1.25)), number))  # some were seen twice
    first = LOW + (HIGH - LOW - 5) * rng.beta(2, 4, number)
    labels = np.round(first[subjects] + rng.uniform(0, 5, number), 1)
    names = [f"s{subject:04d}" for subject in subjects]
    splits = make_splits(labels, label_bins(labels, None, None), names, args.seed)
    (folder / "volumes").mkdir()
    rows = []
    for row, (label, name, split) in enumerate(zip(labels, names, splits, strict=True)):
        path = f"volumes/{row:04d}.npy"
        np.save(folder / path, head(float(label), args.img_size, int(subjects[row]), rng))
        rows.append((path, label, name, split))
    with (folder / "volumes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label", "subject", "split"), *rows])


def head(label: float, side: int, subject: int, rng: np.random.Generator) -> np.ndarray:
    """Return a head, uint8 `(side, side, side)`: with the label, ventricles grow, folds widen and tissue darkens."""
    own, old = np.random.default_rng([subject, 1]), (label - LOW) / (HIGH - LOW)
    radii, centre = own.uniform((0.6, 0.75, 0.7), (0.75, 0.9, 0.85)), rng.uniform(-0.06, 0.06, 3)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, side) - shift for shift in centre], indexing="ij")
    far = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)  # 1 on the skin
    waves = np.sin([12 * x, 11 * y, 13 * z] + own.uniform(0, 6, (3, 1, 1, 1))).prod(0)
    folds = (far > 0.62 - 0.12 * old) & (waves > 0.45 - 0.4 * old)
    ventricles = ((np.abs(x) - 0.12) / 0.1) ** 2 + (y / 0.3) ** 2 + (z / 0.18) ** 2 < 0.3 + 1.5 * old
    volume = np.where(far < 0.85, 150 - 30 * old, 0)
    volume = np.where((far < 0.8) & (folds | ventricles), 40, volume)
    volume = np.where((far >= 0.92) & (far < 1), 220, volume) + rng.normal(0, 8, x.shape)
    return volume.clip(0, 255).astype(np.uint8)
