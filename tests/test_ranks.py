"""A run on several processes: every method, with batch norm, ends as it does on one."""

import copy
import fcntl
import functools
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
import sts_corpus
import tiny_depth
import tiny_faces
import torch
import torch.utils.tensorboard  # noqa: F401 - here, not in every child
import toy
from runs import ended, in_child, killed_at, read, same
from test_methods import CASES, SUMS
from torch import nn
from torchvision.models._api import BUILTIN_MODELS

from common import cli
from common.errors import UserError
from common.training import checkpoint, command, engine, ranks
from common.training.norms import share_norms

pytestmark = pytest.mark.slow
REAL_BATCHES = ranks.batches


class Normed(nn.Module):
    """An encoder with batch norm behind it and no dropout."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.feature_dim = inner, inner.feature_dim
        self.norm = (nn.BatchNorm2d if isinstance(inner, toy.MapEncoder) else nn.BatchNorm1d)(
            self.feature_dim
        )
        for module in inner.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, inputs):
        return self.norm(self.inner(inputs))


def normed(task):
    return replace(task, build=lambda settings, data: Normed(task.build(settings, data)))


def doubled(value):
    if isinstance(value, tuple):
        return tuple(map(doubled, value))
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


def in_double():
    """Compute in float64 from here on."""
    torch.set_default_dtype(torch.float64)
    double_batches()


def double_batches():
    def batches(*args, **how):
        for batch in REAL_BATCHES(*args, **how):
            tensors = {name: doubled(part) for name, part in batch._asdict().items() if name != "share"}
            yield batch._replace(**tensors)

    ranks.batches = batches


def model_in_double():
    """Compute in float64, but for the reading of data."""
    real = command.build_regressor
    command.build_regressor = lambda *args: real(*args).double()
    double_batches()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def in_ranks(number, work, prepare=lambda: None):
    """The exit codes of `work` in as many processes, joined as torchrun joins them."""
    port = free_port()

    def start(rank):
        def joined():
            os.environ.update(
                RANK=str(rank), WORLD_SIZE=str(number), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )  # fmt: skip
            prepare()

        return in_child(work, joined)

    return [ended(child) for child in [start(rank) for rank in range(number)]]


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """What torch imports at a first step is imported here, not in every child."""
    toy.run(tmp_path_factory.mktemp("warm"), max_vals=1)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    """The end of a case on one process, in float64."""

    @functools.cache
    def end(shape, flags, stage):
        root = tmp_path_factory.mktemp("one")
        assert in_ranks(1, go(root, shape, flags, stage), in_double) == [0]
        return root / "run"

    return end


def go(root, shape, flags, stage):
    task = normed(toy.KINDS[shape])
    # Nine steps: an epoch, whose last batch has two samples, its end, and what follows from it.
    words = f"{flags} --val_interval 9 --max_vals 1" + (f" --pretrained {stage}" if stage else "")
    return lambda: cli.run_command("toy", lambda: command.run(task, toy.settings_of(root, words, task=task)))


@pytest.fixture(scope="module")
def stage_of(tmp_path_factory):
    """The checkpoint of a first stage with batch norm for flags that need one, else ""."""

    @functools.cache
    def path(shape):
        root = tmp_path_factory.mktemp("stage")
        assert in_ranks(1, go(root, shape, "", "")) == [0]
        return str(root / "run" / "ckpt.best.pth.tar")

    def of(shape, flags):
        try:
            toy.settings_of(tmp_path_factory.getbasetemp(), flags, task=toy.KINDS[shape])
        except UserError:
            return path(shape)
        return ""

    return of


def assert_equal(one, many, bound=1e-10):
    theirs, mine = (checkpoint.load(root / "ckpt.pth.tar")["state_dict"] for root in (one, many))
    assert theirs.keys() == mine.keys()
    for name, value in theirs.items():
        near = 1e-12 if name.startswith("FDS.") and bound <= 1e-10 else bound
        torch.testing.assert_close(mine[name], value, rtol=near, atol=near, msg=lambda m, n=name: f"{n}: {m}")
    assert (many / "predictions.csv").exists() == (one / "predictions.csv").exists()
    if (one / "predictions.csv").exists():  # a first stage without a head predicts nothing
        tables = [pd.read_csv(root / "predictions.csv") for root in (one, many)]
        pd.testing.assert_frame_equal(*tables, rtol=1e-8, atol=1e-8)


# Every method on vectors; on the other shapes the sums, and what treats maps in a way of its own.
FEWER = [
    case for case in CASES
    if case.values[0] == "vectors" or case.values[1] in (*SUMS.values(), "--fds", "--lds", "--conr 1")
]  # fmt: skip


@pytest.mark.parametrize(("shape", "flags"), FEWER)
def test_three_processes_end_as_one(tmp_path, shape, flags, on_one, stage_of):
    stage = stage_of(shape, flags)
    assert in_ranks(3, go(tmp_path, shape, flags, stage), in_double) == [0, 0, 0]
    assert_equal(on_one(shape, flags, stage), tmp_path / "run")


SUM = "--lds --fds --ranksim"
PLACES = {  # of rank 1, in which it is killed
    "training": (engine.Run, "step", 5), "the FDS pass": (engine.Run, "one_more_pass", 1),
    "evaluation": (engine, "evaluate", 1), "a checkpoint": (engine.Run, "save", 1),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_rank_ends_the_job_and_another_number_goes_on(tmp_path, place, on_one, capfd):
    def dies():
        in_double()
        if os.environ["RANK"] == "1":
            killed_at(*PLACES[place])

    codes = in_ranks(3, go(tmp_path, "vectors", SUM, ""), dies)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0 and codes[2] != 0
    assert "another process of this run has ended; the same command goes on" in capfd.readouterr().err
    assert in_ranks(2, go(tmp_path, "vectors", SUM, ""), in_double) == [0, 0]
    assert_equal(on_one("vectors", SUM, ""), tmp_path / "run", 1e-6)


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(tmp_path, on_one):
    def stops():
        in_double()
        real, steps = engine.Run.step, []

        def step(self, *args):
            steps.append(None)
            if os.environ["RANK"] == "1" and len(steps) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(self, *args)

        engine.Run.step = step

    assert in_ranks(2, go(tmp_path, "vectors", SUM, ""), stops) == [130, 130]
    assert checkpoint.load(tmp_path / "run" / "ckpt.pth.tar")["state"]["step"] == 4
    assert in_ranks(3, go(tmp_path, "vectors", SUM, ""), in_double) == [0, 0, 0]
    assert_equal(on_one("vectors", SUM, ""), tmp_path / "run")


def one_line(capfd):
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("toy: error")]
    return line


def test_a_batch_smaller_than_the_ranks_is_refused(tmp_path, capfd):
    assert in_ranks(3, go(tmp_path, "vectors", "--batch_size 2", "")) == [2, 2, 2]
    assert "--batch_size 2: is smaller than the 3 processes" in one_line(capfd)


def test_a_run_directory_of_another_configuration_is_refused_once(tmp_path, capfd):
    toy.run(tmp_path, "--lr 0.01", max_vals=1)
    capfd.readouterr()
    assert in_ranks(2, go(tmp_path, "vectors", "", "")) == [2, 2]
    assert "holds a run of another configuration" in one_line(capfd)


def test_two_jobs_in_one_run_directory_are_told_apart(tmp_path, capfd):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert in_ranks(2, go(tmp_path, "vectors", "", "")) == [2, 2]
    assert "another process is running here" in one_line(capfd)


def test_ranks_that_see_other_data_are_refused(tmp_path, capfd):
    def fewer():
        if os.environ["RANK"] == "1":
            whole = toy.Vectors.__len__
            toy.Vectors.__len__ = lambda self: whole(self) - 1

    assert in_ranks(2, go(tmp_path, "vectors", "", ""), fewer) == [2, 2]
    assert "process 1 sees other data than process 0" in one_line(capfd)


def test_an_error_of_one_rank_is_everybodys(tmp_path, capfd):
    def refuses():
        def load(settings):
            raise UserError("/data/faces.csv: is not here")

        if os.environ["RANK"] == "1":
            command.load = lambda task, settings: load(settings)

    assert in_ranks(2, go(tmp_path, "vectors", "", ""), refuses) == [2, 2]
    assert "/data/faces.csv: is not here" in one_line(capfd)


def test_a_backend_that_torch_lacks_is_named(tmp_path, capfd):
    def without():
        ranks.dist.is_gloo_available = lambda: False

    assert in_ranks(2, go(tmp_path, "vectors", "", ""), without) == [2, 2]
    assert "no backend for cpu" in one_line(capfd)


def test_dropout_has_a_stream_of_each_rank_that_a_checkpoint_holds(tmp_path):
    task = toy.KINDS["vectors"]  # with dropout

    def runs(root, steps):
        words = f"{SUM} --val_interval {steps} --max_vals {9 // steps}"
        return lambda: command.run(task, toy.settings_of(root, words, task=task))

    def stops():
        killed_at(engine.Run, "step", 5)

    assert in_ranks(2, runs(tmp_path / "whole", 3)) == [0, 0]
    assert 0 not in in_ranks(2, runs(tmp_path / "killed", 3), stops)
    assert in_ranks(2, runs(tmp_path / "killed", 3)) == [0, 0]
    ends = [checkpoint.load(tmp_path / name / "run" / "ckpt.pth.tar") for name in ("whole", "killed")]
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert same(ends[0]["streams"], ends[1]["streams"])


def test_batch_norm_on_gpus_is_torchs_own():
    norm = nn.BatchNorm1d(3)
    twin, x = copy.deepcopy(norm), torch.randn(5, 3)
    share_norms(norm, stream := ranks.Stream([0]), torch.device("cuda"))
    assert isinstance(norm, nn.SyncBatchNorm)
    assert norm.state_dict().keys() == twin.state_dict().keys()
    torch.testing.assert_close(norm(x), twin(x))  # all ranks have the whole batch
    with stream, mock.patch.object(nn.SyncBatchNorm, "forward", return_value="of all ranks"):
        assert norm(x) == "of all ranks"


def trains(data, root, number, *flags, prepare=model_in_double):
    """Train on a data set's tiny data with its own model and script; the run directory."""
    module = {"sts-b": sts_corpus, "nyud2": tiny_depth}.get(data.name, tiny_faces)
    argv = module.command(data, "--store_root", root, *flags)
    with mock.patch.dict(BUILTIN_MODELS, resnet18=tiny_faces.resnet_tiny):
        assert in_ranks(number, lambda: module.call(argv), prepare) == [0] * number
    (run,) = root.iterdir()
    return run


