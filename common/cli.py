"""The command line: argument groups that the data sets share, and how a command ends."""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from scipy.signal import windows

from common.errors import RunFailed, UserError
from common.fds import VARIANTS
from common.lds import KERNELS, PUBLISHED_KERNELS, REWEIGHTS, SIGMA_KERNELS
from common.loss import LOSSES
from common.methods.resample import METHODS

ROOT = Path(__file__).resolve().parent.parent


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show and the help does not say it in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or action.default is False or action.default in ("", argparse.SUPPRESS)
        told = told or "default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, no abbreviations, and a guess at a misspelt flag."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **how)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """Like argparse's, but an unknown flag is named with the one that was probably meant."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [flag for action in self._actions for flag in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            self.error(f"unknown argument {unknown[0]}" + (f" (did you mean {near[0]}?)" if near else ""))
        return parsed

    def error(self, message: str) -> NoReturn:
        """One line on standard error and exit code 2."""
        print(f"{self.prog}: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def number(kind: type, low: float, high: float = math.inf, *, odd: bool = False) -> Callable[[str], Any]:
    """An argparse type: an `int` or `float` from `low` to `high`, odd where a kernel size is asked for."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == math.inf or (odd and value % 2 == 0):
            wanted = "odd whole" if odd else "whole" if kind is int else "finite"
            limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is no {wanted} number {limits}")
        return value

    return parse


def kernel(text: str) -> str:
    """An argparse type: the name of a kernel of LDS and FDS."""
    if text in KERNELS:
        return text
    near = difflib.get_close_matches(text, KERNELS, n=1)
    told = f"did you mean {near[0]}? " if near else ""
    if text in windows.__all__:
        told = "it needs a parameter of its own or dips below 0; "
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} ({told}choose from {', '.join(KERNELS)})")


POSITIVE = 1e-12  # the smallest value of a flag that must be positive


def add_imbalance_arguments(
    parser: argparse.ArgumentParser,
    *,
    bucket_num: int | None,
    bucket_start: int | None,
    neighbours: int | None = None,
) -> None:
    """LDS, FDS, re-weighting and RRT (paper, section 3 and 4.1), under the published names.

    `neighbours` is the default of SMOTER and SMOGN; without it the data set has neither.
    """
    group = parser.add_argument_group("imbalance")
    group.add_argument(
        "--reweight",
        choices=REWEIGHTS,
        default=None,
        help="loss weights from the label density (default: none, or with --lds the scheme of the "
        "paper's LDS rows)",
    )
    group.add_argument("--lds", action="store_true", help="label distribution smoothing")
    group.add_argument("--fds", action="store_true", help="feature distribution smoothing")
    for name in ("lds", "fds"):
        group.add_argument(
            f"--{name}_kernel",
            type=kernel,
            default="gaussian",
            metavar="KERNEL",
            help=f"{', '.join(PUBLISHED_KERNELS)} as published, or a window of scipy.signal.windows: "
            f"{', '.join(KERNELS[len(PUBLISHED_KERNELS) :])}",
        )
        group.add_argument(
            f"--{name}_ks",
            type=number(int, 1, odd=True),
            default=5,
            help="kernel size in bins, odd (the paper's; the published age code has 9 and 5)",
        )
        group.add_argument(
            f"--{name}_sigma",
            type=number(float, POSITIVE),
            default=2.0,
            help="kernel sigma in bins (the paper's; the published age code has 1)",
        )
    group.add_argument("--start_update", type=number(int, 0), default=0, help="first epoch of FDS statistics")
    group.add_argument("--start_smooth", type=number(int, 0), default=1, help="first epoch of FDS smoothing")
    group.add_argument(
        "--bucket_num",
        type=number(int, 1),
        default=bucket_num,
        help="FDS: one past the last bucket" + ("" if bucket_num else " (default on ages: 100)"),
    )
    group.add_argument(
        "--bucket_start",
        type=number(int, 0),
        default=bucket_start,
        help="FDS: first bucket" + ("" if bucket_num else " (default on ages: as published)"),
    )
    group.add_argument("--fds_mmt", type=number(float, 0, 1), default=0.9, help="FDS momentum")
    group.add_argument(
        "--fds_variant",
        choices=VARIANTS,
        default="paper",
        help="FDS as the paper states it, or as the released age and STS-B code behaves",
    )
    if neighbours is not None:
        group.add_argument(
            "--resample",
            choices=("none", *METHODS),
            default=None,
            help="resample the training set, a baseline of the paper (default: none)",
        )
        group.add_argument(
            "--neighbours",
            type=number(int, 1),
            default=neighbours,
            help="nearest neighbours that --resample chooses from",
        )
    group.add_argument(
        "--retrain_fc",
        action="store_true",
        help="RRT: train a fresh head on the frozen encoder of --pretrained",
    )
    group.add_argument(
        "--pretrained", default="", metavar="CKPT", help="checkpoint whose encoder to start from"
    )


