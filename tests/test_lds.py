"""Bins, kernels and weights against the reference numbers, and their properties."""

import inspect
import json

import numpy as np
import pytest
import torch
from conftest import SHARED
from golden_counts import agedb_train_counts, labels_with, nyud2_train_counts, sts_train_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from common.bins import Bins
from common.fds import FDS
from common.lds import (
    KERNELS,
    PUBLISHED_KERNELS,
    bin_weights,
    get_lds_kernel_window,
    sample_weights,
    smooth_counts,
)

STS_TRAIN = SHARED / "data" / "sts-b" / "train_new.tsv"


def published_key(key):
    reweight, raw_or_lds, kernel, ks, sigma = key.split("|")
    return {
        "reweight": reweight, "lds": raw_or_lds == "lds", "lds_kernel": kernel, "lds_ks": int(ks),
        "lds_sigma": float(sigma),
    }  # fmt: skip


def test_kernels(golden):
    for key, windows in json.loads((golden / "kernels.json").read_text()).items():
        kernel, ks, sigma = key.split("|")
        window = get_lds_kernel_window(kernel, int(ks), float(sigma))
        np.testing.assert_allclose(window, windows["lds"], rtol=1e-6)
        np.testing.assert_allclose(window / window.sum(), windows["fds"], rtol=1e-6)


@given(st.sampled_from(KERNELS), st.integers(0, 10), st.floats(0.3, 9, allow_nan=False))
def test_windows_are_symmetric_with_maximum_1(kernel, half, sigma):
    window = get_lds_kernel_window(kernel, 2 * half + 1, sigma)
    assert len(window) == 2 * half + 1
    assert window.max() == 1 and window.min() >= 0
    if kernel != "gaussian":  # the published filter reflects, and dips in the middle where sigma exceeds ks
        assert window[half] == 1
    np.testing.assert_allclose(window, window[::-1], atol=1e-12)


def cosines(*amplitudes):
    """A sum of cosines over the window, from its middle (0) to its ends (-1 and 1)."""
    return lambda x, ks: sum(a * np.cos(k * np.pi * x) for k, a in enumerate(amplitudes))


def parzen(x, ks):
    at = np.abs(x) * (ks - 1) / ks
    return np.where(at <= (ks - 1) / ks / 2, 1 - 6 * at**2 + 6 * at**3, 2 * (1 - at) ** 3)


def taylor(x, ks, terms=4, decibels=30):
    """Carrara and Goodman, Spotlight Synthetic Aperture Radar, appendix D.2."""
    a2 = (np.arccosh(10 ** (decibels / 20)) / np.pi) ** 2
    scale, m = terms**2 / (a2 + (terms - 0.5) ** 2), np.arange(1, terms)
    window = np.ones(ks)
    for k in m:
        above = np.prod(1 - k**2 / scale / (a2 + (m - 0.5) ** 2))
        below = np.prod([1 - k**2 / j**2 for j in m if j != k])
        window += (-1) ** (k + 1) * above / below * np.cos(np.pi * k * x * (ks - 1) / ks)
    return window


# Of x, from -1 to 1 over the window, and its size; sigma is 2.
FORMULAS = {
    "barthann": lambda x, ks: 0.62 - 0.24 * np.abs(x) + 0.38 * np.cos(np.pi * x),
    "bartlett": lambda x, ks: 1 - np.abs(x),
    "blackman": cosines(0.42, 0.5, 0.08),
    "blackmanharris": cosines(0.35875, 0.48829, 0.14128, 0.01168),
    "bohman": lambda x, ks: (1 - np.abs(x)) * np.cos(np.pi * x) + np.sin(np.pi * np.abs(x)) / np.pi,
    "boxcar": lambda x, ks: np.ones(ks),
    "cosine": lambda x, ks: np.cos(np.pi / 2 * x * (ks - 1) / ks),
    "exponential": lambda x, ks: np.exp(-np.abs(x) * (ks - 1) / 2 / 2),
    "general_gaussian": lambda x, ks: np.exp(-((x * (ks - 1) / 2) ** 2) / 2 / 2**2),
    "hamming": cosines(0.54, 0.46),
    "hann": cosines(0.5, 0.5),
    "lanczos": lambda x, ks: np.sinc(x),
    "nuttall": cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "parzen": parzen,
    "taylor": taylor,
    "tukey": lambda x, ks: np.where(np.abs(x) <= 0.5, 1, (1 - np.cos(2 * np.pi * np.abs(x))) / 2),
}


