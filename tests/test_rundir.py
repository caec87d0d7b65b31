"""The directory of a run: whose it is, what may lie in it, and what survives a kill."""

import argparse
import json
import subprocess
import sys

import pytest
from common.rundir import RunDir, configuration, read_json, write_json
from runs import scalars

from common.errors import UserError

DEFAULTS = {
    "lr": 0.1, "fds": False, "data_dir": "data", "device": "cpu", "workers": 2, "overwrite": False,
    "log_file": "training.log",
}  # fmt: skip


def args(**changes):
    return argparse.Namespace(**DEFAULTS | changes)


def enter(path, **changes):
    """Enter a run directory, begin a run, and leave it; what refuses it is raised."""
    run = RunDir(path, args(**changes))
    run.begin()
    run.close()


def refused(path, *parts, **changes):
    with pytest.raises(UserError) as caught:
        enter(path, **changes)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def files(path):
    return sorted(str(item.relative_to(path)) for item in path.rglob("*") if item.name != ".lock")


# Configuration


def test_a_new_directory_says_what_it_is_for(tmp_path):
    enter(tmp_path / "deep" / "run")
    told = json.loads((tmp_path / "deep" / "run" / "args.json").read_text())
    assert told == {"lr": 0.1, "fds": False, "data_dir": "data"}
    assert files(tmp_path / "deep" / "run") == ["args.json"]


def test_an_empty_directory_may_be_there(tmp_path):
    enter(tmp_path)
    assert files(tmp_path) == ["args.json"]


def test_another_configuration_names_flags_and_values_and_the_way_out(tmp_path):
    run = tmp_path / "run"
    enter(run)
    (run / "ckpt.pth.tar").write_text("precious")
    refused(
        run, "holds a run of another configuration", "--fds False there, True here",
        "--lr 0.1 there, 0.2 here", "choose another --store_name or --store_root, or --overwrite it",
        lr=0.2, fds=True,
    )  # fmt: skip
    assert (run / "ckpt.pth.tar").read_text() == "precious"
    assert json.loads((run / "args.json").read_text())["lr"] == 0.1
    enter(run)  # the first one may still go on


def test_a_flag_that_one_side_does_not_know_differs_too(tmp_path):
    enter(tmp_path)
    refused(tmp_path, "--new_flag None there, 3 here", new_flag=3)


def test_many_differences_name_the_first_four(tmp_path):
    enter(tmp_path)
    with pytest.raises(UserError) as caught:
        enter(tmp_path, **{f"flag{i}": i for i in range(9)})
    assert str(caught.value).count(" there, ") == 4


@pytest.mark.parametrize(
    "name",
    [
        "device", "cuda", "gpu", "workers", "resume_from", "must_resume", "evaluate", "eval_model",
        "metrics_json", "store_root", "log_file", "print_freq", "cache",
    ],
)  # fmt: skip
def test_where_and_how_a_run_runs_may_change(tmp_path, name):
    enter(tmp_path)
    enter(tmp_path, **{name: "another"})
    assert name not in configuration(args(**{name: "another"}))


def test_whether_it_starts_over_is_not_its_configuration():
    assert "overwrite" not in configuration(args(overwrite=True))


@pytest.mark.parametrize(
    "name",
    [
        "seed", "lr", "data_dir", "fds", "fds_variant", "lds", "reweight", "store_name", "batch_size", "loss",
        "optimizer", "schedule", "pretrained", "select", "img_size", "model", "dataset",
    ],
)  # fmt: skip
def test_what_a_run_is_may_not_change(tmp_path, name):
    enter(tmp_path, **{name: "one"})
    refused(tmp_path, "another configuration", f"--{name} 'one' there, 'two' here", **{name: "two"})


def test_overwrite_starts_over(tmp_path):
    enter(tmp_path)
    (tmp_path / "ckpt.pth.tar").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()
    (tmp_path / "link").symlink_to("sub", target_is_directory=True)
    enter(tmp_path, lr=0.2, overwrite=True)
    assert files(tmp_path) == ["args.json"]
    assert json.loads((tmp_path / "args.json").read_text())["lr"] == 0.2


def test_overwrite_keeps_the_old_run_until_the_new_one_begins(tmp_path):
    enter(tmp_path)
    (tmp_path / "ckpt.pth.tar").write_text("weeks of work")
    (tmp_path / "sub").mkdir()
    run = RunDir(tmp_path, args(lr=0.2, overwrite=True))
    run.withdraw()
    run.close()
    assert files(tmp_path) == ["args.json", "ckpt.pth.tar", "sub"]
    assert (tmp_path / "ckpt.pth.tar").read_text() == "weeks of work"
    assert json.loads((tmp_path / "args.json").read_text())["lr"] == 0.1


def test_overwrite_of_nothing_is_a_start(tmp_path):
    enter(tmp_path / "run", overwrite=True)
    assert files(tmp_path / "run") == ["args.json"]


