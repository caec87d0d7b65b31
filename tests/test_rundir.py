"""The directory of a run: whose it is, what may lie in it, and what survives a kill."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from runs import scalars

from common.errors import UserError
from common.files import read_json, write_json
from common.flags import type_of
from common.task import load_task
from common.training.command import kinds_of, settings_of
from common.training.rundir import RunDir

AGE, DEPTH = load_task("agedb"), load_task("nyud2")


def settings(task=AGE, **changes):
    """The settings of a command with other values of some fields."""
    return settings_of(task, "train.py", "x", ["--lr", "0.1", "--data_dir", "data"]).with_(**changes)


def open_run(path, *, overwrite=False, **changes):
    return RunDir(path, settings(**changes), overwrite=overwrite)


def enter(path, **changes):
    """Enter a run directory, begin a run, and leave it; what refuses it is raised."""
    run = open_run(path, **changes)
    run.begin()
    run.close()


def two_values(task, name):
    """Two values of a field, neither of them its default."""
    kind = next(kind for kind in kinds_of(task) if name in kind.__dataclass_fields__)
    wanted, _ = type_of(kind, name)
    values = {
        bool: (True, False), int: (3, 4), float: (0.25, 0.5), Path: (Path("/one"), Path("/two")),
        tuple[int, ...]: ((1,), (2,)),
    }  # fmt: skip
    return values.get(wanted, ("one", "two"))


def refused(path, *parts, at=None, **changes):
    """Entering `at`, which is `path` by default, raises one line about `path` that says all `parts`."""
    with pytest.raises(UserError) as caught:
        enter(at or path, **changes)
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
    assert (told["lr"], told["fds"], told["data_dir"]) == (0.1, False, str(Path("data").resolve()))
    assert told == settings().identity()
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


def forget(path, name):
    """Write the args.json of a version without this flag."""
    told = json.loads((path / "args.json").read_text())
    del told[name]
    write_json(path / "args.json", told)


def test_a_flag_that_one_side_does_not_know_differs_too(tmp_path):
    """A run from before there was a flag has its default."""
    enter(tmp_path)
    forget(tmp_path, "padding")
    refused(tmp_path, f"--padding {settings().values()['padding']} there, 3 here", padding=3)
    enter(tmp_path)


def test_a_name_that_is_no_flag_is_refused(tmp_path):
    enter(tmp_path)
    write_json(tmp_path / "args.json", settings().identity() | {"new_flag": 3})
    refused(tmp_path / "args.json", "new_flag: no flag of this script", at=tmp_path)


def test_many_differences_name_the_first_four(tmp_path):
    enter(tmp_path)
    with pytest.raises(UserError) as caught:
        enter(tmp_path, seed=9, batch_size=9, img_size=99, padding=9, epoch=9, many_above=9.0)
    assert str(caught.value).count(" there, ") == 4


@pytest.mark.parametrize(
    "name",
    [
        "device", "cuda", "gpu", "workers", "resume", "evaluate", "eval_model",
        "metrics_json", "store_root", "log_file", "print_freq", "cache", "config",
    ],
)  # fmt: skip
def test_where_and_how_a_run_runs_may_change(tmp_path, name):
    other = two_values(AGE, name)[0]
    enter(tmp_path)
    enter(tmp_path, **{name: other})
    assert name not in settings(**{name: other}).identity()


def test_whether_it_starts_over_is_not_its_configuration():
    assert "overwrite" not in settings(overwrite=True).identity()


CHOICES = {
    "fds_variant": ("paper", "released"), "reweight": ("inverse", "sqrt_inv"), "loss": ("l1", "mse"),
    "optimizer": ("adam", "sgd"), "select": ("test", "val"), "model": ("resnet18", "resnet34"),
    "img_size": (32, 64),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "seed", "lr", "data_dir", "fds", "fds_variant", "lds", "reweight", "store_name", "batch_size", "loss",
        "optimizer", "schedule", "pretrained", "select", "img_size", "model", "dataset",
    ],
)  # fmt: skip
def test_what_a_run_is_may_not_change(tmp_path, name):
    task = DEPTH if name == "select" else AGE
    first, second = two_values(task, name)
    working = {"fds": True} if name == "fds_variant" else {}
    first, second = CHOICES.get(name, (first, second))
    there, here = (json.loads(json.dumps(v, default=str)) for v in (first, second))
    enter(tmp_path, task=task, **working, **{name: first})
    told = f"--{name} {there!r} there, {here!r} here"
    refused(tmp_path, "another configuration", told, task=task, **working, **{name: second})


def test_a_flag_without_effect_makes_no_other_run(tmp_path):
    enter(tmp_path)
    enter(tmp_path, lds_ks=9, fds_sigma=1.0, huber_beta=0.5, momentum=0.5, neighbours=9, start_smooth=3)
    refused(tmp_path, "--lds_ks 5 there, 9 here", lds=True, lds_ks=9)


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
    run = open_run(tmp_path, lr=0.2, overwrite=True)
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
    first = open_run(tmp_path)
    refused(tmp_path, "another process is running here", "wait for it or stop it")
    refused(tmp_path, "another process is running here", overwrite=True)
    first.close()
    enter(tmp_path)


@pytest.mark.slow
def test_the_lock_goes_with_its_process(tmp_path):
    code = (
        "import sys, pathlib, time; sys.path.insert(0, sys.argv[2]); import test_rundir; "
        "run = test_rundir.open_run(pathlib.Path(sys.argv[1])); "
        "print('here', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
    run = open_run(tmp_path)
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
    run = open_run(tmp_path)
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
    run = open_run(tmp_path)
    for step in (5, 10, 15):
        run.record(record(step))
    run.close()
    run = open_run(tmp_path)
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
    run = open_run(tmp_path / "run")
    run.withdraw()
    run.close()
    assert not (tmp_path / "run").exists()
    enter(tmp_path / "run")
    run = open_run(tmp_path / "run")
    run.withdraw()
    run.close()
    assert files(tmp_path / "run") == ["args.json"]


def test_the_lock_file_is_all_that_is_hidden(tmp_path):
    enter(tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".lock", "args.json"]