def test_every_other_window_has_a_formula():
    assert set(FORMULAS) == set(KERNELS) - set(PUBLISHED_KERNELS)


@pytest.mark.parametrize("kernel", FORMULAS)
@pytest.mark.parametrize("ks", [1, 5, 9])
def test_other_windows_are_those_of_their_names(kernel, ks):
    expected = FORMULAS[kernel](np.linspace(-1, 1, ks) if ks > 1 else np.zeros(1), ks)
    ours = get_lds_kernel_window(kernel, ks, 2)
    np.testing.assert_allclose(ours, expected / expected.max(), atol=1e-12)
    in_fds = FDS(2, kernel=kernel, ks=ks, sigma=2).kernel_window
    np.testing.assert_allclose(in_fds, expected / expected.sum(), atol=1e-7)


def test_every_symmetric_window_of_scipy_is_there_unless_it_cannot_be():
    """What is left out asks for a parameter that no flag gives, or is no density."""
    for name in set(signal.windows.__all__) - set(KERNELS):
        parameters = inspect.signature(getattr(signal.windows, name)).parameters.values()
        asked = [parameter for parameter in parameters if parameter.default is parameter.empty]
        assert len(asked) > 1 or getattr(signal.windows, name)(9).min() < -0.01, name


def test_a_true_gaussian():
    window = get_lds_kernel_window("general_gaussian", 5, 2)
    np.testing.assert_allclose(window, [np.exp(-0.5), np.exp(-0.125), 1, np.exp(-0.125), np.exp(-0.5)])


def test_a_window_with_zeros_at_its_ends_smooths_over_the_others():
    counts = np.array([0.0, 0, 8, 0, 0, 0, 4])
    smoothed = smooth_counts(counts, get_lds_kernel_window("hann", 5, 2))
    np.testing.assert_allclose(smoothed, [0, 4, 8, 4, 0, 2, 4], atol=1e-12)


@given(st.sampled_from(KERNELS), st.lists(st.integers(0, 50), min_size=1, max_size=99), st.integers(0, 4))
def test_weights_have_mean_1_under_every_window(kernel, ages, half):
    labels, bins = np.array(ages, np.float32), Bins.integers(0, 60)
    how = {"reweight": "sqrt_inv", "lds": True, "lds_kernel": kernel, "lds_ks": 2 * half + 1}
    weights = sample_weights(labels, bins, **how)
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    "kernel, ks, sigma",
    [
        ("gaussian", 4, 2),
        ("box", 5, 2),
        ("laplace", 5, 0),
        ("triang", -1, 2),
        ("kaiser", 5, 2),
        ("flattop", 5, 2),
        ("hann", 4, 2),
        ("exponential", 5, 0),
        ("general_gaussian", 5, -1),
    ],  # fmt: skip
)
def test_bad_kernels_are_refused(kernel, ks, sigma):
    with pytest.raises(ValueError):
        get_lds_kernel_window(kernel, ks, sigma)


def test_agedb_weights(golden):
    bins, counts = Bins.integers(0, 120), agedb_train_counts()
    labels = labels_with(counts, bins)
    assert len(labels) == 12_208
    for key, published in json.loads((golden / "agedb_weights.json").read_text()).items():
        assert {int(age) for age in published} == set(np.flatnonzero(counts)), key
        ours = sample_weights(labels, bins, clip_counts=(5, 1000), **published_key(key))
        for age, weight in published.items():
            assert ours[labels.astype(int) == int(age)] == pytest.approx(weight, rel=1e-5), (key, age)