def test_overwrite_does_not_follow_a_link(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "precious").touch()
    enter(run)
    (run / "link").symlink_to(outside, target_is_directory=True)
    enter(run, overwrite=True)
    assert files(outside) == ["precious"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_is_no_run_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "figures").mkdir()
    refused(
        tmp_path, "is not empty and holds no run (no args.json)", "choose another name", overwrite=overwrite
    )
    assert files(tmp_path) == ["figures", "thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_place_where_nothing_can_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "run", "cannot be made (Not a directory)", "--store_root")
    refused(tmp_path / "file", "cannot be made (File exists)", "--store_root")


# The lock


def test_a_second_process_is_refused(tmp_path):
    first = RunDir(tmp_path, args())
    refused(tmp_path, "another process is running here", "wait for it or stop it")
    refused(tmp_path, "another process is running here", overwrite=True)
    first.close()
    enter(tmp_path)


def test_the_lock_goes_with_its_process(tmp_path):
    code = (
        "import sys, argparse, pathlib, time; from common.training.rundir import RunDir; "
        f"run = RunDir(pathlib.Path(sys.argv[1]), argparse.Namespace(**{DEFAULTS!r})); "
        "print('here', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "here\n"
        refused(tmp_path, "another process is running here")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    enter(tmp_path)


# What a kill leaves


@pytest.mark.parametrize("content", ["", "{", '{"dataset": "sts-b", "sho', '{"shots": {"all": {"n": 40}}\n'])
def test_metrics_json_cut_short_is_unfinished(tmp_path, content):
    run = RunDir(tmp_path, args())
    assert run.result is None
    (tmp_path / "metrics.json").write_text(content)
    assert run.result is None
    write_json(run.metrics, {"dataset": "sts-b"})
    assert run.result == {"dataset": "sts-b"}
    run.close()


def test_leftovers_of_a_killed_write_go_and_do_not_make_it_another_directory(tmp_path):
    (tmp_path / ".args.json.123.tmp").write_text("{")  # killed before there was an args.json
    enter(tmp_path)
    (tmp_path / ".ckpt.pth.tar.123.tmp").write_bytes(b"half")
    (tmp_path / ".ckpt.best.pth.tar.123.tmp").write_bytes(b"half")
    enter(tmp_path)
    assert files(tmp_path) == ["args.json"]


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None]})
    assert path.read_text().endswith("}\n")
    assert read_json(path) == {"a": [1, None]}
    assert read_json(tmp_path / "none.json") is None
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1, None]}

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"b": 2})
    assert read_json(path) == {"a": [1, None]}


def record(step):
    return {
        "step": step,
        "train_loss": step / 10,
        "val": {"all": {"n": 3, "mse": float(step), "pearson": None}},
    }


def steps(run):
    return [json.loads(line)["step"] for line in run.history.read_text().splitlines()]


def test_rewind_drops_later_lines_and_half_lines(tmp_path):
    run = RunDir(tmp_path, args())
    run.rewind(5)  # nothing is there yet
    for step in (5, 10, 15):
        run.record(record(step))
    with run.history.open("a") as file:
        file.write('{"step": 20, "train_l')
    run.rewind(10)
    assert steps(run) == [5, 10]
    run.record(record(15))
    assert steps(run) == [5, 10, 15]
    run.rewind(0)
    assert steps(run) == []
    run.close()
    assert not [item for item in files(tmp_path) if item.endswith("tmp")]


def test_a_rewound_run_has_each_check_once_in_tensorboard_too(tmp_path):
    run = RunDir(tmp_path, args())
    for step in (5, 10, 15):
        run.record(record(step))
    run.close()
    run = RunDir(tmp_path, args())
    run.rewind(10)
    run.record(record(15) | {"train_loss": 9.0})
    run.write_scalars(
        "test", {"all": {"mse": 1.0}}, 10
    )  # of the best checkpoint, which may be an earlier one
    run.close()
    logged = scalars(tmp_path)
    assert logged["val/mse/all"] == [(5, 5.0), (10, 10.0), (15, 15.0)]
    assert logged["train/loss"] == [(5, 0.5), (10, 1.0), (15, 9.0)]
    assert logged["test/mse/all"] == [(10, 1.0)]
    assert "val/pearson/all" not in logged  # no value is no point
    assert len([item for item in files(tmp_path) if item.startswith("events")]) == 2  # one a process


def test_a_run_that_could_not_start_takes_its_directory_away_and_no_other(tmp_path):
    run = RunDir(tmp_path / "run", args())
    run.withdraw()
    run.close()
    assert not (tmp_path / "run").exists()
    enter(tmp_path / "run")
    run = RunDir(tmp_path / "run", args())
    run.withdraw()
    run.close()
    assert files(tmp_path / "run") == ["args.json"]


def test_the_lock_file_is_all_that_is_hidden(tmp_path):
    enter(tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".lock", "args.json"]
