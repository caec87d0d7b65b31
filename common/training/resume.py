"""Going on with a run: from its own last checkpoint, or from another one that `--resume` names."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.method import methods_of
from common.settings import Running
from common.training import checkpoint, ranks
from common.training.engine import Run, State
from common.training.optimizer import load_state, same_kind
from common.training.regressor import check_tied, key_map, load_model

log = logging.getLogger("dir")


def resume(run: Run) -> None:
    """Go on from the run directory's last checkpoint, or else from the one that `--resume` names.

    A checkpoint of the published code resumes at its epoch; it holds no random state.
    """
    path = run.directory.last
    if not path.exists():
        named = run.settings[Running].resume
        if not named:
            run.directory.rewind(0)
            return
        path = Path(named)
    content = checkpoint.load(path)
    check_tied(content, run.data, path)
    load_model(run.regressor, content, run.task, path)
    if not {"optimizer", "epoch"} <= content.keys():
        raise UserError(f"{path}: holds a model but no training to resume; start with --pretrained {path}")
    restore_optimizer(run, content, path)
    if "state" in content:
        known = {part.name for part in fields(State)}  # a checkpoint from before may hold others
        run.state = State(**{name: value for name, value in content["state"].items() if name in known})
        checkpoint.set_random_state(content["random"])
        ranks.resume_stream(run.regressor.stream, content)
    else:
        run.state = State(step=content["epoch"] * run.steps_per_epoch)
    if path != run.directory.last:
        check_start(run, content, path)
        run.state.history = []  # the best checkpoint so far is not in this run directory
    run.directory.rewind(run.state.step)
    log.info("Resuming %s at step %d of at most %d", path, run.state.step, run.max_steps)


def restore_optimizer(run: Run, content: dict[str, Any], path: Path) -> None:
    """Load the optimizer's state; raises UserError if another optimizer's, or of other parameters."""
    if not same_kind(content["optimizer"], run.optimizer):
        heads = [method.option() for method in methods_of(run.task) if "head" in method.roles]
        raise UserError(
            f"{path}: its training was with another {' or '.join(['--optimizer', *heads])}; give it the same, "
            f"or start anew with --pretrained {path}"
        )
    load_state(run.optimizer, content["optimizer"])


def check_start(run: Run, content: dict[str, Any], path: Path) -> None:
    """Raise UserError where a run cannot go on from the checkpoint of another one."""
    if run.state.step >= run.max_steps:
        raise UserError(
            f"{path}: is at epoch {content['epoch']}, and nothing is left to train; raise --epoch, "
            f"or test it with --evaluate"
        )
    state = checkpoint.renamed(run.regressor.state_dict(), key_map(run.task))
    for method in run.regressor:
        prefix = f"methods.{method.name()}."
        own = {
            k for k, ours in zip(state, run.regressor.state_dict(), strict=True) if ours.startswith(prefix)
        }
        if run.state.step and own - content["state_dict"].keys():
            raise UserError(
                f"{path}: holds no {method.label} statistics, which begin with a run; drop {method.option()}, "
                f"or start anew with --pretrained {path}"
            )
