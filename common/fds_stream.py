"""Count, mean and M2 of the features in each bucket, batch by batch, in memory that does not grow."""

from __future__ import annotations

import torch

from common.fds_maps import rows_of_a_piece

Moments = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # count (buckets, 1), mean and M2 (buckets, C)


def no_moments(like: torch.Tensor, dtype: torch.dtype) -> Moments:
    """Return the moments of no sample, for buckets and channels as in the table `like`."""
    mean, m2 = like.new_zeros(2, *like.shape, dtype=dtype)
    return like.new_zeros(len(like), 1, dtype=dtype), mean, m2.clone()


def moments(x: torch.Tensor, bucket: torch.Tensor, buckets: int) -> Moments:
    """Return the moments of features `(n, C)` in each bucket; the bucket `buckets` is in none.

    Pieces are added row by row to the same sums, so their size does not change a bit on a CPU.
    """
    dtype = torch.float32 if x.device.type == "mps" else torch.float64
    count = torch.bincount(bucket, minlength=buckets + 1).to(dtype).unsqueeze(1)
    size = rows_of_a_piece(x)
    pieces = list(zip(x.split(size), bucket.split(size), strict=True))
    mean, m2 = x.new_zeros(2, buckets + 1, x.shape[1], dtype=dtype)
    for part, where in pieces:
        mean.index_add_(0, where, part.to(dtype, memory_format=torch.contiguous_format))
    mean /= count.clamp(min=1)
    for part, where in pieces:
        part = part.to(dtype, memory_format=torch.contiguous_format, copy=True)
        m2.index_add_(0, where, part.sub_(mean.index_select(0, where)).square_())
    return count[:buckets], mean[:buckets], m2[:buckets]


def merged(old: Moments, new: Moments) -> Moments:
    """Return the moments of both together (Chan et al., 1979)."""
    (count0, mean0, m20), (count, mean, m2) = old, new
    delta, total = mean - mean0, (count0 + count).clamp(min=1)
    m2 = m20 + m2 + delta**2 * count0 * count / total
    return count0 + count, mean0 + delta * count / total, m2
