"""What every `train.py` does: train and test a run, or evaluate a checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import cli
from common.errors import UserError
from common.files import check_writable, digest, write_atomically
from common.flags import field_flags
from common.method import Method, choose_methods, methods_of
from common.report import start_logging, stop_logging
from common.settings import Running, Settings, Training
from common.task import Data, Task
from common.training import checkpoint, ranks
from common.training.compute import check_device, precision, set_up_compute
from common.training.engine import Run
from common.training.evaluate import evaluate
from common.training.load import load
from common.training.regressor import Regressor, build_regressor, check_tied, load_model, set_up
from common.training.result import as_result, report
from common.training.resume import resume
from common.training.rundir import Bystander, RunDir, saved_settings

log = logging.getLogger("dir")


def main(task: Task, prog: str, doc: str, argv: Sequence[str] | None = None, **defaults: Any) -> int:
    """Run the command of a data set, with other `defaults` of its flags where they are given; return its exit
    code.

    Raises UserError for what the user can mend and RunFailed for a run that failed.
    """
    return run(task, settings_of(task, prog, doc, argv, **defaults))


def kinds_of(task: Task) -> tuple[type, ...]:
    """Return every group of settings of a data set: the shared ones, its methods', its own."""
    return (Running, Training, *(method.Flags for method in methods_of(task)), *task.flags)


def settings_of(
    task: Task, prog: str, doc: str, argv: Sequence[str] | None = None, **defaults: Any
) -> Settings:
    """Return the complete settings of a command line; raises UserError for flags that contradict each other."""
    settings = cli.parse(prog, doc, kinds_of(task), {**task.defaults, **defaults}, argv)
    return complete(task, settings)


def complete(task: Task, settings: Settings) -> Settings:
    """Return the settings with what follows from them: the data folder, a random seed, what methods mean.

    `--amp auto` becomes the precision of the device, which is part of the run.
    """
    running = settings[Running]
    if running.data_dir is None:
        settings = settings.with_(data_dir=cli.ROOT / "data" / task.name)
    if running.seed < 0:
        settings = settings.with_(seed=int(np.random.default_rng().integers(1, 10_001)))
    if settings[Training].amp == "auto":  # the run is what it means here
        settings = settings.with_(amp=precision("auto", cli.pick_device(running.where)))
    for method in methods_of(task):
        settings = method.complete(settings, task)
    return task.complete(settings)


def run_name(task: Task, settings: Settings) -> str:
    """Return the name of a run's directory, composed as published."""
    return named(task, settings, choose_methods(task, settings))


def named(task: Task, settings: Settings, methods: Sequence[Method]) -> str:
    """Return the name of a run with these methods."""
    return task.run_name(settings, "".join(method.run_name() for method in methods))


def run(task: Task, settings: Settings, train: Callable[..., int] | None = None) -> int:
    """Train and test, or with `--evaluate` only test, with all processes of the run; return the exit code.

    `train` takes the place of `train_and_test` for a model that is no regressor of torch.
    """
    with ranks.group(cli.pick_device(settings[Running].where)):
        settings = settings.with_(seed=ranks.from_first(settings[Running].seed))  # a random one is drawn once
        ranks.check_batch(settings[Training].batch_size)
        try:
            return _run(task, settings, train or train_and_test)
        finally:
            stop_logging()


def _run(task: Task, settings: Settings, train: Callable[..., int]) -> int:
    running = settings[Running]
    methods = choose_methods(task, settings)
    path = running.store_root / named(task, settings, methods)
    for file, flag in ((running.metrics_json, "--metrics_json"), (running.predictions, "--predictions")):
        if file is not None:
            check_writable(file, flag)
    if running.overwrite and running.resume and Path(running.resume).resolve().parent == path.resolve():
        raise UserError(
            f"--overwrite would replace the run that --resume names ({running.resume}); drop --overwrite to go on "
            "with it, or copy the checkpoint elsewhere first"
        )
    if running.evaluate:
        tested = running.eval_model or running.resume or path / "ckpt.best.pth.tar"
        return evaluate_only(task, settings, methods, Path(tested))
    if running.resume == "" and not path.exists():
        raise UserError(f"{path}: there is no such run to --resume; without the flag it starts")
    data = digest_of(task, settings)
    ranks.check_same("data", data)
    directory = ranks.by_first(
        lambda: RunDir(
            path, settings, log_file=running.log_file, overwrite=running.overwrite,
            data=data, length=task.length,
        )
    )  # fmt: skip
    result = ranks.from_first(None if directory is None else directory.result)
    with contextlib.closing(directory or Bystander(path, result)) as directory:
        return train(task, settings, methods, directory)


def digest_of(task: Task, settings: Settings) -> str | None:
    """Return a digest of the data's labels, names and texts; None where there are none."""
    files = [path for path in task.files(settings) if path.is_file()]
    return (
        digest(part for path in files for part in (path.name.encode(), path.read_bytes())) if files else None
    )


