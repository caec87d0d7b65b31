"""One loop that trains any regressor on any data set.

It counts in steps: "a check every epoch" (age, depth) and "a check every 400 steps, with patience" (STS-B)
are the same loop with other numbers. Whatever a step draws at random follows from the seed, the step, and
torch's own random state, which the checkpoint keeps: a run that was killed goes on bit for bit.
"""

from __future__ import annotations

import argparse
import functools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import torch
from torch import nn

from common.cli import stop_between_steps
from common.errors import RunFailed
from common.loss import LOSSES
from common.report import Progress, shot_text
from common.task import Batch, Data, Task
from common.training import checkpoint
from common.training.draws import STATISTICS, epoch_draws, training_draws
from common.training.evaluate import evaluate
from common.training.regressor import Regressor
from common.training.rundir import RunDir

log = logging.getLogger("dir")


@dataclass
class State:
    """Where a run stands between two steps; all of it is in the checkpoint."""

    step: int = 0
    history: list[float] = field(default_factory=list)  # the selecting metric at each check, lower is better
    loss_sum: float = 0.0  # of training, since the last check
    loss_steps: int = 0
    seconds: float = 0.0
    table: dict | None = None  # of the last check


class Run:
    """A training run: what it trains, where it stands, and where it writes."""

    def __init__(
        self, task: Task, args: argparse.Namespace, data: Data, regressor: Regressor, directory: RunDir
    ) -> None:
        self.task, self.args, self.data, self.directory = task, args, data, directory
        self.regressor, self.device = regressor, next(regressor.parameters()).device
        self.optimizer = make_optimizer(task, args, regressor)
        self.criterion = make_criterion(task, args)
        self.steps_per_epoch = math.ceil(len(data.train) / args.batch_size)
        self.check_every = args.val_interval or self.steps_per_epoch
        self.max_steps = self.check_every * args.max_vals
        self.select = "mse" if (args.loss, task.select) == ("mse", "mae") else task.select
        self.state = State(step=getattr(args, "start_epoch", 0) * self.steps_per_epoch)
        self.pending: list[torch.Tensor] = []  # losses that are still on the device

    def train(self) -> None:
        """Step until the last check or until patience runs out.

        Ctrl-C and SIGTERM stop between two steps, with a checkpoint written. Raises RunFailed if a loss is
        not finite.
        """
        state, args = self.state, self.args
        draws = training_draws(self.data.train, args.batch_size, args.seed, state.step)
        batches = self.data.train.batches(draws, augment=True, device=self.device)
        with stop_between_steps() as stop, self.progress() as progress:
            while state.step < self.max_steps and not out_of_patience(state.history, args.patience):
                began, epoch = time.monotonic(), state.step // self.steps_per_epoch
                batch = next(batches)
                self.pending.append(self.step(batch, epoch))
                state.step += 1
                if args.fds and state.step % self.steps_per_epoch == 0 and epoch >= args.start_update:
                    self.collect_statistics(epoch)
                state.seconds += time.monotonic() - began
                progress.advance(
                    len(batch.targets), self.settle() if state.step % args.print_freq == 0 else ""
                )
                stopping = bool(stop)  # once: a signal that comes during the check stops after the next step
                if state.step % self.check_every == 0:
                    self.check()
                elif stopping:
                    self.save()
                if stopping:
                    raise KeyboardInterrupt

    def step(self, batch: Batch, epoch: int) -> torch.Tensor:
        """One step of gradient descent; returns the loss, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.args, epoch)
        self.regressor.train()
        self.optimizer.zero_grad(set_to_none=True)
        outputs, _ = self.regressor(batch.inputs, batch.targets, epoch)
        loss = self.loss(outputs, batch)
        loss.backward()
        if self.args.max_grad_norm:
            nn.utils.clip_grad_norm_(self.regressor.parameters(), self.args.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean loss over what is known of the batch."""
        targets, weights = batch.targets / self.task.target_scale, batch.weights
        if batch.valid is not None:
            outputs, targets = outputs[batch.valid], targets[batch.valid]
            weights = None if weights is None else weights[batch.valid]
        return self.criterion(outputs, targets, weights=weights)

    @torch.no_grad()
    def collect_statistics(self, epoch: int) -> None:
        """One more pass for FDS, in training mode (F4): over training, augmented, or over its own subset."""
        fds, own = self.regressor.FDS, self.data.statistics
        split, augment = (self.data.train, True) if own is None else (own, False)
        draws = epoch_draws(split, self.args.batch_size, self.args.seed, epoch, STATISTICS)
        with Progress(len(split), self.task.unit, f"FDS statistics of epoch {epoch}") as progress:
            for batch in split.batches(draws, augment=augment, device=self.device):
                _, features = self.regressor(batch.inputs, batch.targets, epoch)
                fds.collect(features, batch.targets)
                progress.advance(len(batch.targets))
        fds.update_last_epoch_stats(epoch)
        fds.update(epoch)

    def settle(self) -> str:
        """Bring the pending losses off the device; raises RunFailed if one is not finite."""
        state, losses = self.state, torch.stack(self.pending).tolist() if self.pending else []
        for step, loss in enumerate(losses, start=state.step - len(losses) + 1):
            if not math.isfinite(loss):
                self.fail(f"the loss is {loss} at step {step}", step)
        self.pending = []
        state.loss_sum += sum(losses)
        state.loss_steps += len(losses)
        return f"loss {losses[-1]:.4f}" if losses else ""

    def settle_all(self) -> None:
        """Settle; raises RunFailed if the weights are not finite: a finite loss can have such a gradient."""
        self.settle()
        state = self.regressor.state_dict().values()
        if not all(bool(v.isfinite().all()) for v in state if v.is_floating_point()):
            self.fail(f"the weights are not finite after step {self.state.step}", self.state.step)

    def fail(self, what: str, step: int) -> NoReturn:
        """Raise RunFailed, saying where the last good checkpoint is."""
        last = self.directory.last
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise RunFailed(f"{what} (epoch {(step - 1) // self.steps_per_epoch}); {good}; try a smaller --lr")

    def check(self) -> None:
        """Validate, log, and write the checkpoint: as the best one too, if no check was better."""
        state = self.state
        self.settle_all()
        checked = evaluate(self.regressor, self.data.val, self.task, self.data, self.args.batch_size)
        state.table = checked.table()
        score = state.table["all"][self.select]
        best = not state.history or score < min(state.history)
        state.history.append(score)
        record = {
            "step": state.step, "epoch": round(state.step / self.steps_per_epoch, 4),
            "train_loss": state.loss_sum / max(state.loss_steps, 1),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(state.seconds, 1), "best": best, "val": state.table,
        }  # fmt: skip
        state.loss_sum, state.loss_steps = 0.0, 0
        log.info(
            "Step %d (epoch %.1f): training loss %.4f, %s %s %.4f%s\n%s", state.step, record["epoch"],
            record["train_loss"], self.data.selected_on, self.select.upper(), score,
            ", the best so far" if best else "", shot_text(state.table, self.task.table),
        )  # fmt: skip
        self.directory.record(record)
        self.save(best=best)

    def save(self, *, best: bool = False) -> None:
        """Write the checkpoint: the published keys, and what an exact resume needs."""
        self.settle_all()
        content = {
            "epoch": self.state.step // self.steps_per_epoch,
            "model": getattr(self.args, "model", self.task.name),
            "best_loss": min(self.state.history, default=math.inf),
            "state_dict": checkpoint.renamed(self.regressor.state_dict(), self.task.key_map),
            "optimizer": self.optimizer.state_dict(),
            "dataset": self.task.name,
            "state": asdict(self.state),
            "random": checkpoint.random_state(),
        }
        if self.task.published is not None:
            content |= self.task.published(content)
        checkpoint.save(self.directory.last, content, also=self.directory.best if best else None)

    def progress(self) -> Progress:
        """The bar over all samples that training may see."""
        per_step = len(self.data.train) / self.steps_per_epoch
        start, total = round(self.state.step * per_step), round(self.max_steps * per_step)
        return Progress(total, self.task.unit, "training", start=start)


