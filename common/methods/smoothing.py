"""FDS: the features' mean and variance in each label bin, calibrated in training (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from common.bins import Bins, round_width
from common.cli import pick_device
from common.errors import UserError
from common.fds import FDS, VARIANTS
from common.flags import POSITIVE, field_flags, flag
from common.lds import SIGMA_KERNELS
from common.method import Method, Passes, Seen
from common.methods.kernel import KERNEL_HELP, KERNEL_SIZE, KERNEL_WIDTH, buckets_of, kernel_name, window_name
from common.settings import Running, Settings
from common.task import Batch, Data, Task

if TYPE_CHECKING:
    from common.training.regressor import Regressor


MAX_VALUES = 20_000_000  # buckets x features: 80 MB for each of seven tables, and as much in each checkpoint


@dataclass(frozen=True)
class SmoothingFlags:
    """FDS."""

    fds: bool = flag(False, "feature distribution smoothing", switch=True)
    fds_kernel: str = flag("gaussian", KERNEL_HELP, parse=kernel_name, metavar="KERNEL")
    fds_ks: int = flag(5, KERNEL_SIZE, low=1, odd=True)
    fds_sigma: float = flag(2.0, KERNEL_WIDTH, low=POSITIVE, when=lambda own: own.fds_kernel in SIGMA_KERNELS)
    start_update: int = flag(0, "first epoch of FDS statistics", low=0)
    start_smooth: int = flag(1, "first epoch of FDS smoothing", low=0)
    fds_mmt: float = flag(0.9, "FDS momentum", low=0, high=1)
    fds_variant: str = flag(
        "paper", "FDS as the paper states it, or as the released code behaves (docs/differences.md)",
        choices=VARIANTS,
    )  # fmt: skip
    fds_pass: str = flag(
        "extra", "take FDS statistics in an extra pass after each epoch, as published, or online: in training itself",
        choices=("extra", "online"),
    )  # fmt: skip


class Smoothing(Method):
    """Smooths features in training, and takes their statistics in one more pass after each epoch.

    `--fds_pass online` takes them from the features of each step instead: of weights that still move, of every
    view, and without a second pass.
    """

    label = "FDS"
    paper = "Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, section 3.2"
    Flags = SmoothingFlags
    order = 40
    key_map = (("statistics.", "FDS."),)

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError where statistics are asked for without FDS."""
        own = settings[SmoothingFlags]
        if own.fds_pass == "online" and not own.fds:
            raise UserError("--fds_pass online: says how FDS takes its statistics; add --fds, or drop it")
        return settings

    def departures(self) -> list[str]:
        """Return what is not the default of --fds_variant and --fds_pass."""
        own = self.flags
        return [word for word in (own.fds_variant, own.fds_pass) if word not in ("paper", "extra")]

    def run_name(self) -> str:
        """Return the window, the first epochs and the momentum, as published, and the departures."""
        own = self.flags
        window = window_name("fds", own.fds_kernel, own.fds_ks, own.fds_sigma)
        more = "".join(f"_{word}" for word in self.departures())
        return f"{window}_{own.start_update}_{own.start_smooth}_{own.fds_mmt:g}{more}"

    def legend(self) -> tuple[str, ...]:
        """Return FDS with its departures, as in "FDS (released)"."""
        departures = ", ".join(self.departures())
        return (f"FDS ({departures})" if departures else "FDS",)

    def describe(self) -> str:
        """Return the window, the variant, and whether statistics are taken online."""
        own = self.flags
        online = ", online" if own.fds_pass == "online" else ""
        return f"FDS {own.fds_kernel} {own.fds_ks}/{own.fds_sigma:g}, {own.fds_variant}{online}"

    def prepare(self, data: Data) -> Data:
        """Check that the kernel fits; raises UserError if it is wider than the buckets can reflect."""
        buckets_of(data, "--fds_ks", self.flags.fds_ks)
        return data

    def build(self, dim: int, data: Data) -> None:
        """Make the statistics, one bucket for each bin of the data's buckets.

        Raises UserError for so many buckets that their statistics would exhaust the memory.
        """
        own, task = self.flags, self.task
        first, last = buckets_of(data, "--fds_ks", own.fds_ks)
        self.check_size(dim, first, last, data.bins)
        self.statistics = FDS(
            dim, last, first, own.start_update, own.start_smooth, own.fds_kernel, own.fds_ks, own.fds_sigma,
            own.fds_mmt, bins=data.bins, clip=task.fds_clip, empty=task.fds_empty,
            keep_stream=self.stream_type(),
            **(task.fds_released if own.fds_variant == "released" else {}),
        )  # fmt: skip

    def stream_type(self) -> torch.dtype | None:
        """Return the dtype of statistics that a checkpoint within an epoch must hold; None without such."""
        if self.flags.fds_pass == "extra":
            return None
        return torch.float32 if pick_device(self.settings[Running].where).type == "mps" else torch.float64

    def check_size(self, dim: int, first: int, last: int, bins: Bins) -> None:
        """Raise UserError if the statistics have too many values; name a flag with a value that fits."""
        most = max(MAX_VALUES // dim, 1)
        if last - first <= most:
            return
        wider = any("bin_width" in field_flags(kind) for kind in self.task.flags)
        flags = f"--bin_width {round_width(bins.high - bins.low, most):g}, or " if wider else ""
        raise UserError(
            f"--fds: {last - first:,} buckets of {dim:,} features do not fit into memory (at most {most:,} do); choose "
            f"{flags}--bucket_num {first + most}"
        )

    def setup(self, regressor: Regressor) -> None:
        """Note at which epoch the statistics begin: `--pretrained` on age brings those of the first stage."""
        self.statistics.begun = int(self.statistics.epoch)
        self.statistics.forget_collected()

    def features(self, z: torch.Tensor, batch: Batch, epoch: int) -> torch.Tensor:
        """Calibrate the features (eq. 5)."""
        return self.statistics.smooth(z, batch.targets, epoch)

    def collect(self, seen: Seen) -> None:
        """Collect statistics of a batch; the released age and STS-B code takes those of calibrated features."""
        released = self.statistics.variant == "released"
        self.statistics.collect(seen.features if released else seen.raw, seen.batch.targets)

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Collect the statistics of a step, with `--fds_pass online`; FDS has no loss."""
        if self.flags.fds_pass == "online" and seen.epoch >= self.flags.start_update:
            self.collect(seen)
        return {}

    def end_of_epoch(self, epoch: int, passes: Passes) -> None:
        """Smooth the statistics so far, then update them: online, or by one more pass over the training data."""
        if epoch < self.flags.start_update:
            return
        if self.flags.fds_pass == "extra":
            for seen in passes("FDS statistics"):
                self.collect(seen)
        self.statistics.update_last_epoch_stats(epoch)
        self.statistics.update(epoch)
