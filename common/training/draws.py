"""The samples of each batch: a function of the seed and the step, so that a resumed run draws the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from common.task import Draw, Split

TRAINING, EXTRA_PASS = 0, 1  # each purpose has random numbers of its own
STRETCH = 32  # batches that are sorted by length together


def epoch_draws(
    split: Split, batch_size: int, seed: int, epoch: int, purpose: int = TRAINING, *, views: int = 1
) -> list[Draw]:
    """Return the batches of one epoch: every sample once, in random order.

    With `views`, the indices of each batch are there that many times, one view after the other.
    Where samples differ in length, the batches are cut from stretches of the random order that are sorted by
    length, then shuffled: little padding, and still a random order.
    """
    rng = np.random.default_rng([seed, purpose, epoch])
    order = rng.permutation(len(split))
    if split.lengths is None:
        batches = _chunks(order, batch_size)
    else:
        stretches = _chunks(order, STRETCH * batch_size)
        by_length = [stretch[np.argsort(split.lengths[stretch], kind="stable")] for stretch in stretches]
        batches = _chunks(np.concatenate(by_length), batch_size)
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return [Draw(np.tile(indices, views), int(rng.integers(2**31))) for indices in batches]


def steps_of_epoch(split: Split, batch_size: int, *, drop_last: bool = False) -> int:
    """Return how many batches an epoch has; with `drop_last`, a smaller last one is left out if it is not alone."""
    whole, rest = divmod(len(split), batch_size)
    return whole if whole and (drop_last or not rest) else whole + 1


def training_draws(
    split: Split, batch_size: int, seed: int, step: int, *, views: int = 1, drop_last: bool = False
) -> Iterator[Draw]:
    """Yield the draws of training from `step` on, without end."""
    first, skip = divmod(step, steps_of_epoch(split, batch_size, drop_last=drop_last))
    for epoch in itertools.count(first):
        draws = epoch_draws(split, batch_size, seed, epoch, views=views)
        if drop_last:
            draws = [draw for draw in draws if len(draw.indices) == views * batch_size] or draws
        yield from draws[skip:]
        skip = 0


def evaluation_draws(split: Split, batch_size: int) -> list[Draw]:
    """Return every sample once, samples of like length together; nothing is random."""
    order = np.arange(len(split))
    if split.lengths is not None:
        order = np.argsort(split.lengths, kind="stable")
    return [Draw(indices, 0) for indices in _chunks(order, batch_size)]


def _chunks(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
