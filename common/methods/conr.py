"""ConR: samples with close labels attract; samples with far labels but close predictions repel.

Keramati, Meng and Evans, "ConR: Contrastive Regularizer for Deep Imbalanced Regression", ICLR 2024. Two more
views of a batch are the R rows: features f, labels y, predictions p without gradient, loss weights a (1 without
re-weighting), s_ij the cosine of f_i and f_j divided by the temperature. With the window w and the push e,

    P_i = {j != i: |y_i - y_j| <= w},    N_i = {j: |y_i - y_j| > w and |p_i - p_j| <= w},
    den_i = sum over P_i of exp(s_ij) + (R - |P_i|) + sum over N_i of a_i exp(e |y_i - y_j|) exp(s_ij),
    l_i = mean over P_i of (ln den_i - s_ij), or 0 where N_i is empty;    L = (1/R) sum_i a_i l_i.

That is the published code (`published`, the default). The paper has neither the R - |P_i|, which masked pairs
leave behind, nor the outer a_i (`paper`). The depth code (`depth`) has one row an image, a push that is linear,
e a_i |y_i - y_j|, divides l_i by |P_i| + 1, and has no outer a_i; `published` means it on depth maps.

What the published code does otherwise:
- An anchor without positives makes the loss NaN there; here it gives 0.
- Its AgeDB code overwrites `--conr_temperature` by .07, so the default is .07. On depth .2 ran.
- Its IMDB-WIKI code adds the term twice: `--conr_weight 8` is what it trains with.
- Its depth code takes pixels without a measurement as depth 0; here means are over known pixels, unless
  `--keep_invalid` keeps the zeros.

The further views pass the encoder before and apart from the one that all other losses act on, without FDS, as
published. They have the data set's own augmentation, as published; `--conr_jitter` adds colours to all views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Method, Needs, Seen
from common.methods.outputs import refuse_own_heads
from common.methods.rows import Rows, predictions_of, rows_of, unit_rows
from common.task import Data

if TYPE_CHECKING:
    from common.training.regressor import Regressor

VIEWS = 2


@dataclass(frozen=True)
class ConrFlags:
    """ConR."""

    conr: bool = flag(False, "contrastive regulariser: ConR", switch=True)
    conr_weight: float = flag(
        4.0, "of its loss (its authors: 4 on AgeDB, in effect 8 on IMDB-WIKI, .2 on depth)", low=0
    )
    conr_window: float = flag(
        1.0, "labels this near are positives (its authors: 1 on age, .2 on depth)", low=0
    )
    conr_temperature: float = flag(0.07, "of similarities (in effect: .07 on age, .2 on depth)", low=POSITIVE)
    conr_push: float = flag(
        0.01, "growth of a negative's weight with label distance (its authors: .01 on age, .2 on depth)", low=0,
    )  # fmt: skip
    conr_variant: str = flag(
        "published", "the denominator and weights of the code, or of the paper", choices=("published", "paper"),
    )  # fmt: skip
    conr_jitter: float = flag(
        0.0, "random brightness, contrast and saturation of training images, up to this share", low=0, high=1
    )


class ConR(Method):
    """Adds a contrastive loss on two further views of a batch, or on the images of a batch of depth maps."""

    label = "ConR"
    paper = "Keramati et al., ConR: Contrastive Regularizer for Deep Imbalanced Regression, ICLR 2024"
    Flags = ConrFlags
    order = 65

    def run_name(self) -> str:
        """Return its four numbers, and what is not the default."""
        own = self.flags
        numbers = (own.conr_weight, own.conr_window, own.conr_temperature, own.conr_push)
        more = "" if own.conr_variant == "published" else f"_{own.conr_variant}"
        more += f"_jitter_{own.conr_jitter:g}" if own.conr_jitter else ""
        return "_conr_" + "_".join(f"{number:g}" for number in numbers) + more

    def describe(self) -> str:
        """Return its weight, window and temperature."""
        own = self.flags
        return f"ConR weight {own.conr_weight:g}, window {own.conr_window:g}, temperature {own.conr_temperature:g}"

    def prepare(self, data: Data) -> Data:
        """Ask for two further views, but on depth maps; raises UserError for data without augmentation."""
        if data.counts is None:
            if not data.train.augments:
                raise UserError(
                    f"--conr compares random views of a sample, and {self.task.title} has no augmentation: drop it"
                )
            self.needs = Needs(extra_views=VIEWS)
        if not self.flags.conr_jitter:
            return data
        if not hasattr(data.train, "jittered"):
            raise UserError(f"--conr_jitter: there are no colours to change in {self.task.title}; drop it")
        return replace(data, train=data.train.jittered(self.flags.conr_jitter))

    def setup(self, regressor: Regressor) -> None:
        """Raise UserError beside a method without a head or with one of several outputs."""
        refuse_own_heads(regressor, self, "negatives are chosen by one prediction of each sample")

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss of the batch, weight included."""
        own, rows, variant = self.flags, self.rows(seen), self.flags.conr_variant
        assert rows.predictions is not None
        loss = conr_loss(
            rows.features, rows.labels, rows.predictions, weights=rows.weights, window=own.conr_window,
            temperature=own.conr_temperature, push=own.conr_push,
            variant="depth" if seen.extra is None and variant == "published" else variant,
        )  # fmt: skip
        return {"conr": own.conr_weight * loss}

    def rows(self, seen: Seen) -> Rows:
        """Return the rows of the two further views, or one for each image of depth maps."""
        if seen.extra is None:  # as published, maps before FDS and predictions after it
            return rows_of(seen, seen.raw, predictions_of(seen, seen.features, self.task))
        labels, weights = seen.batch.targets, seen.batch.weights
        weights = None if weights is None else weights.repeat(VIEWS, 1)
        return Rows(seen.extra, labels.repeat(VIEWS, 1), predictions_of(seen, seen.extra, self.task), weights)


