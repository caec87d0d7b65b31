"""Every command of the published READMEs trains and tests on tiny data, under its published flags."""

import contextlib
import importlib.util
from functools import partial

import pytest
import sts_corpus
import tiny_depth
import tiny_faces

from common import cli

pytestmark = pytest.mark.slow
LDS = "--lds --lds_kernel gaussian --lds_ks 5 --lds_sigma 2"
FDS = "--fds --fds_kernel gaussian --fds_ks 5 --fds_sigma 2"
AGE = [
    "--reweight none", "--reweight inverse", "--reweight sqrt_inv", "--loss focal_l1", "--loss huber",
    f"--reweight sqrt_inv {LDS}", FDS, f"--reweight sqrt_inv {LDS} {FDS}",
]  # fmt: skip
TEXT = [
    "--cuda -1 --reweight none", "--reweight inverse", "--reweight sqrt_inv", "--loss focal_mse",
    "--loss huber --huber_beta 0.3", f"--reweight inverse {LDS}", FDS, f"--reweight inverse {LDS} {FDS}",
]  # fmt: skip
DEPTH = [
    "--reweight none", "--reweight inverse", "--reweight sqrt_inv", f"--reweight inverse {LDS}", FDS,
    f"--reweight inverse {LDS} {FDS}",
]  # fmt: skip


def faces(folder):
    return tiny_faces.write_faces(folder), partial(tiny_faces.call, folder=folder.name), tiny_faces


def imdb(folder):
    return (
        tiny_faces.write_faces(folder, name="imdb_wiki"),
        partial(tiny_faces.call, folder=folder.name),
        tiny_faces,
    )


def text(folder):
    return sts_corpus.write_corpus(folder), sts_corpus.call, sts_corpus


def depth(folder):
    return tiny_depth.tiny_nyud2(folder, train=4, test=2), tiny_depth.call, tiny_depth


DATA_SETS = {
    "agedb-dir": (faces, AGE, "--epoch 1", "--evaluate --resume"),
    "imdb-wiki-dir": (imdb, AGE, "--epoch 1", "--evaluate --resume"),
    "sts-b-dir": (text, TEXT, "--max_vals 1", "--evaluate --eval_model"),
    "nyud2-dir": (depth, DEPTH, "--epochs 1", "--eval_model"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny data of a data set, how to call its train.py, and its module of helpers."""
    cache = {}

    def make(name):
        if name not in cache:
            cache[name] = DATA_SETS[name][0](tmp_path_factory.mktemp("data") / name)
        return cache[name]

    return make


def trained(made, name, flags):
    """Train in the current folder; the run directory."""
    data, call, module = made(name)
    argv = module.command(data, flags, DATA_SETS[name][2])
    assert call(argv) == 0
    path = module.run_dir(argv) if name != "imdb-wiki-dir" else module.run_dir(argv, "imdb-wiki")
    assert (path / "metrics.json").exists()
    return path


CASES = [(name, flags) for name, (_, commands, *_) in DATA_SETS.items() for flags in commands]


@pytest.mark.parametrize(("name", "flags"), CASES)
def test_a_published_command_trains(tmp_path, monkeypatch, made, name, flags):
    monkeypatch.chdir(tmp_path)
    trained(made, name, flags)


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_published_second_stage_and_evaluation_work(tmp_path, monkeypatch, made, name):
    monkeypatch.chdir(tmp_path)
    best = trained(made, name, "--reweight inverse") / "ckpt.best.pth.tar"
    second = trained(made, name, f"--reweight inverse --retrain_fc --pretrained {best}")
    data, call, module = made(name)
    argv = module.command(data, DATA_SETS[name][2], f"{DATA_SETS[name][3]} {second / 'ckpt.best.pth.tar'}")
    if name != "nyud2-dir":
        assert call(argv) == 0
        return
    spec = importlib.util.spec_from_file_location("nyud2_test", cli.ROOT / "nyud2-dir" / "test.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)  # the published evaluation of depth is a script of its own
    with contextlib.chdir(tmp_path):
        assert cli.run_command("nyud2-dir/test.py", lambda: script.main(argv)) == 0
