"""Which samples make up each batch: a function of the seed and the step, so a resumed run draws the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from common.task import Draw, Split

TRAINING, STATISTICS = 0, 1  # what an epoch's draws are for: each has random numbers of its own
STRETCH = 32  # batches that are sorted by length together


def epoch_draws(split: Split, batch_size: int, seed: int, epoch: int, purpose: int = TRAINING) -> list[Draw]:
    """The batches of one epoch: every sample once, in random order.

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
    return [Draw(indices, int(rng.integers(2**31))) for indices in batches]


def training_draws(split: Split, batch_size: int, seed: int, step: int) -> Iterator[Draw]:
    """The draws of training from `step` on, without end."""
    steps_per_epoch = math.ceil(len(split) / batch_size)
    first, skip = divmod(step, steps_per_epoch)
    yield from epoch_draws(split, batch_size, seed, first)[skip:]
    for epoch in itertools.count(first + 1):
        yield from epoch_draws(split, batch_size, seed, epoch)


def evaluation_draws(split: Split, batch_size: int) -> list[Draw]:
    """Every sample once, samples of like length together; nothing is random."""
    order = np.arange(len(split))
    if split.lengths is not None:
        order = np.argsort(split.lengths, kind="stable")
    return [Draw(indices, 0) for indices in _chunks(order, batch_size)]


def _chunks(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
