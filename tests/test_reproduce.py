"""scripts/reproduce.py runs cells as ordinary commands: recognised, resumed, and never mixed."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reproduce
import torch
from reproducing import launch
from reproducing.recipes import read_tables
from reproducing.results import read_result
from stub_repository import (
    NAME,
    PROG,
    call,
    predictions,
    result,
    result_path,
    starts,
    work_in_repository,
)  # fmt: skip

from common.errors import UserError

pytestmark = pytest.mark.slow

TABLES = read_tables()


# What the user types


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], ["--table", "--list"]),
        (["--table", "nosuch"], ["--table nosuch", "agedb (2, 9)", "sts-b (3, 10)"]),
        (["--table", "5"], ["--table 5", "agedb (2, 9)"]),
        (["--table", "2", "--scale", "huge"], ["--scale", "'huge'", "small"]),
        (["--table", "4", "--scale", "demo"], ["--scale demo", "paper, small"]),
        (["--table", "sts-b-small", "--rows", "LSD*"], ["--rows 'LSD*'", "sts-b-small", "--list"]),
        (["--table", "sts-b-small", "--seeds", "one"], ["--seeds", "'one'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", "0,,1"], ["--seeds", "'0,,1'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", ""], ["--seeds", "''", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds=-1"], ["--seeds", "'-1'", "0,1,2"]),
        (["--table", "sts-b-small", "--seeds", "0.5"], ["--seeds", "'0.5'", "0,1,2"]),
        (["--table", "sts-b-small", "--jobs", "0"], ["--jobs", "'0'", "at least 1"]),
        (["--table", "sts-b-small", "--launcher", "slurm"], ["--launcher", "'slurm'", "ray"]),
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


def test_list_shows_every_table_with_its_source_and_every_row(capsys):
    assert call("--list") == 0
    out = capsys.readouterr().out
    for table in TABLES.values():
        word = "Tables" if len(table.papers) > 1 else "Table"
        papers = f" ({word} {' and '.join(map(str, table.papers))})" if table.papers else ""
        assert f"{table.name}{papers}: {table.title}\n" in out
        assert f"\n  {table.source}\n  --table {table.key} --scale {table.scale}: {table.script}" in out
        for row, recipe in table.rows.items():
            assert f"    {row:<28} {recipe['flags']}\n" in out


def test_a_dry_run_prints_whole_commands_and_runs_none(capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "Sweep", lambda *_: pytest.fail("it ran"))
    monkeypatch.setattr(reproduce, "make_data", lambda *_: pytest.fail("it made data"))
    assert call("--table", "3", "--scale", "small", "--rows", "INV*", "--seeds", "4,5", "--dry-run") == 0
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


def test_a_recorded_run_of_another_table_is_not_run_again():
    table = TABLES["later-sts-b-small"]
    assert [cell.row for cell in reproduce.own_or_missing(list(table.cells((0,))), table)][0] == "RankSim"
    missing = reproduce.own_or_missing(list(table.cells((9,))), table)
    assert [cell.table for cell in missing][:3] == ["sts-b-small", "sts-b-small", "later-sts-b-small"]


@pytest.mark.parametrize(("gpu", "scale"), [(True, "paper"), (False, "small")])
def test_without_scale_the_machine_decides(gpu, scale, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert call("--table", "3", "--rows", "Vanilla", "--dry-run") == 0
    assert f"--store_root checkpoint/sts-b-{scale}/vanilla" in capsys.readouterr().out


def test_without_seeds_the_table_has_its_own_and_a_seed_counts_once(capsys):
    for flags, seeds in (((), TABLES["sts-b-small"].seeds), (("--seeds", "3,1,3"), (3, 1))):
        assert call("--table", "sts-b-small", "--rows", "Vanilla", "--dry-run", *flags) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split("--seed ")[1].split()[0]) for line in lines] == list(seeds)


# A sweep


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """`repository(rows, seeds, flags)` makes the scripts work in a repository of their own."""
    return functools.partial(work_in_repository, tmp_path, monkeypatch)


def test_a_sweep_keeps_every_result_with_its_command_and_predictions(repository, capsys):
    root = repository({"Vanilla": "--value 1", "INV + LDS": "--value '2.50'"}, seeds=(0, 5))
    assert call("--table", "t-small") == 0
    for seed in (0, 5):
        assert result(root, "vanilla", seed)["command"] == "python stub-dir/train.py --value 1"
        assert result(root, "inv-lds", seed)["value"] == "2.50"
        assert result(root, "inv-lds", seed)["minutes"] == 1.5  # the stub's log says 90 seconds
        assert predictions(root, "inv-lds", seed) == {
            "label": ["1.0"],
            "prediction": ["1.5"],
            "shot": ["many"],
        }
        assert f"this is inv-lds {seed}" in (root / f"checkpoint/{NAME}/inv-lds/seed{seed}.log").read_text()
    assert result(root, "vanilla")["threads"] == str(os.cpu_count())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "t-small: T"
    assert [line for line in lines if line.startswith("start")] == [
        f"start  {row}, seed {seed}" for seed in (0, 5) for row in ("Vanilla", "INV + LDS")
    ]
    done = [line for line in lines if line.startswith("done")]
    assert [line.split(";")[0] for line in done] == [
        f"done   {row}, seed {seed}" for seed in (0, 5) for row in ("Vanilla", "INV + LDS")
    ]
    assert re.search(r"; 1/4; about \d+ s left$", done[0]) and done[3].endswith("; 4/4")
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| INV + LDS")] == [
        "2.500 ± 0.000"
    ]


def test_finished_cells_are_not_run_again_and_the_table_is_printed(repository, capsys):
    root = repository({"A": "--value 1", "B": "--value 2"})
    assert call("--table", "t-small") == 0
    first = capsys.readouterr().out
    assert call("--table", "t-small") == 0
    again = capsys.readouterr().out
    assert (starts(root, "a"), starts(root, "b")) == (1, 1)
    assert "start" not in again
    assert again.split("\n\n", 1)[1] == first.split("\n\n", 1)[1]


def test_results_that_came_with_a_clone_are_run_anew(repository, capsys):
    root = repository({"A": "--value 1"})
    assert call("--table", "t-small") == 0
    shutil.rmtree(root / "checkpoint")
    capsys.readouterr()
    assert call("--table", "t-small") == 0
    told = f"{result_path(root, 'a')}: was not run here; A, seed 0 is run again\n"
    assert told in capsys.readouterr().out
    assert starts(root, "a") == 1


def test_a_row_starts_from_the_checkpoint_of_the_row_that_it_names(repository):
    rows = {"RRT": "--pretrained {First stage}", "RRT + LDS": "--pretrained {First stage} --value 1"}
    root = repository({**rows, "First stage": "", "Third": ""}, seeds=(0, 1))
    assert call("--table", "t-small", "--jobs", "3") == 0
    for seed in (0, 1):
        first = result(root, "first-stage", seed)
        assert starts(root, "first-stage", seed) == 1  # and shared
        for slug in ("rrt", "rrt-lds"):
            second = result(root, slug, seed)
            assert second["pretrained"] == f"checkpoint/{NAME}/first-stage/run_{seed}/ckpt"
            assert second["span"][0] > first["span"][1]
            assert "{First stage}" in second["command"]


def test_a_first_stage_runs_once_and_again_where_its_checkpoint_is_not_here(repository, capsys):
    """Also where it was not asked for."""
    root = repository({"First": "", "RRT": "--pretrained {First}", "Other": ""})
    assert call("--table", "t-small", "--rows", "RRT") == 0
    assert (starts(root, "first"), starts(root, "rrt"), starts(root, "other")) == (1, 1, 0)
    result_path(root, "rrt").unlink()
    assert call("--table", "t-small", "--rows", "RRT") == 0
    assert (starts(root, "first"), starts(root, "rrt")) == (1, 2)
    shutil.rmtree(root / f"checkpoint/{NAME}/first")
    assert call("--table", "t-small", "--rows", "RRT") == 0
    assert (starts(root, "first"), starts(root, "rrt")) == (0, 2)  # RRT is finished
    result_path(root, "rrt").unlink()
    capsys.readouterr()
    assert call("--table", "t-small", "--rows", "RRT") == 0
    assert "first.seed0.json: was not run here; First, seed 0 is run again" in capsys.readouterr().out
    assert (starts(root, "first"), starts(root, "rrt")) == (1, 3)


def test_a_dry_run_shows_the_first_stage_as_ckpt_until_there_is_one(repository, capsys):
    repository({"First": "", "RRT": "--pretrained {First}"})
    assert call("--table", "t-small", "--rows", "RRT", "--dry-run") == 0
    assert " --pretrained CKPT " in capsys.readouterr().out
    assert call("--table", "t-small", "--rows", "First") == 0
    capsys.readouterr()
    assert call("--table", "t-small", "--rows", "RRT", "--dry-run") == 0
    assert f" --pretrained checkpoint/{NAME}/first/run_0/ckpt " in capsys.readouterr().out


def test_a_row_whose_first_stage_failed_is_not_run(repository, capsys):
    root = repository({"Bad": "--fail", "After": "--pretrained {Bad}", "Good": "--value 1"})
    assert call("--table", "t-small") == 1
    out, error = capsys.readouterr()
    assert "NOT RUN After, seed 0: Bad failed" in out
    assert "2 of 3 runs failed: Bad seed 0, After seed 0" in error
    assert not (root / f"checkpoint/{NAME}/after").exists()


def test_a_failed_cell_is_reported_and_the_others_run(repository, capsys):
    root = repository({"Bad": "--fail", "Good": "--value 1", "Mute": "--mute"}, seeds=(0, 1))
    assert call("--table", "t-small") == 1
    out, error = capsys.readouterr()
    names = "Bad seed 0, Mute seed 0, Bad seed 1, Mute seed 1"
    assert error == f"{PROG}: error: 4 of 6 runs failed: {names}\n"
    assert "\nFAILED Bad, seed 0; 1/6; " in out
    assert f"\n       exit code 1, log checkpoint/{NAME}/bad/seed0.log: this was meant to fail\n" in out
    assert "the run left no whole result" in out
    assert "this was meant to fail" in (root / f"checkpoint/{NAME}/bad/seed0.log").read_text()
    assert [result(root, "good", seed)["value"] for seed in (0, 1)] == ["1", "1"]
    assert not result_path(root, "bad").exists()
    assert "| Good  | **1.000 ± 0.000** |" in out  # what there is, is shown


def test_where_every_cell_fails_that_is_what_is_told(repository, capsys):
    repository({"Bad": "--fail"})
    assert call("--table", "t-small") == 1
    assert capsys.readouterr().err == f"{PROG}: error: 1 of 1 runs failed: Bad seed 0\n"


def test_jobs_run_side_by_side_and_no_more_than_asked_for(repository):
    root = repository({"A": "--meet 2", "B": "--meet 2 --value 1", "C": "--value 2", "D": "--value 3"})
    assert call("--table", "t-small", "--jobs", "2") == 0  # alone, A would wait for B in vain
    spans = [result(root, name)["span"] for name in "abcd"]
    assert max(sum(low <= begin < high for low, high in spans) for begin, _ in spans) == 2
    assert result(root, "a")["threads"] == str(max(1, os.cpu_count() // 2))


def test_one_job_is_one_at_a_time(repository):
    root = repository({"A": "--value 1", "B": "--value 2", "C": "--value 3"})
    assert call("--table", "t-small") == 0
    spans = [result(root, name)["span"] for name in "abc"]
    assert spans[0][1] < spans[1][0] and spans[1][1] < spans[2][0]


def test_each_job_has_a_gpu_where_there_are_gpus(repository, monkeypatch):
    root = repository({"A": "--meet 2", "B": "--meet 2 --value 1", "C": "--value 2"})
    monkeypatch.setattr(launch, "gpus", lambda: ["3", "5"])
    assert call("--table", "t-small", "--jobs", "2") == 0
    assert sorted(result(root, name)["gpu"] for name in "ab") == ["3", "5"]
    assert result(root, "c")["gpu"] in ("3", "5")


@pytest.mark.parametrize(("visible", "found"), [(None, ["0", "1"]), ("6,7", ["6", "7"])])
def test_the_gpus_are_those_that_this_process_may_use(visible, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launch.gpus() == found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launch.gpus() == []


def test_data_that_can_be_made_are_made_first(repository, capsys):
    root = repository({"A": "--value 1"})
    (root / "scripts").mkdir()
    (root / "scripts" / "make.py").write_text(
        "import sys, pathlib; pathlib.Path(sys.argv[1]).touch(); sys.exit(2 * (sys.argv[1] == 'no'))"
    )
    recipe = root / "data" / "recipes.toml"
    recipe.write_text(
        recipe.read_text().replace('title = "T"', 'title = "T"\nsetup = ["make.py drawn", "make.py more"]')
    )
    assert call("--table", "t-small") == 0
    assert (root / "drawn").exists() and (root / "more").exists()
    out = capsys.readouterr().out
    assert out.index("$ python scripts/make.py drawn\n") < out.index("start  A")
    recipe.write_text(recipe.read_text().replace("make.py drawn", "make.py no"))
    assert call("--table", "t-small") == 2
    out, error = capsys.readouterr()
    assert error.endswith("error: --table t: its data could not be made, see above; nothing was run\n")
    assert "start" not in out


# What is never mixed


def test_a_result_of_another_configuration_is_refused_and_stays(repository, capsys):
    root = repository({"A": "--value 1", "B": "--value 2"})
    assert call("--table", "t-small") == 0
    before = result_path(root, "a").read_bytes()
    repository({"A": "--value 7", "B": "--value 2", "C": "--value 3"})
    capsys.readouterr()
    assert call("--table", "t-small") == 1
    out, error = capsys.readouterr()
    assert (
        f"REFUSED A, seed 0: {result_path(root, 'a')}: is of another configuration (1 there, 7 here)" in out
    )
    assert "1 of 3 runs failed: A seed 0" in error
    assert result_path(root, "a").read_bytes() == before
    assert (starts(root, "a"), starts(root, "b"), starts(root, "c")) == (1, 1, 1)
    assert "| B" not in out  # no table of the two


def test_the_flags_that_all_rows_share_are_part_of_it(repository):
    root = repository({"A": ""}, flags="--value 1")
    assert call("--table", "t-small") == 0
    repository({"A": ""}, flags="--value 2")
    assert call("--table", "t-small") == 1
    assert result(root, "a")["value"] == "1"
    result_path(root, "a").unlink()
    assert call("--table", "t-small") == 0
    assert result(root, "a")["value"] == "2"


@pytest.mark.parametrize("content", ["", '{"checkpoint": "x", "shots": {"al', "[]", '{"shots": {}}'])
def test_a_result_that_is_cut_short_is_named_and_its_cell_run_again(repository, content, capsys):
    root = repository({"A": "--value 1", "B": "--value 2"})
    assert call("--table", "t-small") == 0
    result_path(root, "a").write_text(content)
    capsys.readouterr()
    assert call("--table", "t-small") == 0
    assert f"{result_path(root, 'a')}: is cut short; A, seed 0 is run again\n" in capsys.readouterr().out
    assert (starts(root, "a"), starts(root, "b")) == (2, 1)
    assert result(root, "a")["value"] == "1"


@pytest.mark.parametrize("shots", ['{"all": {"n": 1, "mae": NaN}}', '{"all": {"mae": 1}}', "[1]"])
def test_11_17_a_result_that_is_damaged_is_named_and_its_cell_run_again(repository, shots, capsys):
    root = repository({"A": "--value 1"})
    assert call("--table", "t-small") == 0
    result_path(root, "a").write_text(f'{{"command": "", "checkpoint": "x", "shots": {shots}}}')
    with pytest.raises(UserError, match=r"a\.seed0\.json: is damaged .*; run scripts/reproduce\.py again"):
        read_result(next(read_tables()[NAME].cells()))
    capsys.readouterr()
    assert call("--table", "t-small") == 0
    assert f"{result_path(root, 'a')}: is damaged; A, seed 0 is run again\n" in capsys.readouterr().out
    assert (starts(root, "a"), result(root, "a")["value"]) == (2, "1")


def test_a_result_without_command_or_predictions_is_run_again(repository, capsys):
    root = repository({"A": "--value 1", "B": "--value 2"})
    assert call("--table", "t-small") == 0
    result_path(root, "a").with_name("predictions.csv.gz").unlink()
    path = result_path(root, "b")
    path.write_text(path.read_text().replace('"command"', '"comment"'))
    assert call("--table", "t-small") == 0
    out = capsys.readouterr().out
    assert f"{result_path(root, 'a')}: is without predictions; A, seed 0 is run again\n" in out
    assert f"{path}: is unsigned; B, seed 0 is run again\n" in out
    assert (starts(root, "a"), starts(root, "b")) == (2, 2)
    assert predictions(root, "a") and "command" in result(root, "b")


def test_commands_can_be_run_by_hand(repository):
    """What --dry-run prints, in a shell at the repository's root; the sweep then takes the result over."""
    root = repository({"A": "--value 1"})
    command = ["python", *next(read_tables()["t-small"].cells()).command()]
    result_path(root, "a").parent.mkdir(parents=True)
    line = shlex.join(command).replace("python", sys.executable, 1)
    subprocess.run(line, shell=True, cwd=root, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert "command" not in result(root, "a")
    assert call("--table", "t-small") == 0
    assert "command" in result(root, "a") and Path(root / result(root, "a")["checkpoint"]).exists()