def make_criterion(task: Task, args: argparse.Namespace) -> Callable[..., torch.Tensor]:
    """The loss of `--loss`, with the data set's beta where it has one."""
    betas = {"focal_mse": task.focal_beta, "focal_l1": task.focal_beta, "huber": args.huber_beta}
    loss = LOSSES[args.loss]
    return functools.partial(loss, beta=betas[args.loss]) if args.loss in betas else loss


def make_optimizer(task: Task, args: argparse.Namespace, regressor: nn.Module) -> torch.optim.Optimizer:
    """Adam or SGD over whatever trains; where the data set says so, Adam has a weight decay of its own."""
    trained = [parameter for parameter in regressor.parameters() if parameter.requires_grad]
    if args.optimizer == "adam":
        decay = args.weight_decay if task.adam_weight_decay is None else task.adam_weight_decay
        return torch.optim.Adam(trained, lr=args.lr, weight_decay=decay)
    return torch.optim.SGD(trained, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)


def learning_rate(args: argparse.Namespace, epoch: int) -> float:
    """The initial rate, ten times smaller for each epoch of `--schedule` that has come."""
    return args.lr * 0.1 ** sum(epoch >= milestone for milestone in args.schedule)


def out_of_patience(history: list[float], patience: int) -> bool:
    """The published rule: the current check is the worst of the last `patience` + 1 (protocol, STS-B)."""
    window = patience + 1
    return patience > 0 and len(history) > window and history[-1] >= max(history[-window:])
