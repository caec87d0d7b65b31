"""A regressor: an encoder, methods on its features, and a head."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.batch import Batch, Prediction, Share
from common.errors import UserError
from common.method import Head, Method, Needs, Seen, all_methods, at_least_float32, combined_needs
from common.settings import Settings, Training
from common.task import Data, Task
from common.training import checkpoint
from common.training.ranks import Stream, gathered, whole

log = logging.getLogger("dir")


class Regressor(nn.Module):
    """`head(features(encoder(inputs)))`, where methods act on the features in training only (paper, figure
    3).

    `encoder` maps inputs to features `(n, encoder.feature_dim)`, or to maps `(n, encoder.feature_dim, H, W)`.
    The head learns `(label - target_mean) / target_scale`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module | None,
        methods: Sequence[Method] = (),
        target_scale: float = 1.0,
        target_mean: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.target_scale, self.target_mean = target_scale, target_mean
        self.methods = nn.ModuleDict({method.name(): method for method in methods})
        self.needs: Needs = combined_needs(methods)
        self.bf16 = False  # the encoder's precision; what follows it is in at least float32
        self.stream: Stream | None = None  # of the encoder's random numbers, where several processes train

    def __iter__(self) -> Iterator[Method]:
        return iter(self.methods.values())  # type: ignore[arg-type]  # torch types its values as Module

    @property
    def views(self) -> int:
        """The views of each sample in a training batch."""
        return (self.needs.views or 1) + (self.needs.extra_views or 0)

    def train(self, mode: bool = True) -> Regressor:
        """Switch to training, but for an encoder that a method keeps in eval mode."""
        super().train(mode)
        if self.needs.eval_encoder:
            self.encoder.eval()
        return self

    def encode(self, inputs: Any, share: Share | None = None) -> torch.Tensor:
        """Return the encoder's features of a batch in at least float32; with a `share`, all processes encode theirs."""
        device = next(self.parameters()).device
        cast = torch.autocast(device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        draws = contextlib.nullcontext() if share is None or self.stream is None else self.stream
        with cast, draws:
            features = at_least_float32(self.encoder(inputs))
        return gathered(features, share)

    def see(self, batch: Batch, epoch: int) -> Seen:
        """Return the features of a batch, before and after the methods, without outputs."""
        raw, batch = self.encode(batch.inputs, batch.share), whole(batch)
        features = raw
        for method in self:
            features = method.features(features, batch, epoch)
        return Seen(batch, raw, features, None, self.head, epoch)

    def forward(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Return the losses of a batch by name.

        Extra views pass the encoder first and by themselves, so that batch norm of the others stays as it is
        without them. The losses are taken in full precision, whatever the model runs in.
        """
        extra = None
        if self.needs.extra_views:
            own = len(batch.targets) // self.views * (self.needs.views or 1)
            extra = self.encode(batch.inputs[own:], batch.share)
            batch = batch.first(own)
        seen = self.see(batch, epoch)
        outputs = None if self.head is None else at_least_float32(self.head(seen.features))
        seen = replace(seen, outputs=outputs, extra=extra)
        with torch.autocast(seen.raw.device.type, enabled=False):
            return {name: loss for method in self for name, loss in method.losses(seen).items()}

    def predict(self, inputs: Any, share: Share | None = None) -> Prediction:
        """Return the prediction for a batch, in label units; the regressor must have a head."""
        return self.answer(self.encode(inputs, share))

    def answer(self, features: torch.Tensor) -> Prediction:
        """Return the head's prediction for features, in label units."""
        if isinstance(self.head, Head):
            return self.head.predict(features)
        assert self.head is not None
        return Prediction(self.head(features) * self.target_scale + self.target_mean)


def build_regressor(task: Task, settings: Settings, data: Data, methods: Sequence[Method] = ()) -> Regressor:
    """Build the task's encoder, a head and what the methods bring, in this order."""
    if data.target is not None:
        task = replace(task, target_mean=data.target[0], target_scale=data.target[1])
        for method in methods:
            method.task = task
    encoder = task.build(settings, data)
    dim = encoder.feature_dim
    assert isinstance(dim, int)
    own = [method for method in methods if method.owns_head]
    head = own[0].head(dim) if own else task.head(dim)
    for method in methods:
        method.build(dim, data)
    return Regressor(encoder, head, methods, task.target_scale, task.target_mean)


def set_up(regressor: Regressor, task: Task, settings: Settings, data: Data) -> None:
    """Load the encoder of `--pretrained`, then let the methods change the model."""
    path = settings[Training].pretrained
    if path:
        content = checkpoint.load(path)
        check_tied(content, data, path)
        load_model(regressor, content, task, path, only=task.pretrained)
        log.info("Encoder loaded from %s", path)
    for method in regressor:
        method.setup(regressor)


def check_tied(content: Mapping[str, Any], data: Data, path: Path | str) -> None:
    """Raise UserError if a checkpoint's weights belong to something else than these data, such as other words."""
    for name, mine in data.tied.items():
        theirs = content.get("tied", {}).get(name)
        if theirs is None:
            log.info("%s does not say its %s: taken to be the one of the published split", path, name)
        elif theirs != mine:
            raise UserError(
                f"{path}: was trained with another {name} than that of --data_dir, and its weights belong to that one; "
                "name the data that it was trained on"
            )


def key_map(task: Task) -> checkpoint.KeyMap:
    """Return (prefix here, published prefix) for encoder, head and every method."""
    methods = (
        (f"methods.{method.name()}.{ours}", task.method_prefix + theirs)
        for method in all_methods()
        for ours, theirs in method.key_map
    )
    return (*methods, *task.key_map)


def load_model(
    regressor: Regressor,
    content: dict[str, Any],
    task: Task,
    path: Path | str,
    *,
    only: tuple[str, ...] = ("",),
) -> None:
    """Load a checkpoint's model; raises UserError if it is of another data set or does not fit.

    Only keys that begin with one of `only` are taken, and none of a part that a method wants fresh. A part of
    a model may come from another data set, such as one to pre-train on.
    """
    if only == ("",) and content.get("dataset", task.name) != task.name:
        raise UserError(f"{path}: is a checkpoint of {content['dataset']}, not of {task.name}")
    fresh = () if only == ("",) else tuple(f"encoder.{part}." for part in regressor.needs.fresh or ())
    state = checkpoint.state_of(content, path)
    checkpoint.load_published(
        regressor, state, key_map(task), path, hint=task.checkpoint_hint, only=only, fresh=fresh
    )