def conr_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    preds: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    window: float = 1.0,
    temperature: float = 0.07,
    push: float = 0.01,
    variant: str = "published",
) -> torch.Tensor:
    """Return the loss of R rows: features `(R, ...)`, the others `(R, 1)`, or for "depth" maps to be averaged.

    An anchor without positives or without negatives gives 0. Raises ValueError for shapes that differ.
    """
    weights = torch.ones_like(labels) if weights is None else weights
    if not labels.shape == preds.shape == weights.shape:
        raise ValueError(f"labels {tuple(labels.shape)}, predictions or weights differ in shape")
    if variant not in ("published", "paper", "depth"):
        raise ValueError(f"variant {variant!r} is none of published, paper, depth")
    labels, preds, weights = (part.detach().flatten(1).mean(1) for part in (labels, preds, weights))
    gap = (labels[:, None] - labels).float().abs()  # equality with the window depends on float32
    near, itself = gap <= window, torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = near & ~itself, ~near & ((preds[:, None] - preds).abs() <= window)
    unit = unit_rows(features)
    with torch.autocast(unit.device.type, enabled=False):
        similarity = unit @ unit.T / temperature
    number, defined = positive.sum(1), positive.any(1) & negative.any(1)
    anchor = weights[:, None]
    strength = push * anchor * gap if variant == "depth" else anchor * torch.exp(push * gap)
    terms = similarity + strength.log().where(negative, 0.0)
    # A row without a term has none to sum; 0 keeps its gradient finite, and the row is left out below.
    terms = terms.where((positive | negative) | ~defined[:, None], -torch.inf)
    if variant != "paper":
        masked = (len(labels) - number).to(terms.dtype).log()
        terms = torch.cat([terms, masked[:, None]], 1)
    pulled = (similarity * positive).sum(1)
    each = (number * terms.logsumexp(1) - pulled) / (number + (variant == "depth")).clamp_min(1)
    each = each.where(defined, 0.0)
    return (each * weights if variant == "published" else each).sum() / max(len(labels), 1)
