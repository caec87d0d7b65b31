"""VIR: features that are Gaussians, calibrated over label bins, and a normal-inverse-gamma head."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.lds import SIGMA_KERNELS
from common.method import Method, Passes, Seen, at_least_float32
from common.methods.gaussian_features import GaussianFDS, GaussianLayers, sampled, with_gaussian_block
from common.methods.kernel import KERNEL_HELP, KERNEL_SIZE, KERNEL_WIDTH, buckets_of, kernel_name, window_name
from common.methods.nig import PosteriorHead, nig_loss, nig_parameters
from common.methods.outputs import known_outputs
from common.methods.smoothing import SmoothingFlags
from common.settings import Settings
from common.task import Batch, Data, Task

if TYPE_CHECKING:
    from common.training.regressor import Regressor

__all__ = ["Vir", "nig_loss"]
log = logging.getLogger("dir")


@dataclass(frozen=True)
class VirFlags:
    """VIR."""

    vir: bool = flag(False, "VIR: Gaussian features and a normal-inverse-gamma head", switch=True)
    vir_coefficient: float = flag(0.01, "of the penalty on evidence for a wrong mean", low=0)
    vir_kernel: str = flag("gaussian", KERNEL_HELP, parse=kernel_name, metavar="KERNEL")
    vir_ks: int = flag(5, KERNEL_SIZE, low=1, odd=True)
    vir_sigma: float = flag(2.0, KERNEL_WIDTH, low=POSITIVE, when=lambda own: own.vir_kernel in SIGMA_KERNELS)
    vir_mmt: float = flag(0.9, "momentum of the statistics", low=0, high=1)
    vir_start_smooth: int = flag(1, "first epoch of calibration", low=0)
    vir_variant: str = flag(
        "published",
        "statistics of calibrated features, and the alias of the released FDS; or of raw features, without it",
        choices=("published", "paper"),
    )


class Vir(Method):
    """Replaces head and criterion, and makes each feature a Gaussian with a mean and a variance.

    Their statistics in each label bin are smoothed over bins, and features are calibrated by them
    (`gaussian_features.GaussianFDS`). In training the head gets one sample of each Gaussian, in a test the mean. It
    gives a normal-inverse-gamma distribution, whose loss is mean(NLL + coefficient REG) (`nig.nig_terms`).
    Weights of the loss multiply the head's pseudo-count and not the loss. `--vir --lds` is the published method.

    On a ResNet the last convolution has a mean and a variance half, as published; the mean half starts from the
    encoder's weights, which is ours. On other encoders two linear layers make mean and variance: no code was
    published beyond AgeDB, so that these are ours. There is no decoder: the published code adds 0.7 times the MSE of a
    reconstructed image. Maps are refused.

    By default statistics are of calibrated features, and whitening uses statistics one update newer than those
    smoothed, as the published code does in effect; `--vir_variant paper` does neither. Epoch 1 is no
    identity: it adds 2 to every variance (`--vir_start_smooth 2` skips it). Where the published code skips
    the later bins of a batch after a variance of 0, here that dimension of that bin stays as it is. `std` is that
    of the mean alone, and `nll` that of a Gaussian with it, both as published.
    """

    label = "VIR"
    paper = "Wang and Wang, Variational Imbalanced Regression, NeurIPS 2023"
    Flags = VirFlags
    roles = frozenset({"head", "criterion"})
    owns_head = True
    order = 45
    maps = False

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError beside FDS, which would calibrate the same features."""
        if settings[VirFlags].vir and settings[SmoothingFlags].fds:
            raise UserError("--fds and --vir: VIR calibrates the features itself; drop one of them")
        return settings

    def run_name(self) -> str:
        """Return the window, the first epoch, the momentum, the coefficient and the variant."""
        own = self.flags
        variant = "_paper" if own.vir_variant == "paper" else ""
        window = window_name("vir", own.vir_kernel, own.vir_ks, own.vir_sigma)
        return f"{window}_{own.vir_start_smooth}_{own.vir_mmt:g}_{own.vir_coefficient:g}{variant}"

    def describe(self) -> str:
        """Return the window and the variant."""
        own = self.flags
        return f"VIR {own.vir_kernel} {own.vir_ks}/{own.vir_sigma:g}, {own.vir_variant}"

    def prepare(self, data: Data) -> Data:
        """Check the data; raises UserError for maps, and for a kernel wider than the buckets can reflect."""
        if data.counts is not None:
            raise UserError("--vir: works on one label for each sample, not on maps; drop it")
        buckets_of(data, "--vir_ks", self.flags.vir_ks)
        return data

    def head(self, dim: int) -> PosteriorHead:
        """Return the head, which predicts from the means of the features."""
        task = self.task
        return PosteriorHead(
            dim, lambda raw: self.gaussian(raw)[:, :dim], task.target_scale, task.target_mean
        )

    def build(self, dim: int, data: Data) -> None:
        """Make the statistics, one bucket for each bin of the data's buckets."""
        own, task = self.flags, self.task
        first, last = buckets_of(data, "--vir_ks", own.vir_ks)
        self.dim = dim
        self.layers: GaussianLayers | None = None
        self.statistics = GaussianFDS(
            2 * dim, last, first, 0, own.vir_start_smooth, own.vir_kernel, own.vir_ks, own.vir_sigma, own.vir_mmt,
            bins=data.bins, clip=task.fds_clip, empty=task.fds_empty,
            variant="released" if own.vir_variant == "published" else "paper",
        )  # fmt: skip

    def setup(self, regressor: Regressor) -> None:
        """Give the encoder's last block a variance half, or else put two layers behind the encoder."""
        if with_gaussian_block(regressor.encoder):
            log.info("VIR: the last block of the encoder gives mean and variance")
        else:
            self.layers = GaussianLayers(self.dim).to(next(regressor.parameters()).device)

    def gaussian(self, raw: torch.Tensor) -> torch.Tensor:
        """Return mean and variance `(n, 2C)` of the encoder's features."""
        return at_least_float32(raw) if self.layers is None else self.layers(raw)

    def features(self, z: torch.Tensor, batch: Batch, epoch: int) -> torch.Tensor:
        """Return a sample of the calibrated Gaussians."""
        return sampled(self.statistics.smooth(self.gaussian(z), batch.targets, epoch))

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss of the batch."""
        outputs, targets, weights = known_outputs(seen)
        parameters = nig_parameters(outputs, weights)
        loss = nig_loss(self.task.learned(targets), *parameters, self.flags.vir_coefficient)
        return {self.name(): loss}

    def end_of_epoch(self, epoch: int, passes: Passes) -> None:
        """Smooth the statistics so far, then update them by one more pass over the training data."""
        for seen in passes("VIR statistics"):
            features = self.gaussian(seen.raw)
            if self.flags.vir_variant == "published":
                features = self.statistics.smooth(features, seen.batch.targets, epoch)
            self.statistics.collect(features, seen.batch.targets)
        self.statistics.update_last_epoch_stats(epoch)
        self.statistics.update(epoch)
