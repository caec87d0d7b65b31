"""The rows of data/recipes.toml are commands that train.py takes, and scripts/reproduce.py runs them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reproduce
import sts_corpus
from tiny_faces import load_train

from common import age, cli, recipes
from common.recipes import read_tables
from common.rundir import read_json

PROG = "scripts/reproduce.py"
TABLES = read_tables()
CELLS = [cell for table in TABLES.values() for cell in table.cells((7,))]
LDS_REWEIGHT = {"sts-b-dir/train.py": "inverse"}


# The recipes


def parsed(cell, command=None):
    """The arguments of a cell as its own train.py reads them, and the name that it gives the run."""
    script, *flags = command or cell.command()
    folder = script.removesuffix("/train.py")
    if folder == "sts-b-dir":
        parser, run_name = sts_corpus.train.parser(), sts_corpus.train.run_name
    else:
        train = load_train(folder)
        dataset = folder.removesuffix("-dir").replace("-", "_")
        parser, run_name = age.parser(train.PROG, train.__doc__, dataset), age.run_name
    args = parser.parse_args(flags)
    cli.resolve(args, lds_reweight=LDS_REWEIGHT.get(script, "sqrt_inv"))
    return args, run_name(args)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.table}: {cell.row}")
def test_every_recipe_is_a_command_that_its_script_takes(cell):
    args, _ = parsed(cell)
    assert args.seed == 7
    assert args.store_root == Path(cell.store_root)
    assert recipes.ROOT / args.metrics_json == cell.result
    assert not args.evaluate
    assert not args.overwrite


def test_a_flag_that_no_script_has_would_be_noticed(capsys):
    cell = next(TABLES["sts-b-small"].cells())
    with pytest.raises(SystemExit):
        parsed(cell, [*cell.command(), "--lsd"])
    assert "unknown argument --lsd (did you mean --lds?)" in capsys.readouterr().err


def test_no_two_cells_share_a_run_directory_a_log_or_a_result():
    cells = [cell for table in TABLES.values() for cell in table.cells()]
    assert len({cell.result for cell in cells}) == len(cells)
    assert len({(cell.store_root, cell.seed) for cell in cells}) == len(cells)
    assert len({(cell.store_root, parsed(cell)[1]) for cell in cells}) == len(cells)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_what_a_table_refers_to_exists(table):
    assert (cli.ROOT / table.script).is_file()
    assert len(set(table.seeds)) == len(table.seeds) > 0
    assert table.folder in ("results", "checkpoint")
    for cell in table.cells((0,)):
        assert cell.needs is None or cell.needs in table.rows


def test_lds_and_fds_rows_are_what_their_names_say():
    for cell in CELLS:
        args, _ = parsed(cell)
        assert args.lds is ("LDS" in cell.row), cell
        assert args.fds is ("FDS" in cell.row), cell
        assert args.retrain_fc is ("RRT" in cell.row), cell
        assert (args.fds_variant == "released") is ("(released)" in cell.row), cell
        scheme = {"SQINV": "sqrt_inv", "INV": "inverse", "RRT": "inverse"}.get(cell.row.split()[0], "none")
        assert args.reweight == scheme, cell
        assert args.loss.startswith("focal") is ("Focal-R" in cell.row), cell


# What the user types


def call(*argv):
    """The exit code of `reproduce.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: reproduce.main(argv))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], ["--table", "--list"]),
        (["--table", "nosuch"], ["--table nosuch", *TABLES]),
        (["--table", "sts-b-small", "--rows", "LSD*"], ["--rows 'LSD*'", "sts-b-small", "--list"]),
        (["--table", "sts-b-small", "--seeds", "one"], ["--seeds", "'one'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", "0,,1"], ["--seeds", "'0,,1'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", ""], ["--seeds", "''", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds=-1"], ["--seeds", "'-1'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", "0.5"], ["--seeds", "'0.5'", "0,1,2"]),
        (["--table", "sts-b-small", "--jobs", "0"], ["--jobs", "'0'", "at least 1"]),
        (["--tabel", "sts-b-small"], ["--tabel", "did you mean --table?"]),
    ],
)
def test_mistakes_are_named(argv, told, capsys):
    assert call(*argv) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"{PROG}: error: ")
    assert error.count("\n") == 1
    for part in told:
        assert part in error


def test_list_shows_every_table_and_row(capsys):
    assert call("--list") == 0
    out = capsys.readouterr().out
    for table in TABLES.values():
        assert f"{table.name}: {table.title}\n  {table.script} --" in out
        for row, recipe in table.rows.items():
            assert f"    {row:<28} {recipe['flags']}\n" in out


def test_a_dry_run_prints_whole_commands_and_runs_none(capsys, monkeypatch):
    monkeypatch.setattr(reproduce.Sweep, "run", lambda self: pytest.fail("it ran"))
    assert call("--table", "sts-b-small", "--rows", "INV*", "--seeds", "4,5", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * sum(row.startswith("INV") for row in TABLES["sts-b-small"].rows)
    for line in lines:
        assert line.startswith("python sts-b-dir/train.py ")
        for flag in ("seed", "store_root checkpoint/sts-b-small/inv", "metrics_json results/sts-b-small/inv"):
            assert f" --{flag}" in line
    assert lines[0].endswith(
        "--reweight inverse --seed 4 --store_root checkpoint/sts-b-small/inv "
        "--metrics_json results/sts-b-small/inv.seed4.json"
    )


def test_without_seeds_the_table_has_its_own_and_a_seed_counts_once(capsys):
    for flags, seeds in (((), TABLES["sts-b-small"].seeds), (("--seeds", "3,1,3"), (3, 1))):
        assert call("--table", "sts-b-small", "--rows", "Vanilla", "--dry-run", *flags) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split("--seed ")[1].split()[0]) for line in lines] == list(seeds)


# A sweep over a train.py of a few lines

STUB = """
import argparse, json, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
for flag in ("--seed", "--store_root", "--metrics_json", "--pretrained", "--value", "--meet", "--hang"):
    parser.add_argument(flag)
parser.add_argument("--fail", action="store_true")
args = parser.parse_args()
store, began = pathlib.Path(args.store_root), time.monotonic()
run = store / f"run_{args.seed}"
run.mkdir(parents=True, exist_ok=True)

def stop(number, frame):
    (run / "stopped").touch()
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
(run / "pid.tmp").write_text(str(os.getpid()))
(run / "pid").unlink(missing_ok=True)
(run / "pid.tmp").rename(run / "pid")
print("this is", store.name, args.seed)
if args.meet:  # until so many runs of the table have begun
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
told = {"checkpoint": str(run / "ckpt"), "pretrained": args.pretrained, "value": args.value}
told |= {"threads": os.environ["OMP_NUM_THREADS"], "span": [began, time.monotonic()]}
pathlib.Path(args.metrics_json).write_text(json.dumps(told))
"""


def write_repository(folder, rows, seeds=(0,)):
    """A repository of one table, `t`, whose rows have these flags for the stub."""
    (folder / "stub-dir").mkdir()
    (folder / "stub-dir" / "train.py").write_text(STUB)
    lines = ["[t]", 'title = "T"', 'script = "stub-dir/train.py"', 'flags = ""', f"seeds = {list(seeds)}"]
    lines += ['metrics = { mae = "MAE" }', "[t.rows]"]
    lines += [f'"{row}" = {{ flags = "{flags}" }}' for row, flags in rows.items()]
    (folder / "data").mkdir()
    (folder / "data" / "recipes.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """`repository(rows, seeds)` makes the scripts work in a repository of their own."""

    def make(rows, seeds=(0,)):
        write_repository(tmp_path, rows, seeds)
        monkeypatch.setattr(cli, "ROOT", tmp_path)
        monkeypatch.setattr(recipes, "ROOT", tmp_path)
        monkeypatch.setattr(read_tables, "__defaults__", (tmp_path / "data" / "recipes.toml",))
        return tmp_path

    return make


def result(root, slug, seed=0):
    return read_json(root / "results" / "t" / f"{slug}.seed{seed}.json")


def test_a_sweep_writes_every_result(repository, capsys):
    root = repository({"Vanilla": "--value 1", "INV + LDS": "--value 'two words'"}, seeds=(0, 5))
    assert call("--table", "t") == 0
    for seed in (0, 5):
        assert result(root, "vanilla", seed)["value"] == "1"
        assert result(root, "inv-lds", seed)["value"] == "two words"
        assert f"this is inv-lds {seed}" in (root / f"checkpoint/t/inv-lds/seed{seed}.log").read_text()
    assert result(root, "vanilla")["threads"] == str(os.cpu_count())
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("start")] == [
        f"start  {row}, seed {seed}" for seed in (0, 5) for row in ("Vanilla", "INV + LDS")
    ]
    done = [line for line in lines if line.startswith("done")]
    assert [line.split(";")[0] for line in done] == [line.replace("start", "done ") for line in lines[::2]]
    assert done[-1].startswith("done   INV + LDS, seed 5; 4/4 after 0.") and done[-1].endswith(
        "about 0 min left"
    )


def test_a_row_starts_from_the_checkpoint_of_the_row_that_it_names(repository):
    root = repository({"RRT": "--pretrained {First stage}", "First stage": "", "Third": ""}, seeds=(0, 1))
    assert call("--table", "t", "--jobs", "3") == 0
    for seed in (0, 1):
        first, second = result(root, "first-stage", seed), result(root, "rrt", seed)
        assert second["pretrained"] == f"checkpoint/t/first-stage/run_{seed}/ckpt"
        assert second["span"][0] > first["span"][1]


def test_a_dry_run_shows_the_first_stage_as_ckpt_until_there_is_one(repository, capsys):
    repository({"First": "", "RRT": "--pretrained {First}"})
    assert call("--table", "t", "--rows", "RRT", "--dry-run") == 0
    assert " --pretrained CKPT " in capsys.readouterr().out
    assert call("--table", "t", "--rows", "First") == 0
    capsys.readouterr()
    assert call("--table", "t", "--rows", "RRT", "--dry-run") == 0
    assert " --pretrained checkpoint/t/first/run_0/ckpt " in capsys.readouterr().out


def test_a_row_without_its_first_stage_is_refused_before_anything_runs(repository, capsys):
    root = repository({"First": "", "RRT": "--pretrained {First}", "Other": ""})
    assert call("--table", "t", "--rows", "[RO]*") == 2
    error = capsys.readouterr().err
    assert "--rows '[RO]*'" in error and "RRT" in error and "First" in error
    assert not (root / "checkpoint").exists()
    assert call("--table", "t", "--rows", "First") == 0
    assert call("--table", "t", "--rows", "[RO]*") == 0
    assert result(root, "rrt")["pretrained"] == "checkpoint/t/first/run_0/ckpt"


def test_a_row_whose_first_stage_failed_is_not_run(repository, capsys):
    root = repository({"Bad": "--fail", "After": "--pretrained {Bad}", "Good": "--value 1"}, seeds=(0,))
    assert call("--table", "t") == 1
    out, error = capsys.readouterr()
    assert "NOT RUN After, seed 0: Bad failed" in out
    assert "2 of 3 runs failed: Bad seed 0, After seed 0" in error
    assert not (root / "checkpoint/t/after").exists()


def test_a_failed_cell_is_reported_and_the_others_run(repository, capsys):
    root = repository({"Bad": "--fail", "Good": "--value 1"}, seeds=(0, 1))
    assert call("--table", "t") == 1
    out, error = capsys.readouterr()
    assert error == f"{PROG}: error: 2 of 4 runs failed: Bad seed 0, Bad seed 1\n"
    assert "\nFAILED Bad, seed 0; 1/4 after" in out
    assert "\n       exit code 1, log checkpoint/t/bad/seed0.log: this was meant to fail\n" in out
    assert "this was meant to fail" in (root / "checkpoint/t/bad/seed0.log").read_text()
    assert [result(root, "good", seed)["value"] for seed in (0, 1)] == ["1", "1"]
    assert result(root, "bad") is None


def test_jobs_run_side_by_side_and_no_more_than_asked_for(repository):
    root = repository({"A": "--meet 2", "B": "--meet 2", "C": "", "D": "", "E": ""})
    assert call("--table", "t", "--jobs", "2") == 0  # alone, A would wait for B in vain
    spans = [result(root, name)["span"] for name in "abcde"]
    assert max(sum(low <= begin < high for low, high in spans) for begin, _ in spans) == 2
    assert result(root, "a")["threads"] == str(max(1, os.cpu_count() // 2))


def test_one_job_is_one_at_a_time(repository):
    root = repository({"A": "", "B": "", "C": ""})
    assert call("--table", "t") == 0
    spans = [result(root, name)["span"] for name in "abc"]
    assert spans[0][1] < spans[1][0] and spans[1][1] < spans[2][0]


# Stopping


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def forked(argv):
    """The same as `call`, in a child of its own session, as a terminal would start it; its pid."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run under nohup
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            code = call(*argv)
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


def pids(root):
    return [int(path.read_text()) for path in root.glob("checkpoint/t/*/*/pid")]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_sweep_ends_its_runs_and_the_same_command_goes_on(repository, number):
    rows = {"A": "--hang 1", "B": "--hang 1", "C": "--hang 1"}
    root = repository(rows)
    pid = forked(["--table", "t", "--jobs", "2"])
    wait_until(lambda: len(pids(root)) == 2)
    os.killpg(pid, getattr(signal, number))
    assert ends_with(pid) == 130
    assert not any(alive(child) for child in pids(root))
    assert sorted(path.parent.parent.name for path in root.glob("checkpoint/t/*/*/stopped")) == ["a", "b"]
    assert not (root / "checkpoint/t/c").exists()
    recipe = root / "data" / "recipes.toml"
    recipe.write_text(recipe.read_text().replace("--hang 1", ""))
    assert call("--table", "t", "--jobs", "2") == 0
    assert all(result(root, name) for name in "abc")


def test_a_run_that_starts_as_the_sweep_stops_is_ended_too(repository, monkeypatch):
    root, real = repository({"A": "--hang 1"}), subprocess.Popen

    def popen(*args, **how):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # the main thread has told all children by now, and this one is none yet
        return real(*args, **how)

    monkeypatch.setattr(subprocess, "Popen", popen)
    began = time.monotonic()
    assert call("--table", "t") == 130
    assert time.monotonic() < began + 30
    assert not any(alive(child) for child in pids(root))


def test_signals_are_as_before_when_a_sweep_is_over(repository, monkeypatch):
    repository({"A": ""})
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert call("--table", "t") == 0
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    seen, previous = [], signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    real = reproduce.run_cell
    monkeypatch.setattr(
        reproduce, "run_cell", lambda *args: seen.append(signal.getsignal(signal.SIGHUP)) or real(*args)
    )
    try:
        assert call("--table", "t") == 0
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert seen == [signal.SIG_IGN]


def test_as_a_user_starts_and_stops_it(tmp_path):
    """The script itself, in a copy of the repository, from another folder, ended with SIGTERM."""
    root = tmp_path / "copy"
    (root / "scripts").mkdir(parents=True)
    write_repository(root, {"A": "--hang 1", "B": "--hang 1"})
    (root / "common").mkdir()
    for file in [*(cli.ROOT / "common").glob("*.py"), cli.ROOT / PROG]:
        (root / file.relative_to(cli.ROOT)).write_bytes(file.read_bytes())
    process = subprocess.Popen(
        [sys.executable, str(root / PROG), "--table", "t", "--jobs", "2"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        wait_until(lambda: len(pids(root)) == 2, 120)
    finally:
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == f"{PROG}: stopped; the same command goes on from the last checkpoint\n"
    assert out == "start  A, seed 0\nstart  B, seed 0\n"
    assert not any(alive(child) for child in pids(root))
    assert len(list(root.glob("checkpoint/t/*/*/stopped"))) == 2
