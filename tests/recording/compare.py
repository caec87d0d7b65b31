"""Compare two recordings: everything that the older one holds must be in the newer one, and be equal."""

from __future__ import annotations

import math
from typing import Any

DIGESTS = ("weights", "data", "machine")  # equal only on one machine


def differences(old: Any, new: Any, where: str = "", *, tolerance: float | None = None) -> list[str]:
    """List what differs, one line each.

    Tables may gain keys, so what only `new` holds is no difference; lists of file names are compared whole.
    With a `tolerance`, numbers may differ by it (relative, and absolute below 1), and digests are left out.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in old if tolerance is None or key not in DIGESTS]
        lines = [f"{where}/{key}: is missing" for key in keys if key not in new]
        both = [key for key in keys if key in new]
        return lines + [
            line
            for key in both
            for line in differences(old[key], new[key], f"{where}/{key}".lstrip("/"), tolerance=tolerance)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [
            line for i, (a, b) in pairs for line in differences(a, b, f"{where}[{i}]", tolerance=tolerance)
        ]
    return [] if same(old, new, tolerance) else [f"{where}: was {old!r}, is {new!r}"]


def same(old: Any, new: Any, tolerance: float | None) -> bool:
    """Tell whether two values are equal; NaN equals NaN, and numbers may differ by the tolerance."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
    if not numbers:
        return type(old) is type(new) and old == new
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) and math.isnan(new)
    return abs(old - new) <= (tolerance or 0) * max(1, abs(old))
