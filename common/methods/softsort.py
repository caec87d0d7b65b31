"""A differentiable sort (Blondel et al., Fast Differentiable Sorting and Ranking, ICML 2020), without a loop."""

from __future__ import annotations

import torch

SAME = 1e-9  # values of a block differ by less, as in the published code


def ascending(values: torch.Tensor) -> torch.Tensor:
    """Return the order of values `(n,)`; of equal ones the later comes first, as in the published sort."""
    return values.neg().argsort(stable=True).flip(0)


def soft_sort(values: torch.Tensor, strength: float) -> torch.Tensor:
    """Return values `(n,)` sorted softly and ascending: v - w, with w_i = (n + 1 - i) / strength.

    v is the non-increasing regression of the sorted values plus w. Within a block of equal v the values are
    replaced by their mean, so that a gradient is the mean over its block.
    """
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    x = values[ascending(values.detach())].to(wide)
    place = torch.arange(len(x), device=x.device)
    block = _blocks(x.detach(), 1 / strength)
    count = torch.bincount(block, minlength=len(x)).clamp(min=1).to(wide)
    means = torch.zeros_like(x).index_add(0, block, x) / count
    middle = torch.zeros_like(x.detach()).index_add(0, block, place.to(wide)) / count
    return (means[block] + (place - middle[block]) / strength).to(values.dtype)


def _blocks(x: torch.Tensor, slope: float) -> torch.Tensor:
    """Return the block of each sorted value in the regression, from v_i = min_(a <= i) max_(b >= i) mean(a … b).

    Memory is O(n^2).
    """
    place = torch.arange(len(x), device=x.device)
    before = torch.cat((x.new_zeros(1), x.cumsum(0)))
    length = place - place[:, None] + 1
    mean = (before[1:] - before[:-1, None]) / length.clamp(min=1) - slope * (place + place[:, None]) / 2
    highest = mean.masked_fill(length < 1, -torch.inf).flip(1).cummax(1).values.flip(1)
    v = highest.masked_fill(length < 1, torch.inf).amin(0)
    apart = v.diff().abs() > max(SAME, 1e-14 * slope * len(x))
    return torch.cat((place[:1] * 0, apart.cumsum(0)))
