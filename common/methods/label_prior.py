"""The density of the training labels as a prior: a mixture of Gaussians, or bins (Ren et al., CVPR 2022)."""

from __future__ import annotations

import logging

import numpy as np

from common.errors import UserError
from common.lds import get_lds_kernel_window, smooth_counts
from common.methods.reweight import ReweightFlags
from common.task import Data

log = logging.getLogger("dir")
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
    counts = data.counts.copy()
    first = data.buckets[0] if data.buckets else 0
    counts[:first] = counts[first]
    unit = min(PIXELS_OF_A_VALUE, counts.sum() / VALUES_OF_A_FIT)
    return np.repeat(data.bins.left_edges + data.bins.width / 2, (counts / unit).astype(int))


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
        first = data.buckets[0] if data.buckets else 0
        counts, centers = data.counts[first:], bins.left_edges + bins.width / 2
        counts = np.sqrt(counts) if smoothing.reweight == "sqrt_inv" else counts
    if smoothing.lds:
        window = get_lds_kernel_window(smoothing.lds_kernel, smoothing.lds_ks, smoothing.lds_sigma)
        counts = smooth_counts(counts, window, border)
    counts = np.concatenate([np.repeat(counts[:1], first), counts])
    filled = counts > 0
    return centers[filled], counts[filled] / counts.sum()
