"""The sentence-pair encoder of STS-B-DIR: a BiLSTM with max pooling (paper, appendix B.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from sts_lstm import SentenceLSTM, packed_like, steps_and_rows
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class Highway(nn.Linear):
    """One highway layer (Srivastava et al., 2015): a gated mix of its input and a ReLU of it.

    A Linear itself, so that its keys are the published ones.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 2 * dim)
        nn.init.ones_(self.bias[dim:])  # begin by carrying the input through

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new, gate = super().forward(x).chunk(2, dim=-1)
        return torch.lerp(torch.relu(new), x, torch.sigmoid(gate))


class Mix(NamedTuple):
    """What makes sentences synthetic ones: the tokens `(m, T)` of others, their share, and noise to add."""

    tokens: torch.Tensor
    share: torch.Tensor  # (m, 1, 1), 0 for a sentence that stays itself
    noise: torch.Tensor  # (m, T, d_word)


class PairEncoder(nn.Module):
    """Features `[u; v; |u - v|; u * v]` of a pair, where u and v are its sentences' max-pooled BiLSTM states.

    Dropout is on the embeddings and on the LSTM's outputs, as published, and draws for tokens, not for
    padding. `word_vectors` `(V, d_word)` are frozen unless `train_words`; row 0 is padding.
    """

    def __init__(
        self,
        word_vectors: torch.Tensor,
        d_hid: int,
        n_layers: int,
        dropout: float,
        *,
        train_words: bool = False,
        n_highway: int = 0,
    ) -> None:
        super().__init__()
        d_word = word_vectors.shape[1]
        self.embedding = nn.Embedding.from_pretrained(word_vectors, freeze=not train_words, padding_idx=0)
        self.highway = nn.ModuleList([Highway(d_word) for _ in range(n_highway)])
        self.lstm = SentenceLSTM(d_word, d_hid, n_layers)
        self.dropout = nn.Dropout(dropout)
        self.feature_dim = 8 * d_hid

    def forward(self, inputs: tuple) -> torch.Tensor:
        """`(tokens (2n, T), lengths (2n,) on the CPU)`, first sentences above second -> `(n, 8 d_hid)`.

        A `Mix` of all 2n sentences may follow.
        """
        u, v = self.encode(*inputs).chunk(2)
        return torch.cat([u, v, (u - v).abs(), u * v], dim=1)

    def encode(self, tokens: torch.Tensor, lengths: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """Each sentence's maximum over its real tokens, `(m, 2 d_hid)`."""
        inputs = tokens if mix is None else self.mixed(tokens, mix)
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        words = self.embedding(packed.data) if mix is None else packed.data
        for layer in self.highway:
            words = layer(words)
        states = self.lstm(packed_like(packed, self.dropout(words)))
        return _max_over_tokens(packed_like(packed, self.dropout(states.data)))

    def mixed(self, tokens: torch.Tensor, mix: Mix) -> torch.Tensor:
        """The word vectors of synthetic sentences, `(m, T, d_word)`; padding counts as zeros."""
        # Not only by padding_idx: its row is zero in GloVe's vectors, but not in ones from scratch.
        mine, theirs = (
            self.embedding(t) * (t != self.embedding.padding_idx)[..., None] for t in (tokens, mix.tokens)
        )
        return torch.lerp(mine, theirs, mix.share) + mix.noise


def _max_over_tokens(packed: PackedSequence) -> torch.Tensor:
    """The maximum of each sequence, `(m, C)`, in the order before packing.

    One scatter in place of `pad_packed_sequence`, whose backward fills a whole tensor for every time step.
    """
    sizes, (step, row) = packed.batch_sizes, steps_and_rows(packed)
    padded = packed.data.new_full((len(sizes), int(sizes[0]), packed.data.shape[1]), -torch.inf)
    where = (step.to(padded.device), row.to(padded.device))
    return padded.index_put(where, packed.data).max(dim=0).values[packed.unsorted_indices]
