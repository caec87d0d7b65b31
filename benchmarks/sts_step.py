"""How fast a training step of STS-B-DIR is, and how fast it is with packed sequences.

    python benchmarks/sts_step.py --data_dir data/sts-b --d_hid 128 --threads 1

Takes the same batches alternately through whole training steps (batching, embedding, LSTM, pooling, loss,
backward, clipping, Adam) as they are, and with `nn.LSTM` on packed sequences.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from common import cli
from common.method import choose_methods
from common.task import load_task
from common.training.command import settings_of
from common.training.draws import training_draws
from common.training.engine import Run
from common.training.regressor import build_regressor

PROG = "benchmarks/sts_step.py"
TASK = load_task("sts-b")
# --evaluate reads no word vectors; they are drawn at random.
FLAGS = ["--evaluate", "--lr", "5e-4", "--device", "cpu"]


def whole_steps(run: Run, batches: Sequence) -> float:
    """Seconds that training on the batches takes, from drawing them on."""
    draws = islice(training_draws(run.data.train, run.training.batch_size, 0, 0), len(batches))
    began = time.perf_counter()
    for batch in run.data.train.batches(draws, augment=True, device=run.device):
        run.step(batch, 0)
    return time.perf_counter() - began


def packed_steps(run: Run, batches: Sequence) -> float:
    """Seconds that the same training takes with packed sequences."""
    lstm = run.regressor.encoder.lstm
    with mock.patch.object(lstm, "forward", lambda packed: nn.LSTM.forward(lstm, packed)[0]):
        return whole_steps(run, batches)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = cli.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data_dir", type=Path, default=cli.ROOT / "data" / "sts-b", help="STS-B or a stand-in"
    )
    parser.add_argument(
        "--d_word", type=int, default=100, help="dimension of the word vectors, drawn at random"
    )
    parser.add_argument("--d_hid", type=int, default=128, help="LSTM units in each direction")
    parser.add_argument("--n_layers_enc", type=int, default=1, help="LSTM layers")
    parser.add_argument("--batch_size", type=int, default=128, help="pairs in a step")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--steps", type=int, default=42, help="steps of a repeat (42: an epoch)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats; the median counts")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    names = ("data_dir", "d_word", "d_hid", "n_layers_enc", "batch_size")
    sizes = (f"--{name}={getattr(args, name)}" for name in names)
    settings = settings_of(TASK, PROG, __doc__, [*FLAGS, *sizes])
    data = TASK.load(settings)
    regressor = build_regressor(TASK, settings, data, choose_methods(TASK, settings))
    regressor.encoder.embedding.weight.data.normal_()
    run = Run(TASK, settings, data, regressor, None)
    draws = list(islice(training_draws(data.train, args.batch_size, 0, 0), args.steps))
    batches = list(data.train.batches(draws, augment=True, device=run.device))
    pairs = sum(len(batch.targets) for batch in batches)
    times = [(whole_steps(run, batches), packed_steps(run, batches)) for _ in range(args.repeats + 1)][1:]
    step, packed = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    ratio = sorted(packed / step for step, packed in times)[len(times) // 2]
    size = f"batch {args.batch_size}, d_word {args.d_word}, d_hid {args.d_hid}, {args.threads} thread(s)"
    print(f"{pairs / step:.0f} pairs/s in training ({size}; median of {args.repeats} x {args.steps} steps)")
    print(f"{pairs / packed:.0f} pairs/s with packed sequences: padded blocks are {ratio:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command(PROG, main))
