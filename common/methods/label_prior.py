"""Priors of labels: the batch, a mixture of Gaussians or bins; and the squared error under each (Ren et al., 2022)."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch.nn import functional as F

from common.errors import UserError
from common.methods.label_density import first_bin, smoothed, spread
from common.methods.reweight import ReweightFlags
from common.task import Data

log = logging.getLogger("dir")
Scale = torch.Tensor | float
PIXELS_OF_A_VALUE = 1_000_000  # published: a depth bin counts once in the fit for each million pixels
VALUES_OF_A_FIT = 2_000  # where there are fewer pixels than in NYUD2, there are about as many values


def mixture_of(data: Data, components: int, *, fit: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means and variances `(K,)` of a mixture fitted to the training labels, by ascending mean.

    Without `fit` they are 0, to be loaded from a checkpoint. Raises UserError for labels without the spread
    of that many Gaussians.
    """
    if not fit:
        return np.zeros(components), np.zeros(components), np.zeros(components)
    from sklearn.mixture import GaussianMixture  # two seconds to import

    labels = np.sort(labels_of(data))
    distinct = len(np.unique(labels))
    if distinct < max(components, 2):
        raise UserError(
            f"--balanced_mse gai fits --balanced_mse_components {components} Gaussians to the training labels, "
            f"which have {distinct} distinct value{'s' * (distinct != 1)}; use fewer, or --balanced_mse bni"
        )
    mixture = GaussianMixture(components, random_state=0).fit(labels[:, None])
    log.info(
        "GAI: %d Gaussians on %s labels, mean log-likelihood %.4f",
        components, f"{len(labels):,}", mixture.score(labels[:, None]),
    )  # fmt: skip
    order = np.argsort(mixture.means_[:, 0], kind="stable")
    return mixture.weights_[order], mixture.means_[order, 0], mixture.covariances_[order, 0, 0]


def labels_of(data: Data) -> np.ndarray:
    """Return the training labels, float64; of depth the centre of each bin, in proportion to its pixels."""
    if data.counts is None:
        assert data.train.labels is not None
        return data.train.labels.astype(np.float64)
    first = first_bin(data)
    counts = spread(data.counts[first:], first)
    unit = min(PIXELS_OF_A_VALUE, counts.sum() / VALUES_OF_A_FIT)
    return np.repeat(data.bins.centers, (counts / unit).astype(int))


def bins_of(data: Data, smoothing: ReweightFlags, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and shares `(B,)` of the bins of training labels, smoothed by the window of `--lds`.

    Bins that stay empty are left out. As published, on age the smoothed counts are whole numbers, whatever
    `--reweight` says; on depth `sqrt_inv` takes their square roots first.
    """
    bins, first = data.bins, 0
    if data.counts is None:
        assert data.train.labels is not None
        bins = data.shots.bins  # of ages these do not pool the oldest
        counts: np.ndarray = bins.counts(data.train.labels)
        whole = np.array_equal(data.train.labels, bins.left_edges[bins.index(data.train.labels)])
        centers = bins.left_edges + (0 if whole else bins.width / 2)
    else:
        first = first_bin(data)
        counts, centers = data.counts[first:], bins.centers
        counts = np.sqrt(counts) if smoothing.reweight == "sqrt_inv" else counts
    counts = spread(smoothed(counts, smoothing, border), first)
    filled = counts > 0
    return centers[filled], counts[filled] / counts.sum()


def bmc_loss(preds: torch.Tensor, labels: torch.Tensor, noise_sigma: Scale) -> torch.Tensor:
    """Return the loss of `(n, 1)` or `(n,)`, whose prior is the batch itself."""
    preds, labels, variance = checked(preds, labels, noise_sigma)
    logits = -((preds - labels.T) ** 2) / (2 * variance)
    return F.cross_entropy(logits, torch.arange(len(labels), device=labels.device)) * (2 * variance).detach()


def gai_loss(
    preds: torch.Tensor,
    labels: torch.Tensor,
    noise_sigma: Scale,
    weights: torch.Tensor,
    means: torch.Tensor,
    variances: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of `(n, 1)` or `(n,)`, whose prior is a mixture of K Gaussians, each argument `(K,)`."""
    preds, labels, variance = checked(preds, labels, noise_sigma)
    wide = variances + variance
    mass = weights.log() - wide.log() / 2 - (preds - means) ** 2 / (2 * wide)
    loss = (preds - labels) ** 2 / (2 * variance) + variance.log() / 2 + mass.logsumexp(1, keepdim=True)
    return loss.mean() * (2 * variance).detach()


def bni_loss(
    preds: torch.Tensor, labels: torch.Tensor, noise_sigma: Scale, centers: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Return the loss of `(n, 1)` or `(n,)`, whose prior is B bins, `centers` and `shares` `(B,)`."""
    preds, labels, variance = checked(preds, labels, noise_sigma)
    mass = shares.log() - (preds - centers) ** 2 / (2 * variance)
    loss = (preds - labels) ** 2 / (2 * variance) + mass.logsumexp(1, keepdim=True)
    return loss.mean() * (2 * variance).detach()


def variance_of(noise_sigma: torch.Tensor) -> torch.Tensor:
    """Return the square of the noise scale, never 0."""
    return (noise_sigma**2).clamp_min(1e-12)


def checked(
    preds: torch.Tensor, labels: torch.Tensor, noise_sigma: Scale
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return predictions and labels as `(n, 1)`, and the variance; ValueError for shapes that would broadcast."""
    if preds.shape != labels.shape or (preds.dim() == 2 and preds.shape[1] != 1) or preds.dim() > 2:
        raise ValueError(
            f"predictions {tuple(preds.shape)} and labels {tuple(labels.shape)} must both be (n, 1) or (n,)"
        )
    sigma = torch.as_tensor(noise_sigma, dtype=preds.dtype, device=preds.device)
    return preds.reshape(-1, 1), labels.reshape(-1, 1), variance_of(sigma)