def add_training_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Optimiser, schedule and stopping: the same flags everywhere, each data set with its own defaults."""
    group = parser.add_argument_group("training")
    group.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="optimiser")
    group.add_argument("--lr", "--learning-rate", type=number(float, POSITIVE), help="initial learning rate")
    group.add_argument("--batch_size", type=number(int, 1), help="samples in a step")
    group.add_argument("--loss", choices=tuple(LOSSES), help="training loss")
    group.add_argument("--huber_beta", type=number(float, POSITIVE), help="where the Huber loss turns linear")
    group.add_argument("--schedule", type=number(int, 1), nargs="*", help="epochs at which lr drops tenfold")
    group.add_argument("--max_grad_norm", type=number(float, 0), help="clip the gradient's norm; 0: do not")
    group.add_argument(
        "--patience",
        type=number(int, 0),
        help="stop when a check is the worst of the last PATIENCE + 1; 0: never",
    )
    parser.set_defaults(**defaults)


def add_run_arguments(parser: argparse.ArgumentParser, *, seed: int, seed_flags: Sequence[str] = ()) -> None:
    """Where a run reads and writes, on which device, under which seed."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--data_dir", type=Path, default=None, help="data folder (default: data/ of this repository)"
    )
    group.add_argument("--store_root", type=Path, default=Path("checkpoint"), help="folder of all runs")
    group.add_argument(
        "--seed",
        *seed_flags,
        type=number(int, -(2**63), 2**63 - 1),
        default=seed,
        dest="seed",
        help="negative: a random one",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    group.add_argument(
        "--evaluate", action="store_true", help="evaluate a checkpoint on the test set, do not train"
    )
    group.add_argument(
        "--metrics_json", type=Path, default=None, metavar="PATH", help="write the test metrics here too"
    )
    group.add_argument("--overwrite", action="store_true", help="start over where this run has been before")


def add_own_run_arguments(parser: argparse.ArgumentParser, *, store_name: str) -> None:
    """A run's name, and its own checkpoint: the published flags of STS-B and NYUD2."""
    group = parser.add_argument_group("its own run")
    group.add_argument("--store_name", default=store_name, help="first part of the run's name")
    group.add_argument(
        "--resume",
        dest="must_resume",
        action="store_true",
        help="go on with this run (which the command does anyway)",
    )
    group.add_argument(
        "--eval_model", default="", metavar="CKPT", help="what --evaluate reads (default: this run's)"
    )


def method_name(args: argparse.Namespace) -> str:
    """The part of a run's name that says the method, composed as published (plus FDS's variant)."""

    def window(name: str) -> str:
        kind, ks, sigma = (getattr(args, f"{name}_{part}") for part in ("kernel", "ks", "sigma"))
        short = kind[:3] if kind in PUBLISHED_KERNELS else kind
        return f"_{name}_{short}_{ks}" + (f"_{sigma:g}" if kind in SIGMA_KERNELS else "")

    parts = [f"_{args.resample}" if args.resample else ""]
    parts += [window("lds") if args.lds else f"_{args.reweight}" if args.reweight != "none" else ""]
    if args.fds:
        parts.append(f"{window('fds')}_{args.start_update}_{args.start_smooth}_{args.fds_mmt:g}")
        parts.append("_released" if args.fds_variant == "released" else "")
    parts.append("_retrain_fc" if args.retrain_fc else "")
    return "".join(parts)


def resolve(args: argparse.Namespace, *, lds_reweight: str) -> None:
    """Fill in what one flag means for another; raises UserError where two do not go together."""
    if args.reweight is None:
        args.reweight = lds_reweight if args.lds else "none"
    if getattr(args, "resample", None) in (None, "none"):
        args.resample = args.neighbours = None  # as in the runs from before there were these flags
    if args.lds and args.reweight == "none":
        raise UserError("--lds smooths the density that --reweight divides by: drop --reweight none")
    if args.retrain_fc and not args.pretrained:
        raise UserError("--retrain_fc needs --pretrained CKPT, the first stage whose encoder it keeps")
    if None not in (args.bucket_num, args.bucket_start):
        check_buckets(args)


def check_buckets(args: argparse.Namespace) -> None:
    """Raise UserError if FDS's kernel is wider than its buckets can reflect."""
    if args.fds and args.bucket_num - args.bucket_start <= args.fds_ks // 2:
        raise UserError(
            f"--fds_ks {args.fds_ks}: is too wide for the buckets from --bucket_start {args.bucket_start} "
            f"to --bucket_num {args.bucket_num}"
        )


def pick_device(name: str) -> torch.device:
    """`auto` takes the first of cuda, mps and cpu that is there; raises UserError for what is not."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: there is no such device here; try --device auto") from error
    return device


def run_command(prog: str, command: Callable[[], int]) -> int:
    """Run a command to its exit code: 2 for what the user can mend, 1 for a failed run, 130 for Ctrl-C."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has left, as in `| head`: what Python still holds for it is dropped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell has it for SIGPIPE
    except (UserError, RunFailed) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print(f"{prog}: stopped; nothing is lost, the same command goes on", file=sys.stderr)
        return 130


@contextmanager
def stop_between_steps() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; a second signal acts at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        logging.getLogger("dir").info("Stopping after this step; once more to stop at once")

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        restore()