def train_and_test(task: Task, settings: Settings, methods: Sequence[Method], directory: RunDir) -> int:
    """Train the run of these settings, or go on training it, then test its best checkpoint."""
    if directory.result is not None:
        start_logging(None)  # a finished run stays as it is
        check_not_resumed(settings[Running].resume, directory)
        warn_of_idle(settings)
        log.info("%s is finished (--overwrite starts over)", directory.path)
        report(directory.result, task, settings)
        return 0
    start_logging(directory.log)
    try:
        training = prepare(task, settings, methods, directory)
        ranks.together(lambda: resume(training))
    except UserError:
        directory.withdraw()  # the mended command may be another configuration
        raise
    directory.begin()
    training.train()
    test(training)
    return 0


def check_not_resumed(resumed: str | None, directory: RunDir) -> None:
    """Raise UserError if `--resume` names a checkpoint of elsewhere, which a finished run would leave unread."""
    if resumed and Path(resumed).resolve().parent != directory.path.resolve():
        raise UserError(
            f"--resume {resumed}: {directory.path} is finished; --overwrite starts it over from there, "
            "--evaluate tests that checkpoint"
        )


def prepare(task: Task, settings: Settings, methods: Sequence[Method], directory: RunDir) -> Run:
    """Load data and model; raises UserError for anything that the user can fix."""
    device, seed = cli.pick_device(settings[Running].where), settings[Running].seed
    together = f", {ranks.size()} processes" if ranks.size() > 1 else ""
    log.info("Run directory %s, seed %d, device %s%s", directory.path, seed, device, together)
    warn_of_idle(settings)

    def built() -> tuple[Data, Regressor]:
        check_device(settings[Training], device)
        torch.manual_seed(seed)
        data = load(task, settings)
        for method in methods:
            data = method.prepare(data)
        log.info("Methods: %s", "; ".join(method.describe() for method in methods))
        regressor = build_regressor(task, settings, data, methods).to(device)
        set_up(regressor, task, settings, data)
        set_up_compute(regressor, settings[Training])
        return data, regressor

    data, regressor = ranks.together(built)
    ranks.check_same("data", [len(split) for split in (data.train, data.val, data.test)])
    return Run(task, settings, data, regressor, directory)


def warn_of_idle(settings: Settings) -> None:
    """Log which flags were given and have no effect."""
    for option in settings.idle():
        log.warning("%s has no effect with these flags", option)


def test(training: Run) -> None:
    """Test the best checkpoint; metrics.json is written last and marks the run as finished."""
    task, data, directory = training.task, training.data, training.directory
    ranks.everywhere(None)  # the best checkpoint is written
    content = checkpoint.load(directory.best)
    table: dict[str, Any] = {}
    if training.regressor.head is not None:
        load_model(training.regressor, content, task, directory.best)
        tested = evaluate(training.regressor, data.test, task, data, training.training.batch_size)
        table = tested.table()
        directory.keep_predictions(tested)
        directory.write_scalars("test", table, content["state"]["step"])
    result = as_result(task, data, table, directory.best, content["epoch"])
    directory.finish(result)
    report(result, task, training.settings)


def warn_of_other_flags(task: Task, settings: Settings, path: Path) -> None:
    """Log which flags of data and model the run of a checkpoint had otherwise; silent without its `args.json`."""
    file = path.parent / "args.json"
    try:
        theirs = saved_settings(file, settings).identity()
    except UserError:  # of another program, or damaged: nothing is known
        return
    here = settings.identity()  # and a run's length is no matter of a test
    names = [name for kind in task.flags for name, how in field_flags(kind).items() if not how.grows]
    differ = [f"{settings.option(n)} {theirs[n]}" for n in names if n in here and here[n] != theirs[n]]
    if differ:
        log.warning("%s was trained with %s; --config %s gives its flags", path, ", ".join(differ), file)


def evaluate_only(task: Task, settings: Settings, methods: Sequence[Method], path: Path) -> int:
    """Print the test table of a checkpoint; no run directory is touched."""
    content, device = checkpoint.load(path), cli.pick_device(settings[Running].where)
    check_device(settings[Training], device)
    start_logging(None)
    warn_of_other_flags(task, settings, path)
    data = load(task, settings, content.get("kept", {}))
    regressor = build_regressor(task, settings, data, methods).to(device)
    for method in regressor:
        method.setup(regressor)
    check_tied(content, data, path)
    load_model(regressor, content, task, path)
    set_up_compute(regressor, settings[Training])
    tested = evaluate(regressor, data.test, task, data, settings[Training].batch_size)
    report(as_result(task, data, tested.table(), path, content.get("epoch")), task, settings)
    predictions = settings[Running].predictions
    if predictions is not None and ranks.rank() == 0:
        write_atomically(predictions, tested.rows().to_csv(index=False))
    return 0
