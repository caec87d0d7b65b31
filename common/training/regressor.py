"""A regressor: an encoder, optionally FDS on its features, and a linear head."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from common.errors import UserError
from common.fds import FDS
from common.training import checkpoint

if TYPE_CHECKING:
    from common.task import Data, Task

log = logging.getLogger("dir")


class Regressor(nn.Module):
    """`head(FDS(encoder(inputs)))`, where FDS acts in training only (paper, section 3.2 and figure 3).

    `encoder` maps inputs to features `(n, encoder.feature_dim)`, or to maps `(n, encoder.feature_dim, H, W)`.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, fds: FDS | None = None) -> None:
        super().__init__()
        self.encoder, self.head, self.FDS = encoder, head, fds

    def forward(
        self, inputs: Any, labels: torch.Tensor | None = None, epoch: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs `(n, 1)` or `(n, 1, H, W)`, and the features whose statistics FDS is to take.

        In training with FDS, `labels` (in label units) and `epoch` say how to calibrate. The returned
        features are the raw ones, or the calibrated ones in FDS's released variant (FACTS F3).
        """
        features = self.encoder(inputs)
        if self.FDS is None or not self.training:
            return self.head(features), features
        calibrated = self.FDS.smooth(features, labels, epoch)
        return self.head(calibrated), calibrated if self.FDS.variant == "released" else features


def build_regressor(task: Task, args: argparse.Namespace, data: Data) -> Regressor:
    """The task's encoder, FDS if asked for, and a fresh head."""
    encoder = task.build(args, data)
    fds = None
    if args.fds:
        fds = FDS(
            encoder.feature_dim, args.bucket_num, args.bucket_start, args.start_update, args.start_smooth,
            args.fds_kernel, args.fds_ks, args.fds_sigma, args.fds_mmt, bins=data.bins, clip=task.fds_clip,
            empty=task.fds_empty, variant=args.fds_variant,
        )  # fmt: skip
    return Regressor(encoder, task.head(encoder.feature_dim), fds)


def load_model(
    regressor: Regressor,
    content: dict[str, Any],
    task: Task,
    path: object,
    *,
    only: tuple[str, ...] = ("",),
    fresh: tuple[str, ...] = (),
) -> None:
    """Load a checkpoint's model; raises UserError if it is of another data set or does not fit.

    Only keys that begin with one of `only` and none of `fresh` are taken. A part of a model may come from
    another data set, such as one to pre-train on.
    """
    if only == ("",) and content.get("dataset", task.name) != task.name:
        raise UserError(f"{path}: is a checkpoint of {content['dataset']}, not of {task.name}")
    state = checkpoint.state_of(content, path)
    checkpoint.load_published(
        regressor, state, task.key_map, path, hint=task.checkpoint_hint, only=only, fresh=fresh
    )


def load_encoder(regressor: Regressor, task: Task, args: argparse.Namespace) -> None:
    """Start from the encoder of `--pretrained`; with `--retrain_fc`, freeze it (RRT, paper section 4.1)."""
    fresh = tuple(f"encoder.{part}." for part in task.retrained) if args.retrain_fc else ()
    content = checkpoint.load(args.pretrained)
    load_model(regressor, content, task, args.pretrained, only=("encoder.",), fresh=fresh)
    log.info("Encoder loaded from %s", args.pretrained)
    if args.retrain_fc:
        for name, parameter in regressor.named_parameters():
            parameter.requires_grad_(name.startswith(("head.", *fresh)))
        what = " and ".join(task.retrained) or "head"
        log.info("RRT: the encoder is frozen, a fresh %s is trained", what)
        if args.reweight == "none":
            log.warning(
                "RRT without --reweight trains the head on the same losses; the paper re-weights them"
            )
