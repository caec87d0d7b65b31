"""The LSTM of STS-B-DIR: over sentences of different lengths, as fast as over sentences of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

BLOCK = 128  # sentences padded together: more make more padding, fewer make slower products at 1,500 units


class Layout(NamedTuple):
    """Where the tokens of packed sentences stand in padded blocks of sentences of like length."""

    shapes: list[tuple[int, int]]  # (longest, sentences) of each block
    places: tuple[torch.Tensor, torch.Tensor]  # of each token, read from the first on and from the last on


class SentenceLSTM(nn.LSTM):
    """A bidirectional LSTM on packed sentences, equal to `nn.LSTM`; on the CPU it runs on padded blocks.

    oneDNN has no packed form, and torch's own kernels take longer. Each direction reads a sentence in its own
    order, so padding comes after the tokens and reaches none of their states.
    """

    def __init__(self, d_word: int, d_hid: int, n_layers: int) -> None:
        super().__init__(d_word, d_hid, n_layers, bidirectional=True)

    def forward(self, packed: PackedSequence) -> PackedSequence:  # type: ignore[override]
        """Return the states of all tokens, `(N, 2 d_hid)`, packed alike."""
        if packed.data.is_cuda:  # cuDNN takes packed sentences as they are, without padding
            return nn.LSTM.forward(self, packed)[0]
        layout, states = layout_of(packed), packed.data
        for layer in range(self.num_layers):
            weights = self.all_weights[2 * layer : 2 * layer + 2]
            directions = zip(weights, layout.places, strict=True)
            states = torch.cat([_states(states, layout.shapes, place, w) for w, place in directions], dim=1)
        return packed_like(packed, states)


def _states(
    words: torch.Tensor, shapes: list[tuple[int, int]], place: torch.Tensor, weights: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the states of one direction of a layer, `(N, d_hid)`, for words `(N, d)`."""
    areas = [longest * sentences for longest, sentences in shapes]
    padded = words.new_zeros(sum(areas), words.shape[1]).index_copy(0, place, words)
    blocks = [block.view(*shape, -1) for block, shape in zip(padded.split(areas), shapes, strict=True)]
    return torch.cat([_lstm(block, weights).flatten(0, 1) for block in blocks]).index_select(0, place)


def _lstm(words: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the states `(T, n, d_hid)` of sentences of one length, `(T, n, d)`."""
    start = words.new_zeros(1, words.shape[1], weights[1].shape[1])
    # oneDNN keeps what the backward pass needs if told to train, which an encoder in eval mode needs as well.
    train = torch.is_grad_enabled()
    return torch.lstm(words, (start, start), tuple(weights), True, 1, 0.0, train, False, False)[0]


def layout_of(packed: PackedSequence) -> Layout:
    """Return the padded blocks for packed sentences, which stand longest first."""
    step, row = steps_and_rows(packed)
    lengths = torch.bincount(row)
    begins = torch.arange(0, len(lengths), BLOCK)
    longest, sentences = lengths[begins], torch.diff(begins, append=torch.tensor([len(lengths)]))
    areas, block = longest * sentences, row // BLOCK
    first = (areas.cumsum(0) - areas)[block] + row % BLOCK
    shapes = list(zip(longest.tolist(), sentences.tolist(), strict=True))
    width = sentences[block]
    return Layout(shapes, (first + step * width, first + (lengths[row] - 1 - step) * width))


def steps_and_rows(packed: PackedSequence) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place of each token in its sentence, and the place of that sentence by length, both `(N,)`."""
    sizes = packed.batch_sizes
    step = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return step, torch.arange(len(step)) - (sizes.cumsum(0) - sizes)[step]


def packed_like(packed: PackedSequence, data: torch.Tensor) -> PackedSequence:
    """Return other data `(N, ...)` of the same sentences."""
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
