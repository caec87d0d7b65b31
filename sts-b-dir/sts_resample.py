"""SMOTER and SMOGN on sentence pairs: word vectors are mixed, place by place (paper, appendix B)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import tee

import numpy as np
import torch
from sts_model import Mix
from sts_split import PADDING, PairSplit
from torch.nn import functional as F

from common.methods.resample import NOISE_RATIO, Plan
from common.task import Batch, Draw


class ResampledPairs(PairSplit):
    """A resampled `PairSplit`: a synthetic pair is its seed case's tokens, and the `Mix` of each batch.

    A mixed sentence is as long as the longer of the two; past its end, the shorter one adds zeros. `spread`
    `(d_word,)` is the standard deviation of few-shot words. A pair's noise is the same each time.
    """

    def __init__(self, split: PairSplit, plan: Plan, spread: torch.Tensor) -> None:
        first, second = _chosen(split, plan.first)
        super().__init__(first, second, plan.labels)
        self.plan, self.spread = plan, spread
        first, second = _chosen(split, plan.second)
        self.others = PairSplit(first, second, plan.labels)
        self._lengths = torch.maximum(self._lengths, self.others._lengths)
        self.lengths = self._lengths.sum(0).numpy()
        longest = int(self._lengths.max())
        for side in (self, self.others):
            side._lengths, side._tokens = self._lengths, _padded(side._tokens, longest)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """As `PairSplit`'s; where a pair of the batch is mixed, its inputs have a `Mix` as third part."""
        draws, mine, theirs = tee(draws, 3)
        firsts = super().batches(mine, augment=augment, device=device)
        seconds = self.others.batches(theirs, augment=augment, device=device)
        for draw, batch, other in zip(draws, firsts, seconds, strict=True):
            share, noise = self.plan.share[draw.indices], self.plan.noise[draw.indices]
            if not (share.any() or noise.any()):
                yield batch
                continue
            tokens, lengths = batch.inputs
            shares = torch.from_numpy(np.tile(share, 2))[:, None, None].to(device)
            mix = Mix(other.inputs[0], shares, self._noise(noise, lengths).to(device))
            yield batch._replace(inputs=(tokens, lengths, mix))

    def _noise(self, seeds: np.ndarray, lengths: torch.Tensor) -> torch.Tensor:
        """Float32 `(2n, T, d_word)`, 0 in padding and where there is no seed."""
        noise = torch.zeros(len(lengths), int(lengths.max()), len(self.spread))
        for pair in np.flatnonzero(seeds):
            rng = np.random.default_rng(seeds[pair])
            for row in (pair, pair + len(seeds)):
                words = rng.standard_normal((int(lengths[row]), len(self.spread)), np.float32)
                noise[row, : len(words)] = NOISE_RATIO * self.spread * torch.from_numpy(words)
        return noise


def resample_pairs(
    split: PairSplit, vectors: torch.Tensor, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]
) -> ResampledPairs:
    """Return the split that `plan` makes from the features of `rows`, of word vectors `(V, d_word)`.

    A pair's features are the mean word vectors of both its sentences, one after the other.
    """
    means = [torch.cat([vectors[side[row]].mean(0) for side in (split.first, split.second)]) for row in rows]
    words = [word for row in rows for side in (split.first, split.second) for word in side[row]]
    spread = vectors[words].std(0, correction=0) if words else torch.zeros(vectors.shape[1])
    return ResampledPairs(split, plan(np.array(means, np.float32).reshape(len(rows), -1)), spread)


def _chosen(split: PairSplit, rows: np.ndarray) -> Iterator[list]:
    return ([side[row] for row in rows] for side in (split.first, split.second))


def _padded(tokens: torch.Tensor, length: int) -> torch.Tensor:
    return F.pad(tokens, (0, length - tokens.shape[2]), value=PADDING)
