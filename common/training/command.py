"""What a `train.py` does once its arguments are parsed: train and test a run, or evaluate a checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from common.cli import pick_device
from common.errors import UserError
from common.report import shot_text, start_logging, stop_logging
from common.task import Data, Task
from common.training import checkpoint
from common.training.engine import Run
from common.training.evaluate import as_result, evaluate
from common.training.regressor import build_regressor, load_encoder, load_model
from common.training.resume import resume
from common.training.rundir import RunDir, write_json

log = logging.getLogger("dir")


def run(task: Task, args: argparse.Namespace, run_name: Callable[[argparse.Namespace], str]) -> int:
    """Train and test, or with `--evaluate` only test; returns the exit code.

    Raises UserError for what the user can mend and RunFailed for a run that failed.
    """
    if args.seed < 0:
        args.seed = int(np.random.default_rng().integers(1, 10_001))
    path = args.store_root / run_name(args)
    try:
        if args.evaluate:
            return evaluate_only(task, args, args.eval_model or path / "ckpt.best.pth.tar")
        if args.must_resume and not path.exists():
            raise UserError(f"{path}: there is no such run to --resume; without the flag it starts")
        with contextlib.closing(RunDir(path, args)) as directory:
            return train_and_test(task, args, directory)
    finally:
        stop_logging()


def train_and_test(task: Task, args: argparse.Namespace, directory: RunDir) -> int:
    """Train the run of these arguments, or go on training it, then test its best checkpoint."""
    if directory.result is not None:
        start_logging(None)  # a finished run stays as it is
        log.info("%s is finished (--overwrite starts over)", directory.path)
        report(directory.result, task, args)
        return 0
    start_logging(directory.log)
    try:
        training = prepare(task, args, directory)
        resume(training)
    except UserError:
        directory.withdraw()  # the mended command may be another configuration
        raise
    directory.begin()
    training.train()
    test(training)
    return 0


def prepare(task: Task, args: argparse.Namespace, directory: RunDir) -> Run:
    """Everything that can be wrong with a command before its first step."""
    device = pick_device(args.device)
    log.info("Run directory %s, seed %d, device %s", directory.path, args.seed, device)
    torch.manual_seed(args.seed)
    data = load(task, args)
    regressor = build_regressor(task, args, data).to(device)
    if args.pretrained:
        load_encoder(regressor, task, args)
    return Run(task, args, data, regressor, directory)


def test(training: Run) -> None:
    """Test the best checkpoint; metrics.json is written last and marks the run as finished."""
    task, data, directory = training.task, training.data, training.directory
    content = checkpoint.load(directory.best)
    load_model(training.regressor, content, task, directory.best)
    tested = evaluate(training.regressor, data.test, task, data, training.args.batch_size)
    table = tested.table()
    tested.rows().to_csv(directory.predictions, index=False)
    directory.write_scalars("test", table, content["state"]["step"])
    result = as_result(task, data, table, directory.best, content["epoch"])
    write_json(directory.metrics, result)
    report(result, task, training.args)


def evaluate_only(task: Task, args: argparse.Namespace, path: Any) -> int:
    """The test table of a checkpoint; no run directory is touched."""
    content = checkpoint.load(path)
    start_logging(None)
    data = load(task, args)
    regressor = build_regressor(task, args, data).to(pick_device(args.device))
    load_model(regressor, content, task, path)
    table = evaluate(regressor, data.test, task, data, args.batch_size).table()
    report(as_result(task, data, table, path, content.get("epoch")), task, args)
    return 0


def load(task: Task, args: argparse.Namespace) -> Data:
    """The data, and a few lines in the log on what they are."""
    data = task.load(args)
    if data.train.weights is None:
        data.train.weights = task.weights(args, data.train.labels, data.bins)
    sizes = {"training": data.train, data.selected_on: data.val, "test": data.test}
    log.info("%s: %s", task.name, ", ".join(f"{len(split):,} {name}" for name, split in sizes.items()))
    if data.selected_on == "test":
        log.info("The best epoch is chosen on the TEST set, as in the paper: its test numbers are optimistic")
    if data.standin:
        log.info("STAND-IN, not the real data: %s", data.standin)
    thresholds = (f"{bound:,.10g}" for bound in (data.shots.many_above, data.shots.few_below))
    log.info(
        "Shots: many above %s training %s in a bin, few below %s", next(thresholds), task.counted, *thresholds
    )
    log.info(
        "Loss %s, re-weighting %s, LDS %s, FDS %s", args.loss, args.reweight,
        f"{args.lds_kernel} {args.lds_ks}/{args.lds_sigma:g}" if args.lds else "off",
        f"{args.fds_kernel} {args.fds_ks}/{args.fds_sigma:g}, {args.fds_variant}" if args.fds else "off",
    )  # fmt: skip
    return data


def report(result: dict[str, Any], task: Task, args: argparse.Namespace) -> None:
    """Log the test table, and write the result to `--metrics_json` too."""
    standin = f"\n  on a stand-in: {result['standin']}" if "standin" in result else ""
    epoch = "" if result["epoch"] is None else f" (epoch {result['epoch']})"
    selected = "\n  selected on the test set, as the paper did" if "selected_on" in result else ""
    log.info(
        "Test of %s%s%s%s\n%s",
        result["checkpoint"],
        epoch,
        standin,
        selected,
        shot_text(result["shots"], task.table),
    )
    if args.metrics_json is not None:
        try:
            args.metrics_json.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.metrics_json, result)
        except OSError as error:
            raise UserError(
                f"--metrics_json {args.metrics_json}: cannot be written ({error.strerror})"
            ) from error
