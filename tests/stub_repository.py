"""A repository of one table whose train.py is a few lines, for the tests of what runs it."""

import json
import os
import shutil
import signal
import time

import pytest
import reproduce
from reproducing import recipes, results
from reproducing.predictions import read_cell
from reproducing.recipes import read_tables

from common import cli

# Flags: --meet N waits until N runs of the table have begun, --hang stays until it is told to end, and
# --deadly N kills the process that started it, the first N times.
STUB = """
import argparse, json, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
for flag in ("--seed", "--store_root", "--metrics_json", "--pretrained", "--value", "--meet", "--deadly"):
    parser.add_argument(flag)
for flag in ("--fail", "--hang", "--mute"):
    parser.add_argument(flag, action="store_true")
args = parser.parse_args()
store, began = pathlib.Path(args.store_root), time.monotonic()
run = store / f"run_{args.seed}"
run.mkdir(parents=True, exist_ok=True)

def stop(number, frame):
    (run / "stopped").touch()
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
(run / "args.json").write_text(json.dumps({"seed": int(args.seed), "max_vals": 4}))
with (run / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": 50, "epoch": 1.5, "seconds": 90.0}) + "\\n")
(run / "pid.tmp").write_text(f"{os.getpid()} {os.getppid()}")
(run / "pid.tmp").rename(run / "pid")
with (run / "starts").open("a") as file:
    file.write("x")
if len((run / "starts").read_text()) <= int(args.deadly or 0):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
print("this is", store.name, args.seed, flush=True)
if args.meet:
    while len(list(store.parent.glob("*/*/pid"))) < int(args.meet):
        if time.monotonic() > began + 20:
            sys.exit("nobody came")
        time.sleep(0.01)
if args.hang:
    time.sleep(60)
if args.fail:
    sys.exit("this was meant to fail")
if args.pretrained:
    assert pathlib.Path(args.pretrained).read_text() == f"weights of seed {args.seed}"
(run / "ckpt").write_text(f"weights of seed {args.seed}")
(run / "predictions.csv").write_text("label,prediction,shot\\n1.0,1.5,many\\n")
told = {"checkpoint": str(run / "ckpt"), "pretrained": args.pretrained, "value": args.value}
told |= {"threads": os.environ["OMP_NUM_THREADS"], "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
told |= {"span": [began, time.monotonic()]}
shot = {"n": 1, "mae": float(args.value or 0.5)}
told["shots"] = {group: shot for group in ("all", "many", "medium", "few")}
(run / "metrics.json").write_text("{}")
if not args.mute:
    pathlib.Path(args.metrics_json).write_text(json.dumps(told))
"""
PROG = "scripts/reproduce.py"
NAME = "t-small"  # of the table


def write_repository(folder, rows, seeds=(0,), flags=""):
    """A repository of one table, `t`, whose rows have these flags for the stub."""
    (folder / "stub-dir").mkdir(exist_ok=True)
    (folder / "stub-dir" / "train.py").write_text(STUB)
    lines = ["[t]", 'script = "stub-dir/train.py"', f"seeds = {list(seeds)}", 'metrics = { mae = "MAE" }']
    lines += ['rows = "r"', "[t.scales.small]", 'title = "T"', f'flags = "{flags}"', "[rows.r]"]
    lines += [f'"{row}" = {{ flags = "{own}" }}' for row, own in rows.items()]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "recipes.toml").write_text("\n".join(lines) + "\n")


def work_in_repository(folder, monkeypatch, rows, seeds=(0,), flags=""):
    """The same, and the scripts in this process work in it; returns the folder."""
    write_repository(folder, rows, seeds, flags)
    for module in (cli, recipes, results):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.setattr(read_tables, "__defaults__", (folder / "data" / "recipes.toml",))
    return folder


def call(*argv):
    """The exit code of `reproduce.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: reproduce.main(argv))
    except SystemExit as end:
        return end.code


def copy_of_the_repository(folder, rows):
    """The scripts in a copy of the repository whose one table is the stub's."""
    root = folder / "copy"
    (root / "scripts").mkdir(parents=True)
    (root / "common").mkdir()
    write_repository(root, rows)
    for file in [*(cli.ROOT / "common").rglob("*.py"), *(cli.ROOT / "scripts").rglob("*.py")]:
        copy = root / file.relative_to(cli.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    shutil.copy(cli.ROOT / "data" / "published.csv", root / "data")
    return root


def result_path(root, slug, seed=0):
    return root / "results" / NAME / f"{slug}.seed{seed}.json"


def result(root, slug, seed=0):
    """What is kept of a cell; fails if there is nothing."""
    return json.loads(result_path(root, slug, seed).read_text())


def predictions(root, slug, seed=0):
    """What is kept of a cell's predictions, by column; None without any."""
    path = result_path(root, slug, seed)
    return read_cell(path.with_name("predictions.csv.gz"), path.stem)


def starts(root, slug, seed=0):
    """How often the run of a cell was started."""
    path = root / "checkpoint" / NAME / slug / f"run_{seed}" / "starts"
    return len(path.read_text()) if path.exists() else 0


def pids(root, slug="*"):
    """The process number and the parent's, of each run that has begun."""
    found = root.glob(f"checkpoint/{NAME}/{slug}/*/pid")
    return [tuple(map(int, path.read_text().split())) for path in found]


def alive(pid):
    """Whether the process runs; one that is dead and not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def forked(run):
    """`run()` in a child of its own session, as a terminal would start it; its pid."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run under nohup
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            code = run()
        finally:
            os._exit(code)
    return pid


def ends_with(pid, seconds=20):
    """The exit code of a forked child, killed if it does not end."""
    end = time.monotonic() + seconds
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("it does not end")
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])
