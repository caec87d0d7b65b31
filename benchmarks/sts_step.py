"""How fast a training step of STS-B-DIR is, and what share of it the LSTM itself takes.

    python benchmarks/sts_step.py --data_dir data/sts-b --d_hid 128 --threads 1

Takes the same batches twice: through whole training steps (batching, embedding, LSTM, pooling, loss,
backward, clipping, Adam), and through the LSTM alone, forward and backward, on the same packed words.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

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
FLAGS = ["--evaluate", "--n_layers_enc", "1", "--lr", "5e-4", "--device", "cpu"]


def whole_steps(run: Run, batches: Sequence) -> float:
    """Seconds that training on the batches takes, from drawing them on."""
    draws = islice(training_draws(run.data.train, run.training.batch_size, 0, 0), len(batches))
    began = time.perf_counter()
    for batch in run.data.train.batches(draws, augment=True, device=run.device):
        run.step(batch, 0)
    return time.perf_counter() - began


def lstm_alone(encoder: nn.Module, batches: Sequence) -> float:
    """Seconds that the LSTM's forward and backward take on the same packed words."""
    seconds = 0.0
    for batch in batches:
        tokens, lengths = batch.inputs
        packed = pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)
        packed = PackedSequence(encoder.embedding(packed.data).detach(), *packed[1:])
        gradient = torch.randn(len(packed.data), 2 * encoder.lstm.hidden_size)
        began = time.perf_counter()
        encoder.lstm(packed)[0].data.backward(gradient)
        seconds += time.perf_counter() - began
    return seconds


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
    parser.add_argument("--batch_size", type=int, default=128, help="pairs in a step")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--steps", type=int, default=42, help="steps of a repeat (42: an epoch)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats; the median counts")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = (f"--{name}={getattr(args, name)}" for name in ("data_dir", "d_word", "d_hid", "batch_size"))
    settings = settings_of(TASK, PROG, __doc__, [*FLAGS, *sizes])
    data = TASK.load(settings)
    regressor = build_regressor(TASK, settings, data, choose_methods(TASK, settings))
    regressor.encoder.embedding.weight.data.normal_()
    run = Run(TASK, settings, data, regressor, None)
    draws = list(islice(training_draws(data.train, args.batch_size, 0, 0), args.steps))
    batches = list(data.train.batches(draws, augment=True, device=run.device))
    pairs = sum(len(batch.targets) for batch in batches)
    times = [
        (whole_steps(run, batches), lstm_alone(regressor.encoder, batches)) for _ in range(args.repeats + 1)
    ][1:]
    step, alone = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    size = f"batch {args.batch_size}, d_word {args.d_word}, d_hid {args.d_hid}, {args.threads} thread(s)"
    print(f"{pairs / step:.0f} pairs/s in training ({size}; median of {args.repeats} x {args.steps} steps)")
    print(f"LSTM forward and backward alone: {100 * alone / step:.0f} % of a step")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command(PROG, main))
