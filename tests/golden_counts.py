"""The label counts behind the golden numbers, from the committed files alone."""

import json

import numpy as np

from common.cli import ROOT

HISTOGRAMS = json.loads((ROOT / "data" / "histograms.json").read_text())


def agedb_train_counts():
    """Training images of each age 0 to 120: the published split takes a third, at most 30, twice."""
    counts = np.zeros(121, np.int64)
    for age, rows in HISTOGRAMS["agedb"].items():
        counts[int(age)] = rows - 2 * min(rows // 3, 30)
    return counts


def sts_train_counts():
    """Training pairs in each of the 50 bins."""
    return np.array(HISTOGRAMS["sts-b"], np.int64)


def nyud2_train_counts():
    """Training pixels in each of the 100 bins."""
    return np.array(json.loads((ROOT / "data" / "nyud2_counts.json").read_text())["counts"], np.int64)


def labels_with(counts, bins):
    """One label in the middle of its bin for each count, float32, bins in ascending order."""
    return np.repeat(bins.left_edges + bins.width / 2, counts).astype(np.float32)
