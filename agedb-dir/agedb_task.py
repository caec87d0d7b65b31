"""AgeDB-DIR as a `Task` (paper, section 4.1, Table 2); what it shares with other images is in `common.images`."""

import json

import numpy as np

from common.cli import ROOT
from common.images.task import image_task

HISTOGRAM = ROOT / "data" / "histograms.json"  # images of each age, before the split
HELD_OUT = 30  # images of an age at most, for validation as for testing


def published_labels() -> np.ndarray:
    """Return the training labels of the published split: of each age, what its validation and test rows leave."""
    rows_of = json.loads(HISTOGRAM.read_text(encoding="utf-8"))["agedb"]
    ages = np.array([int(age) for age in rows_of], np.float32)
    return np.repeat(ages, [rows - 2 * min(rows // 3, HELD_OUT) for rows in rows_of.values()])


TASK = image_task(
    "agedb",
    "AgeDB-DIR",
    bucket_start=3,
    source="AgeDB comes on request: python scripts/download.py agedb says how, and python "
    "scripts/prepare.py agedb writes its CSV, or draw a stand-in with python scripts/make_standin.py agedb",
    published=published_labels,
)
