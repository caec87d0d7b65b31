"""How fast depth maps are weighted, smoothed, counted and evaluated, beside plain loops over bins and pixels.

    python benchmarks/depth.py
    python benchmarks/depth.py --images 32 --threads 2

Each pair is checked to agree before it is timed: the loops below are written for this comparison, in the way
that one would first write them. Sizes are a training batch's: maps of 114 x 152 with 128 features.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch

from common import cli
from common.datasets.depth import DEPTH_BINS, FIRST_BIN
from common.fds import FDS
from common.flags import number
from common.metrics import Shots
from common.task import Evaluator, Prediction, load_task

TASK = load_task("nyud2")

CHANNELS, HEIGHT, WIDTH = 128, 114, 152
BUCKETS = DEPTH_BINS.num - FIRST_BIN


def depths(images: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Depth maps in metres, `(n, 1, H, W)`: slopes with a long tail, 0.7 to 10 m."""
    random = torch.Generator().manual_seed(0)
    y = torch.linspace(0, 1, height).view(1, 1, -1, 1) * torch.rand(images, 1, 1, 1, generator=random)
    x = torch.linspace(0, 1, width).view(1, 1, 1, -1) * torch.rand(images, 1, 1, 1, generator=random)
    return 0.7 + 9.29 * (x + y).square().clamp(max=1)


def trained_fds() -> FDS:
    """An FDS layer whose statistics are those of some epochs."""
    fds = FDS(CHANNELS, DEPTH_BINS.num, FIRST_BIN, bins=DEPTH_BINS, clip=(0.2, 5.0))
    random = torch.Generator().manual_seed(1)
    for name in ("running_mean_last_epoch", "smoothed_mean_last_epoch"):
        getattr(fds, name).copy_(torch.randn(BUCKETS, CHANNELS, generator=random))
    for name in ("running_var_last_epoch", "smoothed_var_last_epoch"):
        getattr(fds, name).copy_(torch.rand(BUCKETS, CHANNELS, generator=random) + 0.5)
    return fds


# --- the loops


def weights_by_pixel(table: np.ndarray, depth: torch.Tensor) -> torch.Tensor:
    """The weight of each pixel, one after the other."""
    weights = [table[min(int(value * np.float32(10)), 99)] for value in depth.flatten().numpy()]
    return torch.tensor(np.array(weights), dtype=torch.float32).view(depth.shape)


