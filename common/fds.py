"""Feature distribution smoothing (paper, section 3.2, eqs. 2 to 5), for feature vectors and feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.bins import Bins
from common.fds_maps import CalibrateMaps
from common.fds_stream import Moments, merged, moments, no_moments
from common.lds import get_lds_kernel_window

VARIANTS = ("paper", "released")
CHOICES = {"variant": VARIANTS, "empty": ("keep", "fill"), "guard": ("dimension", "bucket")}
STREAM = ("stream_count", "stream_mean", "stream_m2")  # what is collected and not yet in an update


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if an argument is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} {value!r} is none of {', '.join(choices)}")


class FDS(nn.Module):
    """Calibrates the mean and variance of the features in each label bucket towards neighbouring buckets'.

    An epoch goes: `smooth` on every training batch; then `update_last_epoch_stats(epoch)`, which smooths the
    statistics held so far over the buckets (eqs. 2, 3); then the statistics of this epoch's features, by
    `update_running_stats(features, labels, epoch)` at once or by `collect` for each batch and one
    `update(epoch)`. So calibration in epoch e uses statistics of epochs up to e - 2 (docs/differences.md, FDS 2).

    Features are `(N, C)` with labels `(N,)` or `(N, 1)`, or maps `(N, C, H, W)` with labels `(N, 1, H, W)`.
    The buckets are the bins `bucket_start` … `bucket_num - 1` of `bins` (without `bins`: whole numbers); a
    label outside is clamped into the outermost one. A label that is NaN (an invalid pixel) has no bucket: its
    feature is left as it is and is in no statistic. Statistics are streamed: memory is O(buckets x C).

    Args:
        momentum: of the running statistics; None weighs each update by its share of all samples so far.
        clip: bounds of the variance ratio in the calibration.
        empty: what a bucket without a sample in an update becomes: "keep" its statistics, or "fill" them
            from its neighbours as the published STS-B code does (FDS 6).
        variant: "paper" whitens with the same epoch's statistics that were smoothed and takes statistics of
            raw features; "released" whitens with statistics one update newer, as the published age and STS-B
            code does in effect (FDS 1), and its caller takes statistics of calibrated features (FDS 3).
        guard: what stays uncalibrated where a variance is 0: the "dimension", or the whole "bucket", as in
            the released depth code (FDS 10).
        keep_stream: the state holds what is collected and not yet in an update, in this dtype. None: it does
            not, for a caller that collects and updates without a break.

    Raises:
        ValueError: an unknown variant, `empty` or `guard`, a bad kernel, or fewer buckets than the kernel reflects.
    """

    kernel_window: torch.Tensor
    epoch: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    running_mean_last_epoch: torch.Tensor
    running_var_last_epoch: torch.Tensor
    smoothed_mean_last_epoch: torch.Tensor
    smoothed_var_last_epoch: torch.Tensor
    num_samples_tracked: torch.Tensor

    def __init__(
        self,
        feature_dim: int,
        bucket_num: int = 100,
        bucket_start: int = 3,
        start_update: int = 0,
        start_smooth: int = 1,
        kernel: str = "gaussian",
        ks: int = 5,
        sigma: float = 2,
        momentum: float | None = 0.9,
        *,
        bins: Bins | None = None,
        clip: tuple[float, float] = (0.1, 10.0),
        empty: str = "keep",
        variant: str = "paper",
        guard: str = "dimension",
        keep_stream: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        buckets = bucket_num - bucket_start
        for name, value in (("variant", variant), ("empty", empty), ("guard", guard)):
            one_of(name, value, CHOICES[name])
        if buckets <= ks // 2:
            raise ValueError(f"{buckets} buckets are too few for a kernel of size {ks}: use a smaller one")
        self.feature_dim, self.buckets = feature_dim, buckets
        self.bucket_num, self.bucket_start, self.keep_stream = bucket_num, bucket_start, keep_stream
        self.start_update, self.start_smooth = start_update, start_smooth
        self.momentum, self.clip, self.empty, self.variant, self.guard = momentum, clip, empty, variant, guard
        self.bins = bins if bins is not None else Bins.integers(0, bucket_num - 1)
        window = torch.from_numpy(get_lds_kernel_window(kernel, ks, sigma)).float()
        self.register_buffer("kernel_window", window / window.sum(), persistent=False)
        self.register_buffer("epoch", torch.zeros(1))
        for what in ("mean", "var"):
            for name in (f"running_{what}", f"running_{what}_last_epoch", f"smoothed_{what}_last_epoch"):
                self.register_buffer(name, torch.zeros(buckets, feature_dim))  # `reset` fills them
        self.register_buffer("num_samples_tracked", torch.zeros(buckets))
        for name in STREAM:
            self.register_buffer(name, None, persistent=keep_stream is not None)
        self.reset()

    def reset(self) -> None:
        """Forget all statistics."""
        self.epoch.fill_(self.start_update)
        self.begun = self.start_update  # the epoch at which this training took the statistics over
        for name, buffer in self.named_buffers(recurse=False):
            if name.endswith(("mean", "mean_last_epoch")) or name == "num_samples_tracked":
                buffer.zero_()
            elif name.endswith(("var", "var_last_epoch")):
                buffer.fill_(1)
        self.forget_collected()

    def forget_collected(self) -> None:
        """Forget what was collected since the last update."""
        kept = self.keep_stream
        self._stream = None if kept is None else no_moments(self.running_mean, kept)

    @property
    def _stream(self) -> Moments | None:
        count, mean, m2 = (getattr(self, name) for name in STREAM)
        return None if count is None else (count, mean, m2)

    @_stream.setter
    def _stream(self, parts: Moments | None) -> None:
        self._buffers.update(zip(STREAM, parts or (None, None, None), strict=True))

    def smooth(self, features: torch.Tensor, labels: torch.Tensor, epoch: int) -> torch.Tensor:
        """Calibrated features (eq. 5), shaped as `features`, which are left untouched; gradients flow."""
        if epoch < self.start_smooth:
            return features
        scale, shift = self._calibration()
        bucket = self._bucket(labels)
        if features.dim() == 2:  # as one map whose pixels are the samples
            return CalibrateMaps.apply(features.T[None], scale, shift, bucket[None])[0].T
        return CalibrateMaps.apply(features, scale, shift, bucket.view(len(features), -1))

    def update_last_epoch_stats(self, epoch: int) -> None:
        """Smooth the running statistics over the buckets, once for each epoch after `start_update`."""
        if epoch != int(self.epoch) + 1:
            return
        self.epoch += 1
        self.running_mean_last_epoch.copy_(self.running_mean)
        self.running_var_last_epoch.copy_(self.running_var)
        self.smoothed_mean_last_epoch.copy_(self._over_buckets(self.running_mean))
        self.smoothed_var_last_epoch.copy_(self._over_buckets(self.running_var))

    def update_running_stats(self, features: torch.Tensor, labels: torch.Tensor, epoch: int) -> None:
        """`collect` and `update` in one call, for features that fit into memory."""
        self.collect(features, labels)
        self.update(epoch)

    @torch.no_grad()
    def collect(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Merge one batch into this update's count, mean and M2 of each bucket (Chan et al., 1979)."""
        if features.shape[1] != self.feature_dim:
            raise ValueError(f"features have {features.shape[1]} dimensions, not {self.feature_dim}")
        bucket = self._bucket(labels)
        if len(bucket) != features.numel() // self.feature_dim:
            raise ValueError(f"{features.numel() // self.feature_dim} features but {len(bucket)} labels")
        if features.dim() == 2:
            self._merge(features, bucket)
            return
        for one, its_bucket in zip(features, bucket.view(len(features), -1), strict=True):
            self._merge(one.flatten(1).T, its_bucket)

    def _merge(self, x: torch.Tensor, bucket: torch.Tensor) -> None:
        """Merge features `(n, C)`; maps come one by one."""
        new = moments(x, bucket, self.buckets)
        self._stream = new if self._stream is None else merged(self._stream, new)

    @torch.no_grad()
    def update(self, epoch: int) -> None:
        """Fold what was collected into the running statistics (eq. 4's estimates, with momentum)."""
        if self._stream is None:
            raise ValueError("FDS has no features to update from: call collect first")
        count, mean, m2 = self._stream
        self.forget_collected()
        if epoch < int(self.epoch):
            return
        self.num_samples_tracked += count.squeeze(1).to(self.num_samples_tracked.dtype)
        var = m2 / (count - 1).clamp(min=1)
        keep = self._keep(count, epoch)
        for running, current in ((self.running_mean, mean), (self.running_var, var)):
            new = (1 - keep) * current + keep * running
            if self.empty == "fill":
                new = self._filled(new, count.squeeze(1) == 0)
            running.copy_(new)
        if self.variant == "released" and int(self.epoch) > self.begun:
            # The published buffers of the last epoch are the running ones under another name (FDS 1).
            self.running_mean_last_epoch.copy_(self.running_mean)
            self.running_var_last_epoch.copy_(self.running_var)

    def _bucket(self, labels: torch.Tensor) -> torch.Tensor:
        """The bucket of each label, int64 `(n,)`; one past the last where it is NaN."""
        labels = labels.flatten()
        index = self.bins.index(labels).clamp(self.bucket_start, self.bucket_num - 1) - self.bucket_start
        return torch.where(labels.isnan(), self.buckets, index)

    def _keep(self, count: torch.Tensor, epoch: int) -> torch.Tensor:
        """The share of the old statistics in the new ones, `(buckets, 1)`; 1 where no sample came."""
        if epoch == self.start_update:
            keep = torch.zeros_like(count)
        elif self.momentum is not None:
            keep = torch.full_like(count, self.momentum)
        else:
            keep = 1 - count / self.num_samples_tracked.unsqueeze(1).to(count.dtype).clamp(min=1)
        return torch.where(count > 0, keep, 1.0)

    def _calibration(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift of each bucket and dimension, and of no bucket, `(buckets + 1, C)` each.

        They are 1 and 0 for no bucket and where v1 is 0.
        """
        m1, v1 = self.running_mean_last_epoch, self.running_var_last_epoch
        m2, v2 = self.smoothed_mean_last_epoch, self.smoothed_var_last_epoch
        valid = (v1 > 0) & (v2 >= 0) & (v1.sum(1, keepdim=True) >= 1e-10)
        if self.guard == "bucket":
            valid = valid & valid.all(1, keepdim=True)
        ratio = v2 / torch.where(valid, v1, 1.0)
        scale = torch.where(valid, ratio.clamp(*self.clip).sqrt(), 1.0)
        shift = torch.where(valid, m2 - m1 * scale, 0.0)
        return F.pad(scale, (0, 0, 0, 1), value=1.0), F.pad(shift, (0, 0, 0, 1))

    def _over_buckets(self, table: torch.Tensor) -> torch.Tensor:
        half = len(self.kernel_window) // 2
        padded = F.pad(table.T.unsqueeze(1), (half, half), mode="reflect")
        return F.conv1d(padded, self.kernel_window.view(1, 1, -1)).squeeze(1).T

    def _filled(self, table: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
        """Empty buckets from their neighbours, in ascending order: (I - below) new = kept_or_above old.

        In place and in order means that a bucket sees its left neighbour's new value and its right one's old:
        a triangular system, so no loop over buckets.
        """
        share = torch.where(empty, 0.5, 0.0).to(table)
        below, above = share.clone(), share.clone()
        below[0], above[0] = 0.0, 2 * share[0]
        below[-1], above[-1] = 2 * share[-1], 0.0
        right = torch.diag((~empty).to(table)) + torch.diag(above[:-1], 1)
        left = torch.eye(len(table), dtype=table.dtype, device=table.device) - torch.diag(below[1:], -1)
        return torch.linalg.solve_triangular(left, right @ table, upper=False, unitriangular=True)