DATA = {
    "agedb": (tiny_faces.write_faces, "--lds --fds --epoch 1"),
    "sts-b": (sts_corpus.write_corpus, "--lds --fds --dropout 0 --val_interval 8 --max_vals 1"),
    "nyud2": (
        functools.partial(tiny_depth.tiny_nyud2, train=13, test=3),
        "--reweight inverse --lds --fds --epochs 1 --img_size 48 --optimizer sgd --batch_size 5",
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_the_model_of_each_data_set_ends_as_on_one(tmp_path, name):
    write, flags = DATA[name]
    data = tmp_path / name
    write(data)
    ends = [trains(data, tmp_path / str(number), number, flags) for number in (1, 2)]
    for one, many in zip(
        *(checkpoint.load(end / "ckpt.pth.tar")["state_dict"].values() for end in ends), strict=True
    ):
        torch.testing.assert_close(many, one, rtol=1e-10, atol=1e-10)
    one, many = (pd.read_csv(end / "predictions.csv") for end in ends)
    pd.testing.assert_frame_equal(many, one, rtol=1e-6, atol=1e-8)


def test_an_epoch_in_float32_has_the_metrics_of_one_process(tmp_path):
    data = sts_corpus.write_corpus(tmp_path / "sts-b")
    flags = "--lds --fds --dropout 0 --val_interval 8 --max_vals 1"
    ends = [trains(data, tmp_path / str(n), n, flags, prepare=lambda: None) for n in (1, 2)]
    one, many = (read(end / "metrics.json")["shots"]["all"] for end in ends)
    assert many == pytest.approx(one, abs=1e-4)


def test_torchrun_starts_again_by_itself(tmp_path):
    """The real command: a rank that dies once, and --max-restarts."""
    sts_corpus.write_corpus(tmp_path / "data")
    dying = tmp_path / "dying.py"
    dying.write_text(
        "import os, pathlib, runpy, signal, sys\n"
        "from common.training import engine\n"
        f"once = pathlib.Path({str(tmp_path / 'once')!r})\n"
        "real = engine.Run.step\n"
        "def step(self, batch, epoch):\n"
        "    if self.state.step == 3 and os.environ['RANK'] == '1' and not once.exists():\n"
        "        once.touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, batch, epoch)\n"
        "engine.Run.step = step\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    argv = sts_corpus.command(tmp_path / "data", "--store_root", tmp_path / "runs")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    done = subprocess.run(
        [sys.executable, *launch, str(dying), str(cli.ROOT / sts_corpus.PROG), *argv],
        cwd=cli.ROOT, env=os.environ | {"PYTHONPATH": str(cli.ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "once").exists()
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "metrics.json").exists()
    assert "2 processes" in (run / "training.log").read_text()
