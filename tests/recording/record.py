"""Record what the commands of the four data sets produce on tiny data, and compare two recordings.

    python tests/recording/record.py --out FILE                      record every combination
    python tests/recording/record.py --compare FILE                  record, then compare bit for bit
    python tests/recording/record.py --compare FILE --tolerance 1e-5   compare only names and numbers

The recorder uses command lines, run directories and files, and nothing that lies behind them. So it
outlives a change of everything else. Weights are equal bit for bit only on one machine with one version of
torch; `metrics.json` beside this file holds the numbers alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
for _name in ("", "tests", "agedb-dir", "imdb-wiki-dir", "sts-b-dir", "nyud2-dir"):
    if str(ROOT / _name) not in sys.path:
        sys.path.insert(0, str(ROOT / _name))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recording.combinations import COMBINATIONS, DATA_SETS, Combination  # noqa: E402
from recording.compare import differences  # noqa: E402
from runs import ended, in_child  # noqa: E402
from sts_corpus import write_corpus  # noqa: E402
from tiny_depth import tiny_nyud2  # noqa: E402
from tiny_faces import SIZES, resnet_tiny, write_faces  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402
from torchvision.models._api import BUILTIN_MODELS  # noqa: E402

COMMITTED = Path(__file__).with_name("metrics.json")


# --- data


def write_data(folder: Path) -> Path:
    """Write the tiny data of all four data sets below `folder`; returns it."""
    for name in ("agedb", "imdb-wiki"):
        write_faces(folder / name, name=name.replace("-", "_"), seed=len(name))
        number = sum(SIZES.values())
        heights = np.round(np.random.default_rng(1).gamma(4, 6, number) + 110, 2).clip(111, 199)
        write_faces(folder / f"{name}-own", name="own", target="height", labels=heights, seed=2)
    write_corpus(folder / "sts-b")
    (folder / "nyud2").mkdir()
    tiny_nyud2(folder / "nyud2", train=8, test=3)
    return folder


def digest_of_folder(folder: Path) -> str:
    """Return a digest over the names and bytes of all files of a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    parts = [part for file in files for part in (str(file.relative_to(folder)).encode(), file.read_bytes())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


# --- runs


def command(combination: Combination, flags: str, data: Path) -> list[str]:
    """Return the arguments of a run; it writes below the current folder, so no path gets into its files."""
    settings = DATA_SETS[combination.data]
    folder = data / (f"{combination.data}-own" if "--dataset own" in flags else combination.data)
    argv = ["--data_dir", str(folder), "--device", "cpu", *settings.flags.split(), *flags.split()]
    return [*argv, "--word_embs_file", str(folder / "glove.txt")] if combination.data == "sts-b" else argv


def run_script(folder: str, argv: list[str]) -> int:
    """Run `python FOLDER/train.py ARGV` in this process; returns the exit code."""
    before = sys.argv
    sys.argv = [str(ROOT / folder / "train.py"), *argv]
    try:
        # Depth knows two encoders, and both are too large for a recording: its ResNet-18 is a tiny one here.
        with mock.patch.dict(BUILTIN_MODELS, resnet18=resnet_tiny):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def checked(folder: str, argv: list[str]) -> None:
    """Run a command in silence; raises RuntimeError with its last words if it fails."""
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = run_script(folder, argv)
    if code != 0:
        raise RuntimeError(f"exit code {code}: {words.getvalue().strip().splitlines()[-1:]}")


def signal_at(number: int, step: int) -> None:
    """Send this process a signal at the end of an optimiser step, counted from 1."""
    steps = iter(range(1, step + 1))

    def count(*_: object) -> None:
        if next(steps, None) == step:
            os.kill(os.getpid(), number)

    register_optimizer_step_post_hook(count)


def interrupt(folder: str, argv: list[str], number: int, step: int) -> None:
    """Run a command in a child that gets a signal at a step; raises RuntimeError if it ends otherwise."""

    def silent() -> int:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return run_script(folder, argv)

    code = ended(in_child(silent, lambda: signal_at(number, step)))
    wanted = -number if number == signal.SIGKILL else 130
    if code != wanted or list(Path("checkpoint").glob("*/metrics.json")):
        raise RuntimeError(f"exit code {code} in place of {wanted}, or finished after all")


def only_run() -> Path:
    """Return the one run directory below the current folder."""
    (path,) = (file.parent for file in Path("checkpoint").glob("*/args.json"))
    return path


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make a folder and work in it."""
    folder.mkdir(parents=True)
    with contextlib.chdir(folder):
        yield


def record(name: str, data: Path, root: Path) -> dict[str, Any]:
    """Run a combination in a new folder below `root`; returns what its run directory holds."""
    torch.set_num_threads(1)
    combination = COMBINATIONS[name]
    script, flags = DATA_SETS[combination.data].folder, combination.flags
    with inside(root / name):
        if combination.first is not None:
            with inside(Path("first")):
                checked(script, command(combination, combination.first, data))
                first = "first" / only_run() / "ckpt.best.pth.tar"
            flags = flags.replace("{first}", str(first))
        argv = command(combination, flags, data)
        if combination.stop is not None:
            interrupt(script, argv, getattr(signal, combination.stop), combination.at)
        checked(script, argv)
        return contents(only_run())


def contents(path: Path) -> dict[str, Any]:
    """Return what is recorded of a run directory; wall-clock times and event files' names are left out."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    state = torch.load(path / "ckpt.pth.tar", map_location="cpu", weights_only=False)["state_dict"]
    names = {file.name for file in path.iterdir()}
    return {
        "run": path.name,
        "files": sorted(name for name in names if not name.startswith("events.out.tfevents.")),
        "val": [{key: line[key] for key in ("step", "train_loss", "lr", "best", "val")} for line in lines],
        "test": json.loads((path / "metrics.json").read_text()),
        "keys": hashlib.sha256("\n".join(sorted(state)).encode()).hexdigest()[:16],
        "weights": digest_of_state(state),
    }


def digest_of_state(state: dict[str, torch.Tensor]) -> str:
    """Return a digest over names, types, shapes and bytes of all tensors, in the order of their names."""
    found = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


# --- recordings


def record_all(names: list[str], *, watch: bool = True) -> dict[str, Any]:
    """Record these combinations, each in a folder of its own; a failure is recorded as its message."""
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = write_data(root / "data")
        folders = {folder.name: digest_of_folder(folder) for folder in sorted(data.iterdir())}
        for name in names:
            began = time.monotonic()
            try:
                runs[name] = record(name, data, root / "runs")
            except Exception as error:  # the other combinations are still worth recording
                runs[name] = {"failed": f"{type(error).__name__}: {error}"}
            if watch:
                failed = runs[name].get("failed", "")
                print(f"{time.monotonic() - began:6.2f} s  {name}  {failed}", file=sys.stderr, flush=True)
    return {"machine": machine(), "data": folders, "runs": runs}


def machine() -> dict[str, str]:
    """Return what decides how sums are rounded: the version of torch and the instructions of the CPU."""
    return {"torch": torch.__version__.split("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}


def without_digests(recording: dict[str, Any]) -> dict[str, Any]:
    """Return names and numbers; a run that equals another combination is left out."""
    kept = {name: run for name, run in recording["runs"].items() if COMBINATIONS[name].like is None}
    runs = {n: {k: v for k, v in run.items() if k != "weights"} for n, run in kept.items()}
    return {"machine": recording["machine"], "runs": runs}


def write(path: Path, recording: dict[str, Any]) -> None:
    """Write a recording, one line for each run."""
    head = [f"{json.dumps(k)}: {json.dumps(v)},\n" for k, v in recording.items() if k != "runs"]
    rows = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in recording["runs"].items()]
    path.write_text("{" + "".join(head) + '"runs": {\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8")


def unlike(recording: dict[str, Any]) -> list[str]:
    """List where a run that was interrupted differs from the one that was not."""
    runs = recording["runs"]
    pairs = [(name, COMBINATIONS[name].like) for name in runs if COMBINATIONS[name].like in runs]
    return [line for name, other in pairs for line in differences(runs[other], runs[name], name)]


def main() -> int:
    """The command; returns 1 if anything differs or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the recording here")
    parser.add_argument("--committed", action="store_true", help=f"write its numbers to {COMMITTED.name}")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="such as 'sts-b/*' or '*/fds*'")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an older recording")
    parser.add_argument("--tolerance", type=float, help="compare numbers to this, and no digests")
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="compare this one in place of new runs")
    args = parser.parse_args()
    names = fnmatch.filter(COMBINATIONS, args.only)
    recording = json.loads(args.recorded.read_text()) if args.recorded else record_all(names)
    if args.out:
        write(args.out, recording)
    if args.committed:
        write(COMMITTED, without_digests(recording))
    lines = [f"{name}: {run['failed']}" for name, run in recording["runs"].items() if "failed" in run]
    lines += unlike(recording)
    if args.compare:
        old = json.loads(args.compare.read_text())
        old["runs"] = {name: old["runs"][name] for name in fnmatch.filter(old["runs"], args.only)}
        lines += differences(old, recording, tolerance=args.tolerance)
    print("\n".join([*lines, f"{len(recording['runs'])} runs, {len(lines)} differences"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