def smooth_by_bin(fds: FDS, maps: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Calibrates the pixels of one bin after the other (paper, eq. 5)."""
    rows = maps.permute(0, 2, 3, 1).reshape(-1, CHANNELS).clone()
    bucket = ((depth.flatten() * 10).int().clamp(FIRST_BIN, 99) - FIRST_BIN).long()
    for b in torch.unique(bucket).tolist():
        inside = bucket == b
        m1, v1 = fds.running_mean_last_epoch[b], fds.running_var_last_epoch[b]
        m2, v2 = fds.smoothed_mean_last_epoch[b], fds.smoothed_var_last_epoch[b]
        rows[inside] = (rows[inside] - m1) * (v2 / v1).clamp(*fds.clip).sqrt() + m2
    n, _, height, width = maps.shape
    return rows.view(n, height, width, CHANNELS).permute(0, 3, 1, 2)


def statistics_by_bin(maps: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each bin's features, the bin of each pixel found one after the other."""
    rows = maps.permute(0, 2, 3, 1).reshape(-1, CHANNELS)
    bucket = np.array([max(min(int(y * np.float32(10)), 99), 7) - 7 for y in depth.flatten().numpy()])
    mean, var = torch.zeros(BUCKETS, CHANNELS), torch.ones(BUCKETS, CHANNELS)
    for b in np.unique(bucket):
        inside = rows[torch.from_numpy(bucket == b)]
        mean[b], var[b] = inside.mean(0), inside.var(0, unbiased=len(inside) > 1)
    return mean, var


def evaluate_by_concatenation(preds: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> float:
    """RMSE of all bins and the bin of every pixel, from all that was seen."""
    p, y = torch.tensor([]), torch.tensor([])
    for pred, target in zip(preds, targets, strict=True):
        p, y = torch.cat([p, pred.flatten()]), torch.cat([y, target.flatten()])
    bucket = np.array([min(int(value * np.float32(10)), 99) for value in y.numpy()])
    per_bin = [((p - y)[torch.from_numpy(bucket == b)] ** 2).mean() for b in np.unique(bucket)]
    assert len(per_bin) <= DEPTH_BINS.num
    return math.sqrt(float(((p - y).double() ** 2).mean()))


# --- ours, and the comparison


def evaluator() -> Evaluator:
    """The evaluator of `nyud2-dir/train.py`."""
    shots = Shots(DEPTH_BINS, np.arange(DEPTH_BINS.num), 50, 20)
    data = SimpleNamespace(bins=DEPTH_BINS, shots=shots, test=None)
    return TASK.evaluator(TASK, None, data)


def evaluate_streamed(preds: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> float:
    """RMSE of all bins, from sums per bin."""
    metrics = evaluator()
    for pred, target in zip(preds, targets, strict=True):
        metrics.add(None, Prediction(pred), target)
    return metrics.table()["all"]["rmse"]


def forward_backward(smooth: Callable, maps: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """The gradient of the calibrated maps' sum of squares."""
    maps = maps.detach().requires_grad_()
    (smooth(maps, depth) ** 2).sum().backward()
    return maps.grad


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least of a few timings, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def compare(what: str, loop: Callable, ours: Callable, repeats: int, wanted: float) -> bool:
    """Print one line; False if we are less than `wanted` times as fast."""
    slow, fast = seconds(loop, max(1, repeats // 3)), seconds(ours, repeats)
    print(
        f"{what:<32}{slow:>10.3f} s{fast:>10.3f} s{slow / fast:>9.1f} x   (wanted: {wanted:g} x)", flush=True
    )
    return slow / fast >= wanted


def peak_of(images: int) -> float:
    """MiB at the peak of a process that evaluates so many images of 228 x 304."""
    command = [sys.executable, __file__, "--peak", str(images)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def evaluate_and_tell_peak(images: int) -> None:
    """Print this process's peak in MiB after evaluating so many images, every pixel of them."""
    metrics, random = evaluator(), torch.Generator().manual_seed(0)
    for _ in range(images):
        outputs = torch.rand(1, 1, HEIGHT, WIDTH, generator=random) * 9 + 0.7
        metrics.add(None, Prediction(outputs), torch.rand(1, 1, 228, 304, generator=random) * 9 + 0.7)
    metrics.table()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 if something is slower than wanted or memory grows."""
    parser = cli.Parser(prog="benchmarks/depth.py", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=number(int, 1), default=8, help="of a batch")
    parser.add_argument("--threads", type=number(int, 1), default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--repeats", type=number(int, 1), default=3, help="timings, of which the least")
    parser.add_argument("--peak", type=number(int, 1), help="evaluate so many images, print the peak in MiB")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.peak:
        evaluate_and_tell_peak(args.peak)
        return 0
    few, many = peak_of(10), peak_of(1000)  # first, as a child begins with its parent's peak
    depth, fds = depths(args.images), trained_fds()
    maps = torch.randn(args.images, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    table = np.linspace(0.1, 5, DEPTH_BINS.num).astype(np.float32)
    tensor = torch.from_numpy(table)
    print(f"{args.images} maps of {HEIGHT} x {WIDTH} with {CHANNELS} features, {args.threads} threads")
    print(f"{'':<32}{'loop':>12}{'here':>12}{'faster':>11}")

    def look_up() -> torch.Tensor:
        return tensor[DEPTH_BINS.index(depth)]

    def statistics() -> tuple[torch.Tensor, torch.Tensor]:
        fds.collect(maps, depth)
        fds.update(0)
        return fds.running_mean, fds.running_var

    torch.testing.assert_close(look_up(), weights_by_pixel(table, depth), rtol=0, atol=0)
    done = [compare("pixel weights", lambda: weights_by_pixel(table, depth), look_up, args.repeats, 20)]

    def smooth(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return fds.smooth(x, y, 2)

    def loop(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return smooth_by_bin(fds, x, y)

    torch.testing.assert_close(smooth(maps, depth), loop(maps, depth), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        args_of = (lambda: loop(maps, depth), lambda: smooth(maps, depth))
        done.append(compare("FDS smoothing, forward", *args_of, args.repeats, 1))
    both = [lambda f=f: forward_backward(f, maps, depth) for f in (loop, smooth)]
    torch.testing.assert_close(both[1](), both[0](), rtol=1e-4, atol=1e-4)
    done.append(compare("FDS smoothing and its gradient", *both, args.repeats, 5))

    mean, var = statistics_by_bin(maps, depth)
    torch.testing.assert_close(statistics()[0], mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fds.running_var, var, rtol=1e-3, atol=1e-3)
    done.append(
        compare("FDS statistics", lambda: statistics_by_bin(maps, depth), statistics, args.repeats, 1)
    )

    targets = [depths(1, 228, 304) for _ in range(4 * args.images)]
    preds = [target * 1.1 for target in targets]
    assert math.isclose(
        evaluate_streamed(preds, targets), evaluate_by_concatenation(preds, targets), rel_tol=1e-5
    )
    evaluations = [lambda f=f: f(preds, targets) for f in (evaluate_by_concatenation, evaluate_streamed)]
    done.append(compare(f"evaluation of {len(targets)} images", *evaluations, args.repeats, 1))
    print(f"peak memory of an evaluation: {few:.0f} MiB for 10 images, {many:.0f} MiB for 1,000")
    return 0 if all(done) and many < few + 8 else 1


if __name__ == "__main__":
    sys.exit(cli.run_command("benchmarks/depth.py", main))