def test_sts_weights(golden):
    """The published weights are of the first and the last 200 rows; their four weights say each row's bin."""
    published = json.loads((golden / "sts_weights.json").read_text())
    bins, counts = Bins.uniform(0, 5, 50), sts_train_counts()
    assert published.pop("counts") == counts.tolist()
    labels = labels_with(counts, bins)
    fits = np.ones((400, bins.num), bool)
    for key, weights in published.items():
        ours = sample_weights(labels, bins, **published_key(key))
        of_bin = ours[np.searchsorted(bins.index(labels), np.arange(bins.num))]
        fits &= np.isclose(np.array(weights)[:, None], of_bin[None], rtol=1e-5)
    assert (fits.sum(1) == 1).all(), "each row is of one bin, and the same one under every scheme"
    assert (np.bincount(fits.argmax(1), minlength=bins.num) <= counts).all()


@pytest.mark.skipif(not STS_TRAIN.exists(), reason="needs the real train_new.tsv")
def test_the_real_sts_scores_get_the_published_weights_in_their_order(golden):
    """Beyond the check above: which row is in which bin, from the score as the file has it."""
    published = json.loads((golden / "sts_weights.json").read_text())
    counts = np.array(published.pop("counts"))
    lines = STS_TRAIN.read_text(encoding="utf-8").split("\n")[1:]
    scores = np.array([float(line.split("\t")[9]) for line in lines if line], np.float32)
    bins = Bins.uniform(0, 5, 50)
    assert np.array_equal(bins.counts(scores), counts)
    for key, weights in published.items():
        ours = sample_weights(scores, bins, **published_key(key))
        np.testing.assert_allclose(np.concatenate([ours[:200], ours[-200:]]), weights, rtol=1e-5)


def test_nyu_weights(golden):
    published = json.loads((golden / "nyu_weights.json").read_text())
    counts = nyud2_train_counts()
    assert published.pop("counts") == counts.tolist()
    assert counts.sum() == 3_513_286_656
    for key, weights in published.items():
        ours = bin_weights(counts[7:], border="reflect", **published_key(key))
        np.testing.assert_allclose(ours, weights[7:], rtol=1e-5)


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 120), min_size=1, max_size=200),
    st.sampled_from(["inverse", "sqrt_inv"]),
    st.booleans(),
)
def test_weights_have_mean_1_and_fall_with_density(ages, reweight, lds):
    labels, bins = np.array(ages, np.float32), Bins.integers(0, 120)
    weights = sample_weights(labels, bins, reweight=reweight, lds=lds)
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1, rel=1e-4)
    if not lds:
        order = np.argsort(bins.counts(labels)[bins.index(labels)], kind="stable")
        assert (np.diff(weights[order]) <= 1e-6).all()


def test_lds_without_a_scheme_is_refused():
    with pytest.raises(ValueError, match="choose a reweight scheme"):
        bin_weights(np.ones(9), reweight="none", lds=True)
    with pytest.raises(ValueError, match="is none of"):
        bin_weights(np.ones(9), reweight="sqrt")


def test_integer_bins():
    bins = Bins.integers(3, 9)
    assert bins.index(np.array([-5, 3, 3.9, 4, 9, 9.5, 80])).tolist() == [0, 0, 0, 1, 6, 6, 6]
    assert bins.counts(np.array([3, 3, 8])).tolist() == [2, 0, 0, 0, 0, 1, 0]


@given(st.floats(-1, 6, width=32), st.sampled_from([Bins.uniform(0, 5, 50), Bins.integers(0, 4)]))
def test_tensor_and_array_agree(label, bins):
    on_array = int(bins.index(np.float32(label)))
    assert on_array == int(bins.index(torch.tensor([label]))[0])
    assert on_array == min(max(int(np.float32(label) * np.float32(bins.num / 5)), 0), bins.num - 1)


@pytest.mark.parametrize("low, high, num", [(0, 0, 3), (1, 0, 3), (0, 1, 0)])
def test_bad_bins_are_refused(low, high, num):
    with pytest.raises(ValueError):
        Bins(low, high, num)
