"""Checkpoints: written whole or not at all, read without executing anything, under the published keys."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import RunFailed, UserError

KeyMap = tuple[tuple[str, str], ...]  # (prefix here, prefix in the published state_dict)
METHODS = "methods."  # the prefix of what methods keep

_scalar: Any = np.float64(0).__reduce__()[0]  # numpy's; its module had another name before numpy 2
NUMBERS: list[Any] = [_scalar, (_scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]


def save(path: Path, content: Mapping[str, Any], also: Path | None = None) -> None:
    """Write `content` to `path` (and to `also`, as a second name of the same bytes).

    The bytes go to a temporary name, are flushed to the disk, and then renamed, so a kill or a full disk
    leaves the file that was there. Raises RunFailed if the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        if also is not None:
            _second_name(temporary, also)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a short write as a RuntimeError
        temporary.unlink(missing_ok=True)
        kept = "the last checkpoint there is whole" if path.exists() else "there is no checkpoint yet"
        raise RunFailed(
            f"{path}: could not be written ({error}); {kept}: free some disk, then give the same command again"
        ) from error


def _second_name(file: Path, also: Path) -> None:
    """Give a file's bytes a second name, in place of what had it before."""
    second = also.with_name(f".{also.name}.{os.getpid()}.tmp")
    try:
        try:
            os.link(file, second)
        except OSError:  # a file system without hard links, or at their limit
            shutil.copyfile(file, second)
        second.replace(also)
    except OSError:
        second.unlink(missing_ok=True)
        raise


def load(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with `weights_only=True`: a pickle payload is refused, not executed.

    Raises UserError if there is no such file, it is cut short, or it holds more than tensors and plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint; name a ckpt.best.pth.tar of a run")
    if zipfile.is_zipfile(path):
        check_sums(path)
    try:
        with torch.serialization.safe_globals(NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own message advises to switch the check off.
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path}: refused, because it is not a checkpoint or holds more than tensors and plain data"
            + (f" (it names {named[1]})" if named else "")
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path}: cannot be read as a checkpoint: it is cut short or damaged; name another one, or start "
            "its run over with --overwrite"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def check_sums(path: Path) -> None:
    """Raise UserError if a byte of a checkpoint has changed since it was written; torch itself does not look."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # a damaged archive can raise anything
        damaged = str(error)
    if damaged is not None:
        raise UserError(
            f"{path}: is damaged ({damaged}); name another one, or start its run over with --overwrite"
        )


def state_of(content: Mapping[str, Any], path: Path | str) -> dict[str, torch.Tensor]:
    """The model's state in a checkpoint: its "state_dict", or the checkpoint itself if it is a bare one."""
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f'{path}: holds no model: neither a "state_dict" nor a bare one')
    return dict(state)


def renamed(state: Mapping[str, Any], prefixes: KeyMap) -> dict[str, Any]:
    """`state` with each key's prefix replaced by the first pair that fits; other keys stay."""

    def rename(key: str) -> str:
        return next((new + key.removeprefix(old) for old, new in prefixes if key.startswith(old)), key)

    return {rename(key): value for key, value in state.items()}


def load_published(
    regressor: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    key_map: KeyMap,
    path: Path | str,
    *,
    hint: str = "",
    only: tuple[str, ...] = ("",),
    fresh: tuple[str, ...] = (),
) -> None:
    """Load a state with published keys; every key is accounted for.

    The state of methods may be there or not, with and without the method (released checkpoints differ in it).
    What does not begin with one of `only`, or begins with one of `fresh`, stays as it is; a part of which
    nothing is taken may be missing as a whole, as in a first stage without a head. Raises UserError naming
    what does not fit.
    """
    # The longest published prefix first: "module." would swallow "module.linear.".
    inverse = sorted(((theirs, ours) for ours, theirs in key_map), key=lambda pair: -len(pair[0]))
    theirs = renamed(state, tuple(inverse))
    ours = regressor.state_dict()
    wanted = {key for key in ours if not key.startswith(METHODS)}
    parts = (*only, *{f"{key.partition('.')[0]}." for key in theirs})
    missing = {key for key in wanted - theirs.keys() if key.startswith(parts)}
    extra = {key for key in theirs if not key.startswith(METHODS)} - wanted
    for what, keys in (("lacks", missing), ("holds the unknown", extra)):
        if keys:
            names = sorted(renamed(dict.fromkeys(keys), key_map))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{path}: {what} {', '.join(names[:3])}{more}: not a checkpoint of this model{hint}"
            )
    theirs = {key: value for key, value in theirs.items() if key in ours}
    for key, value in theirs.items():
        here, there = tuple(ours[key].shape), tuple(value.shape)
        if here != there:
            name = next(iter(renamed({key: value}, key_map)))
            raise UserError(f"{path}: {name} has shape {there}, this model's has {here}{hint}")
    taken = {k: v for k, v in theirs.items() if k.startswith(only) and not k.startswith(fresh)}
    regressor.load_state_dict({**ours, **taken})


def random_state() -> dict[str, Any]:
    """Torch's random states; numpy's and Python's global ones are not used."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put `random_state` back, on CUDA only where there are as many devices as then."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
