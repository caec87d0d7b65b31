"""The LSTM of STS-B-DIR against `nn.LSTM` on the same packed sentences."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sts_lstm import BLOCK, SentenceLSTM, layout_of
from sts_model import PairEncoder
from torch import nn
from torch.nn.utils.rnn import pack_sequence

pytestmark = pytest.mark.slow

LENGTHS = {
    "one token": [1],
    "one sentence": [7],
    "equal": [5] * 9,
    "one block": [1, 12, 3, 3, 8],
    "several blocks": np.random.default_rng(0).integers(1, 41, 2 * BLOCK + 5).tolist(),
}


def packed(lengths, dtype=torch.float32):
    torch.manual_seed(1)
    return pack_sequence([torch.randn(n, 10, dtype=dtype) for n in lengths], enforce_sorted=False)


def lstms(n_layers, dtype=torch.float32):
    """Return `nn.LSTM` and this project's, of equal weights."""
    torch.manual_seed(0)
    plain = nn.LSTM(10, 6, n_layers, bidirectional=True).to(dtype)
    ours = SentenceLSTM(10, 6, n_layers).to(dtype)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def states_and_gradients(lstm, sentences):
    """Return the states of all tokens, then the gradients of the words and of each weight."""
    words = sentences.data.clone().requires_grad_()
    states = lstm(sentences._replace(data=words))
    data = (states[0] if type(lstm) is nn.LSTM else states).data
    # As of a mean over tokens: the sum of thousands is beyond 1e-6 in the packed LSTM's own rounding.
    data.backward(torch.cos(torch.arange(data.numel(), dtype=data.dtype)).view_as(data) / len(data))
    return [data.detach(), words.grad, *(weight.grad for weight in lstm.parameters())]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_states_and_gradients_are_those_of_the_packed_lstm(lengths, n_layers, dtype, close, mode):
    sentences = packed(lengths, dtype)
    plain, ours = (states_and_gradients(getattr(lstm, mode)(), sentences) for lstm in lstms(n_layers, dtype))
    for expected, value in zip(plain, ours, strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=close)


def test_states_without_gradients_are_the_same():
    plain, ours = lstms(2)
    sentences = packed(LENGTHS["several blocks"])
    with torch.no_grad():
        torch.testing.assert_close(ours(sentences).data, plain(sentences)[0].data, rtol=0, atol=1e-6)


def test_keys_are_the_published_ones():
    plain, ours = lstms(2)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert "weight_hh_l1_reverse" in ours.state_dict()


def test_blocks_hold_sentences_of_like_length_and_each_token_once():
    lengths = sorted(LENGTHS["several blocks"], reverse=True)
    layout = layout_of(packed(LENGTHS["several blocks"]))
    assert layout.shapes == [(lengths[0], BLOCK), (lengths[BLOCK], BLOCK), (lengths[2 * BLOCK], 5)]
    for place in layout.places:
        assert len(place.unique()) == sum(lengths)
        assert place.min() >= 0 and place.max() < sum(longest * n for longest, n in layout.shapes)


def training_losses(encoder, steps=3):
    """Return the losses of some steps with dropout and Adam, from one state of the random numbers."""
    torch.manual_seed(3)
    head = nn.Linear(encoder.feature_dim, 1).to(encoder.embedding.weight.dtype)
    rng = np.random.default_rng(2)
    weights = [weight for weight in (*encoder.parameters(), *head.parameters()) if weight.requires_grad]
    optimizer, losses = torch.optim.Adam(weights, lr=1e-2), []
    for _ in range(steps):
        lengths = torch.from_numpy(rng.integers(1, 20, 160))
        tokens = torch.from_numpy(rng.integers(1, 50, (160, 20))) * (torch.arange(20) < lengths[:, None])
        loss = (head(encoder((tokens[:, : int(lengths.max())], lengths))) - 2).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_training_draws_the_dropout_of_the_packed_model(dtype, close, monkeypatch):
    torch.manual_seed(0)
    encoder = PairEncoder(torch.randn(50, 10), 6, 2, 0.2, train_words=True).to(dtype)
    ours = training_losses(copy.deepcopy(encoder))
    monkeypatch.setattr(SentenceLSTM, "forward", lambda lstm, sentences: nn.LSTM.forward(lstm, sentences)[0])
    plain = training_losses(encoder)
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, plain, rtol=close)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_states_of_the_processor():
    _, ours = lstms(2)
    sentences = packed(LENGTHS["several blocks"])
    expected = ours(sentences).data
    found = ours.cuda()(sentences.to("cuda")).data.cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
