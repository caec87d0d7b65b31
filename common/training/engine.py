"""One loop that trains any regressor on any data set; it knows no method and no data set by name.

It counts in steps, so "a check every epoch" and "a check every 400 steps" are the same loop. What a step
draws at random follows from seed, step and torch's random state, which the checkpoint keeps: a run that was
killed goes on bit for bit.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import torch
from torch import nn

from common.cli import stop_between_steps
from common.errors import RunFailed
from common.method import Seen
from common.report import Progress, shot_text
from common.settings import Running, Settings, Training
from common.task import Batch, Data, Task
from common.training import checkpoint, ranks
from common.training.draws import EXTRA_PASS, epoch_draws, evaluation_draws, steps_of_epoch, training_draws
from common.training.evaluate import evaluate
from common.training.optimizer import learning_rates, make_optimizer
from common.training.regressor import Regressor, key_map
from common.training.rundir import RunDir

log = logging.getLogger("dir")


@dataclass
class State:
    """Where a run stands between two steps; all of it is in the checkpoint."""

    step: int = 0
    history: list[float] = field(default_factory=list)  # the selecting metric at each check, lower is better
    seconds: float = 0.0
    table: dict[str, Any] | None = None  # of the last check
    losses: dict[str, float] = field(default_factory=dict)  # sums over samples, since the last check
    samples: int = 0  # of those sums


class Run:
    """A training run: what it trains, where it stands, and where it writes."""

    def __init__(
        self, task: Task, settings: Settings, data: Data, regressor: Regressor, directory: RunDir
    ) -> None:
        self.task, self.settings, self.data, self.directory = task, settings, data, directory
        self.training, self.seed = settings[Training], settings[Running].seed
        self.regressor, self.device = regressor, next(regressor.parameters()).device
        self.optimizer = make_optimizer(task, self.training, regressor)
        self.views, self.drop_last = regressor.views, bool(regressor.needs.drop_last)
        size = self.training.batch_size
        self.steps_per_epoch = steps_of_epoch(data.train, size, drop_last=self.drop_last)
        length = task.length(settings)
        self.check_every = length.check_every or self.steps_per_epoch
        self.max_steps = self.check_every * length.checks
        self.select = task.select(settings)
        self.state = State(step=length.first_epoch * self.steps_per_epoch)
        self.model = ranks.parallel(regressor, [self.seed, self.state.step, ranks.rank()])
        # Samples and losses, still on the device.
        self.pending: list[tuple[int, dict[str, torch.Tensor]]] = []

    def train(self) -> None:
        """Step until the last check or until patience runs out.

        Ctrl-C and SIGTERM stop between two steps, with a checkpoint written. Raises RunFailed if a loss is
        not finite.
        """
        state, batches = self.state, self.batches()
        with stop_between_steps() as stop, self.progress() as progress:
            while state.step < self.max_steps and not out_of_patience(state.history, self.training.patience):
                began, epoch = time.monotonic(), state.step // self.steps_per_epoch
                batch = next(batches)
                samples = batch.share.of if batch.share else len(batch.targets) // self.views
                self.pending.append((samples, self.step(batch, epoch)))
                state.step += 1
                if state.step % self.steps_per_epoch == 0:
                    self.end_epoch(epoch)
                state.seconds += time.monotonic() - began
                progress.advance(samples, "" if state.step % self.training.print_freq else self.settle())
                # Once: a signal that comes during the check stops after the next step.
                stopping = ranks.any_of(bool(stop))
                if state.step % self.check_every == 0:
                    self.check()
                elif stopping:
                    self.save()
                if stopping:
                    raise KeyboardInterrupt

    def batches(self) -> Iterator[Batch]:
        """Yield the training batches from the run's step on."""
        draws = training_draws(
            self.data.train, self.training.batch_size, self.seed, self.state.step,
            views=self.views, drop_last=self.drop_last,
        )  # fmt: skip
        return ranks.batches(self.data.train, draws, augment=True, device=self.device, views=self.views)

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Take one step of gradient descent; return the losses by name, still on the device."""
        for group, rate in zip(self.optimizer.param_groups, self.rates(epoch), strict=True):
            group["lr"] = rate
        self.regressor.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.model(batch, epoch)
        functools.reduce(torch.add, losses.values()).backward()
        if self.training.max_grad_norm:
            nn.utils.clip_grad_norm_(self.regressor.parameters(), self.training.max_grad_norm)
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def rates(self, epoch: int) -> list[float]:
        """Return the learning rate of each parameter group in an epoch."""
        epochs = math.ceil(self.max_steps / self.steps_per_epoch)
        return learning_rates(self.training, self.regressor, epoch, epochs)

    def end_epoch(self, epoch: int) -> None:
        """Let each method act on the epoch that has ended."""
        for method in self.regressor:
            method.end_of_epoch(epoch, lambda what: self.one_more_pass(f"{what} of epoch {epoch}", epoch))

    @torch.no_grad()
    def one_more_pass(self, what: str, epoch: int) -> Iterator[Seen]:
        """Yield what a method may see of the training data once more, in training mode: batch norm moves."""
        split, size, augment = self.data.statistics or self.data.train, self.training.batch_size, False
        if self.data.statistics is not None:
            draws = evaluation_draws(split, size)  # in file order, as published
        else:
            draws, augment = epoch_draws(split, size, self.seed, epoch, EXTRA_PASS), True
        with Progress(len(split), self.task.unit, what) as progress:
            for batch in ranks.batches(split, draws, augment=augment, device=self.device):
                seen = self.regressor.see(batch, epoch)
                yield seen
                progress.advance(len(seen.batch.targets))

    def settle(self) -> str:
        """Bring the pending losses off the device; raises RunFailed if one is not finite."""
        state, pending = self.state, self.pending
        if not pending:
            return ""
        names = list(pending[0][1])
        values = torch.stack(
            [torch.stack([losses[name] for name in names]) for _, losses in pending]
        ).tolist()
        for step, row in enumerate(values, start=state.step - len(values) + 1):
            for name, loss in zip(names, row, strict=True):
                if not math.isfinite(loss):
                    self.fail(f"the loss {name} is {loss} at step {step}", step)
        self.pending = []
        for (samples, _), row in zip(pending, values, strict=True):
            state.samples += samples
            for name, loss in zip(names, row, strict=True):
                state.losses[name] = state.losses.get(name, 0.0) + samples * loss
        return f"loss {sum(values[-1]):.4f}"

    def settle_all(self) -> None:
        """Settle; raises RunFailed if the weights are not finite: a finite loss can have such a gradient."""
        self.settle()
        state = self.regressor.state_dict().values()
        if not all(bool(v.isfinite().all()) for v in state if v.is_floating_point()):
            self.fail(f"the weights are not finite after step {self.state.step}", self.state.step)

    def fail(self, reason: str, step: int) -> NoReturn:
        """Raise RunFailed, saying where the last good checkpoint is."""
        last = self.directory.last
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise RunFailed(f"{reason} (epoch {(step - 1) // self.steps_per_epoch}); {good}; try a smaller --lr")

    def check(self) -> None:
        """Validate, log, and write the checkpoint: as the best one too, if no check was better."""
        state = self.state
        self.settle_all()
        losses = {name: total / max(state.samples, 1) for name, total in state.losses.items()}
        train_loss = sum(losses.values())  # a mean over samples, as published: not over steps
        score, state.table = self.validate(train_loss)
        best = not state.history or score < min(state.history) or self.regressor.needs.keep == "last"
        state.history.append(score)
        record = {
            "step": state.step,
            "epoch": round(state.step / self.steps_per_epoch, 4),
            "train_loss": train_loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(state.seconds, 1),
            "best": best,
            "val": state.table,
            "losses": losses,
        }
        state.losses, state.samples = {}, 0
        self.log_check(record, score)
        self.directory.record(record)
        self.save(best=best)

    def validate(self, train_loss: float) -> tuple[float, dict[str, Any]]:
        """Return the selecting metric and the validation table; without a head, the training loss and no table."""
        if self.regressor.head is None:
            return train_loss, {}
        checked = evaluate(self.regressor, self.data.val, self.task, self.data, self.training.batch_size)
        table = checked.table()
        return float(table["all"][self.select] or 0.0), table

    def log_check(self, record: dict[str, Any], score: float) -> None:
        """Log one check: the training loss, each loss if there are several, and the validation table."""
        several = len(record["losses"]) > 1
        parts = ", ".join(f"{name} {value:.4f}" for name, value in record["losses"].items() if several)
        table = record["val"]
        metric = f", {self.data.selected_on} {self.select.upper()} {score:.4f}" if table else ""
        log.info(
            "Step %d (epoch %.1f): training loss %.4f%s%s%s%s", record["step"], record["epoch"],
            record["train_loss"], f" ({parts})" if several else "", metric,
            ", the best so far" if record["best"] else "",
            "\n" + shot_text(table, self.task.table) if table else "",
        )  # fmt: skip

    def save(self, *, best: bool = False) -> None:
        """Write the checkpoint: the published keys, and what an exact resume needs."""
        self.settle_all()
        content = {
            "epoch": self.state.step // self.steps_per_epoch,
            "model": self.task.model_name(self.settings) if self.task.model_name else self.task.name,
            "best_loss": min(self.state.history, default=math.inf),
            "state_dict": checkpoint.renamed(self.regressor.state_dict(), key_map(self.task)),
            "optimizer": self.optimizer.state_dict(),
            "dataset": self.task.name,
            **self.data.for_checkpoint(),
            "state": asdict(self.state),
            "random": checkpoint.random_state(),
            **ranks.streams(self.regressor.stream),
        }
        if self.task.published is not None:
            content |= self.task.published(content)
        self.directory.keep(content, best=best)

    def progress(self) -> Progress:
        """Return the bar over all samples that training may see."""
        per_step = len(self.data.train) / self.steps_per_epoch
        start = round(self.state.step * per_step)
        return Progress(round(self.max_steps * per_step), self.task.unit, "training", start=start)


def out_of_patience(history: list[float], patience: int) -> bool:
    """Return whether the current check is the worst of the last `patience` + 1, the published rule."""
    window = patience + 1
    return patience > 0 and len(history) > window and history[-1] >= max(history[-window:])
