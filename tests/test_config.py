"""`--config`: every run is repeated from the `args.json` in its directory; a broken file is one line."""

import json

import pytest
import sts_corpus
import tiny_depth
import tiny_faces

from common.settings import Training
from common.task import load_task, task_names
from common.training.command import run_name, settings_of
from common.training.rundir import RunDir

pytestmark = pytest.mark.slow

# For each data set, flags of every kind: switches, choices, numbers, lists, texts, paths.
FLAGS = {
    "agedb": "--lds --fds --fds_variant released --epoch 3 --schedule 1 2 --loss huber --huber_beta 2 --store_name a",
    "imdb-wiki": "--retrain_fc --pretrained first.pth --reweight inverse --lr 1e-4 --bucket_start 2 --bin_width 2.5",
    "sts-b": "--resample smogn --neighbours 3 --glove 0 --suffix mine --word_embs_file words.txt --patience 4",
    "nyud2": "--fds --fds_kernel laplace --fds_ks 9 --fds_sigma 1.5 --select val --keep_invalid --schedule --seed -1",
}


def parsed(name, *argv):
    return settings_of(load_task(name), "train.py", "x", [str(word) for word in argv])


def named(name, settings):
    return run_name(load_task(name), settings)


@pytest.fixture
def saved(tmp_path):
    """The `args.json` of a run that a data set's flags begin, and their settings."""

    def save(name, flags):
        settings = parsed(name, *flags.split())
        directory = RunDir(tmp_path / named(name, settings), settings)
        directory.close()
        return directory.path / "args.json", settings

    return save


@pytest.mark.parametrize(
    ("name", "flags"), [*((name, "") for name in task_names()), *FLAGS.items()], ids=lambda text: text[:9]
)
def test_a_file_gives_the_run_that_wrote_it(name, flags, saved):
    path, settings = saved(name, flags)
    again = parsed(name, "--config", path)
    assert again.identity() == settings.identity()
    assert named(name, again) == named(name, settings)
    RunDir(path.parent, again).close()  # the same run: no UserError


@pytest.mark.parametrize("name", FLAGS)
def test_the_command_line_wins(name, saved):
    path, settings = saved(name, FLAGS[name])
    again = parsed(name, "--config", path, "--lr", "0.5", "--seed", "77", "--loss", "focal_mse")
    changed = {key for key, value in again.identity().items() if value != settings.identity()[key]}
    assert changed <= {"lr", "seed", "loss", "huber_beta"}  # a beta without effect is not of a run
    assert {"lr", "seed", "loss"} <= changed
    assert again[Training].lr == 0.5
    assert "seed_77" in named(name, again)
    assert parsed(name, "--lr", "0.5", "--config", path)[Training].lr == 0.5  # before the file too


def test_what_is_not_in_the_file_has_its_default(saved):
    path, _ = saved("agedb", "--epoch 3")
    content = json.loads(path.read_text())
    del content["momentum"]
    path.write_text(json.dumps(content))
    assert parsed("agedb", "--config", path)[Training].momentum == 0.9


def faces_in(name):
    def begin(folder):
        data = tiny_faces.write_faces(folder / "data", name=name.replace("-", "_"))
        return tiny_faces.command(data, "--lds --fds --epoch 1")

    return (
        begin,
        lambda argv: tiny_faces.call(argv, f"{name}-dir"),
        lambda argv: tiny_faces.run_dir(argv, name),
    )


def begin_sts(folder):
    return sts_corpus.command(sts_corpus.write_corpus(folder / "data"), "--max_vals 1")


def begin_depth(folder):
    return tiny_depth.command(tiny_depth.tiny_nyud2(folder / "data"), "--epochs 1 --lds")


TRAINED = {
    "agedb": faces_in("agedb"),
    "imdb-wiki": faces_in("imdb-wiki"),
    "sts-b": (begin_sts, sts_corpus.call, sts_corpus.run_dir),
    "nyud2": (begin_depth, tiny_depth.call, tiny_depth.run_dir),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_run_is_repeated_from_its_directory(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begin, call, run_dir = TRAINED[name]
    argv = begin(tmp_path)
    assert call(argv) == 0
    path = run_dir(argv)
    capsys.readouterr()
    assert call(["--config", str(path / "args.json")]) == 0
    assert f"{path} is finished" in capsys.readouterr().out
    again = ["--config", str(path / "args.json"), "--store_root", "again", "--device", "cpu"]
    assert call(again) == 0
    repeated = tmp_path / "again" / path.name
    for file in ("predictions.csv", "args.json"):
        assert (repeated / file).read_bytes() == (path / file).read_bytes()


# Bad files


@pytest.fixture
def refused(saved, tmp_path, capsys, monkeypatch):
    """The one line that ends a command whose `args.json` has been changed by `change`."""
    monkeypatch.chdir(tmp_path)

    def refuse(change):
        path, _ = saved("agedb", FLAGS["agedb"])
        change(path)
        before = sorted(tmp_path.rglob("*"))
        assert tiny_faces.call(["--config", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("agedb-dir/train.py: error: ")
        assert str(path) in err
        assert sorted(tmp_path.rglob("*")) == before  # nothing is left behind
        return err

    return refuse


@pytest.mark.parametrize("text", ["", '{"lr": 0.001, "los', "[1, 2]", "no JSON", '"lr"'])
def test_a_cut_file_is_refused(refused, text):
    assert "is cut short or no args.json; name the args.json in a run's directory" in refused(
        lambda path: path.write_text(text)
    )


def test_half_of_a_real_file_is_refused(refused):
    assert "is cut short" in refused(lambda path: path.write_text(path.read_text()[: -len("}\n") - 20]))


def test_a_missing_file_is_refused(refused):
    assert "there is no such file; name the args.json in a run's directory" in refused(
        lambda path: path.unlink()
    )


def setting(**values):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_unknown_key_is_named(refused):
    assert ": lsd: no flag of this script; correct the file" in refused(setting(lsd=True))


def test_a_file_of_another_data_set_is_refused(refused, saved):
    other, _ = saved("sts-b", "")
    error = refused(lambda path: path.write_text(other.read_text()))
    assert "d_hid" in error
    assert "no flag of this script" in error


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"lds_ks": 4}, "--lds_ks: '4' is no odd whole number of at least 1"),
        ({"lr": 0}, "--lr: '0' is no finite number of at least 1e-12"),
        ({"lr": "fast"}, "--lr: 'fast' is no finite number of at least 1e-12"),
        ({"fds_mmt": 1.5}, "--fds_mmt: '1.5' is no finite number from 0 to 1"),
        ({"epoch": 2.5}, "--epoch: '2.5' is no whole number of at least 1"),
        ({"schedule": [60, 0]}, "--schedule: '0' is no whole number of at least 1"),
        ({"loss": "l3"}, "loss: 'l3' is none of mse, l1, huber, focal_mse, focal_l1"),
        ({"lds": 1}, "lds: 1 is neither true nor false"),
        ({"lds_kernel": "gausian"}, "--lds_kernel: invalid choice: 'gausian' (did you mean gaussian?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_value_outside_its_limits_names_flag_and_limits(refused, values, told):
    assert told in refused(setting(**values))
