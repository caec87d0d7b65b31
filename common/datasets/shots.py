"""Shots of ages, and of other labels that are binned as ages are (paper, section 4.1)."""

from __future__ import annotations

import numpy as np

from common.bins import Bins
from common.datasets.faces import LAST_AGE, LIMITS
from common.datasets.standin import Standin
from common.errors import UserError
from common.metrics import Shots

AGES = Bins.integers(0, LAST_AGE)
MANY_ABOVE, FEW_BELOW = 100, 20  # the published shots; a stand-in brings its own


def shots_of(
    labels: np.ndarray, bins: Bins, standin: Standin, many_above: float | None, few_below: float | None
) -> Shots:
    """Return the shots that training labels define, with the thresholds given, the stand-in's, or the paper's."""
    # LDS and re-weighting pool ages above 120; the published shots count every age by itself.
    shot_bins = Bins.integers(0, int(LIMITS[1])) if bins == AGES else bins
    many = _first_given(many_above, standin.many_above, MANY_ABOVE)
    few = _first_given(few_below, standin.few_below, FEW_BELOW)
    if many < few:
        raise UserError(
            f"--many_above {many:g} is below --few_below {few:g}; give both, the greater to --many_above"
        )
    return Shots(shot_bins, shot_bins.counts(labels), many, few)


def _first_given(*values: float | None) -> float:
    return next(value for value in values if value is not None)
