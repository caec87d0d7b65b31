"""Sentence pairs as batches: word indices of both sentences, padded to the longest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from common.task import Batch, Draw

if TYPE_CHECKING:
    from common.methods.resample import Plan

PADDING = 0  # the word index of padding
Ids = Sequence[Sequence[int]]  # word indices, sentence by sentence


class PairSplit:
    """A `common.task.Split` of sentence pairs: batches of both sentences, stacked, padded to the longest."""

    augments: ClassVar[bool] = False

    def __init__(
        self, first: Ids, second: Ids, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Word indices of N pairs, labels and weights `(N,)`; ValueError for other sizes, or no token."""
        if len({len(column) for column in (first, second, labels, weights) if column is not None}) > 1:
            raise ValueError("sentences, labels and weights differ in number")
        self.first, self.second = first, second
        sentences = [torch.tensor(sentence, dtype=torch.int64) for sentence in chain(first, second)]
        if not sentences or not all(map(len, sentences)):
            raise ValueError("a split needs at least one pair, and each sentence at least one token")
        self._tokens = pad_sequence(sentences, True, PADDING).reshape(2, len(first), -1)
        self._lengths = torch.tensor([len(sentence) for sentence in sentences]).reshape(2, -1)
        self.labels = np.asarray(labels, np.float32)  # (N,)
        self.lengths: np.ndarray | None = self._lengths.sum(0).numpy()  # int64 (N,), tokens of both sentences
        self._targets = torch.tensor(self.labels)[:, None]
        self.weights = weights  # float32 (N,) or None
        self.word_vectors: Callable[[], torch.Tensor] | None = (
            None  # of its vocabulary, where it is resampled
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, range]:
        """What names each pair in `predictions.csv`: its row in the TSV, from 1 after the header."""
        return "row", range(1, len(self) + 1)

    def weighted(self, weights: np.ndarray) -> PairSplit:
        """Return this split with weights of the loss, float32 `(N,)`."""
        other = copy.copy(self)
        other.weights = weights
        return other

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> PairSplit:
        """Return the split of mixed pairs that `plan` makes from the features of `rows`."""
        from sts_resample import resample_pairs  # which is made of this class

        assert self.word_vectors is not None
        return resample_pairs(self, self.word_vectors(), rows, plan)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """Inputs are the tokens, int64 `(2n, T)`, first sentences above second, and their lengths `(2n,)`.

        Lengths stay on the CPU for `pack_padded_sequence`; `augment` is unused, text has no augmentation.
        """
        tokens, targets = self._tokens.to(device), self._targets.to(device)
        weights = None
        if self.weights is not None:
            weights = torch.tensor(self.weights, dtype=torch.float32, device=device)[:, None]
        for draw in draws:
            indices = torch.tensor(draw.indices)
            lengths = self._lengths[:, indices].reshape(-1)
            chosen = indices.to(device)
            stacked = tokens[:, chosen, : int(lengths.max())].reshape(len(lengths), -1)
            yield Batch((stacked, lengths), targets[chosen], None if weights is None else weights[chosen])
