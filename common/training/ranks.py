"""Several processes on one run: torch's process group, and how their shares become one batch.

Each rank encodes its share of every batch. Features, targets and weights are then gathered, with gradient,
and every rank does what follows the encoder (methods, head, losses, statistics) on the whole batch. So a
method sees what it sees in one process, and knows of no ranks. A batch with fewer samples than ranks is
encoded whole by every rank.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common.batch import Batch, Draw, Share
from common.errors import RunFailed, UserError
from common.task import Split
from common.training.checkpoint import random_state, set_random_state
from common.training.norms import share_norms

if TYPE_CHECKING:
    from common.training.regressor import Regressor

T = TypeVar("T")

# Groups that ended. Freeing one waits for torch's threads, and these may wait for the interpreter: for ever.
ENDED: list[object] = []


def size() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; the one of number 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, and part from them at the end; alone, do nothing.

    Raises UserError where torch has no backend for the device, and RunFailed where another process ends.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"torchrun: no backend for --device {device}; use cpu or cuda")
    if not (dist.is_gloo_available() and (device.type == "cpu" or dist.is_nccl_available())):
        raise UserError(
            f"torchrun: this torch has no backend for {device.type}; install another build of torch"
        )
    backend, number = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", int(os.environ["RANK"])
    dist.init_process_group(
        backend, store=meeting_place(number), rank=number, world_size=int(os.environ["WORLD_SIZE"])
    )
    if rank():
        logging.disable()  # one process tells
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise  # an error of this process
        raise RunFailed(
            "another process of this run has ended; the same command goes on from the last checkpoint"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        ENDED.append(dist.group.WORLD)
        dist.destroy_process_group()


def meeting_place(number: int) -> dist.Store:
    """Return the store at which the processes find each other; one after each restart of torchrun.

    In the same one they would find the addresses of processes that have ended.
    """
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=number == 0 and not hosted)
    return dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)


def everywhere(value: T) -> list[T]:
    """Return the value of each rank, in their order."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """Return the value of rank 0."""
    return everywhere(value)[0]


def together(work: Callable[[], T]) -> T:
    """Do work on every rank; raises the first rank's UserError on all, so that all end with one line."""
    done: T | None = None
    error: UserError | None = None
    try:
        done = work()
    except UserError as found:
        error = found
    found_by = [text for text in everywhere(None if error is None else str(error)) if text is not None]
    if found_by:
        raise error if error is not None and size() == 1 else UserError(found_by[0])
    return done  # type: ignore[return-value]  # None only where T has it


def by_first(work: Callable[[], T]) -> T | None:
    """Do work on rank 0 alone; raises its UserError on all."""
    return together(lambda: work() if rank() == 0 else None)


def check_same(what: str, value: object) -> None:
    """Raise UserError where a rank has another value of something, such as the digest of the data."""
    values = everywhere(value)
    others = [number for number, theirs in enumerate(values) if theirs != values[0]]
    if others:
        raise UserError(f"process {others[0]} sees other {what} than process 0; give all the same --data_dir")


def check_batch(batch_size: int) -> None:
    """Raise UserError where a batch has less than one sample for each process."""
    if batch_size < size():
        raise UserError(
            f"--batch_size {batch_size}: is smaller than the {size()} processes; take at least {size()}"
        )


def any_of(flag: bool) -> bool:
    """Return whether the flag is set on any rank."""
    if size() == 1:
        return flag
    total = torch.tensor(int(flag))
    dist.all_reduce(total, dist.ReduceOp.MAX)
    return bool(total)


def batches(
    split: Split, draws: Iterable[Draw], *, augment: bool, device: torch.device, views: int = 1
) -> Iterator[Batch]:
    """Yield the batch of each draw, of each this rank's share."""
    own, also = itertools.tee(shared(draw, views) for draw in draws)
    yield from (
        batch._replace(share=draw.share)
        for batch, draw in zip(split.batches(own, augment=augment, device=device), also, strict=False)
    )


def shared(draw: Draw, views: int = 1) -> Draw:
    """Return this rank's share of a draw, the whole of it where it has fewer samples than there are ranks."""
    samples = len(draw.indices) // views
    if size() == 1 or samples < size():
        return draw
    share = Share(np.array_split(np.arange(samples), size())[rank()], samples)
    return Draw(draw.indices[share.rows(views * len(share.places))], draw.seed, share)


def gathered(values: torch.Tensor, share: Share | None) -> torch.Tensor:
    """Return the rows of all ranks `(n, …)`, in the order of the batch, from those of this one, with gradient."""
    return values if share is None else Gather.apply(values, share)


class Gather(torch.autograd.Function):
    """Rows of all ranks. Each rank has the whole loss, so its own rows' gradient is whole too.

    It is taken `size()` times, since DistributedDataParallel averages over ranks what is to be added.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.rows = share.rows(len(values))
        whole = values.new_zeros(share.size(len(values)), *values.shape[1:])
        whole[ctx.rows] = values
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad[ctx.rows] * size(), None


def whole(batch: Batch) -> Batch:
    """Return a batch with the targets and weights of all ranks; its inputs are this rank's."""
    share = batch.share
    if share is None:
        return batch
    targets = gathered(batch.targets, share)
    weights = None if batch.weights is None else gathered(batch.weights, share)
    valid = targets.isfinite() if targets.dim() > 2 else None  # a rank cannot know whether all are known
    return Batch(batch.inputs, targets, weights, valid, share)


class Stream:
    """The random numbers of this rank's encoder (dropout), apart from those that all ranks share.

    `active` while the encoder works on a share of a batch.
    """

    def __init__(self, entropy: list[int]) -> None:
        self.active, self.state = False, random_state()
        with self:
            torch.manual_seed(int(np.random.default_rng(entropy).integers(2**63)))

    def __enter__(self) -> None:
        self.active, self._shared = True, random_state()
        set_random_state(self.state)

    def __exit__(self, *_: object) -> None:
        self.active, self.state = False, random_state()
        set_random_state(self._shared)


def parallel(regressor: Regressor, entropy: list[int]) -> nn.Module:
    """Return the regressor as all ranks train it: gradients averaged, batch norm over the whole batch.

    `entropy` seeds this rank's dropout. Alone, it is the regressor itself.
    """
    if size() == 1:
        return regressor
    regressor.stream = Stream(entropy)
    share_norms(regressor.encoder, regressor.stream, next(regressor.parameters()).device)
    # What a method freezes or does not use in a step has no gradient.
    return DistributedDataParallel(regressor, broadcast_buffers=False, find_unused_parameters=True)


def streams(own: Stream | None) -> dict[str, Any]:
    """Return what a checkpoint holds of the ranks' random numbers; nothing in one process."""
    return {} if own is None else {"streams": everywhere(own.state)}


def resume_stream(own: Stream | None, content: Mapping[str, Any]) -> None:
    """Go on with this rank's random numbers, where a checkpoint of as many ranks holds them."""
    saved = content.get("streams", [])
    if own is not None and len(saved) == size():
        own.state = saved[rank()]
