"""The command line of STS-B-DIR, which stands for all: published flags, defaults, names, and every error."""

import contextlib
import dataclasses
import logging
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sts_corpus import PROG, call, command, run_dir, train, write_corpus

from common import cli
from common.errors import RunFailed, UserError
from common.flags import number
from common.lds import KERNELS
from common.methods.reweight import ReweightFlags
from common.report import Progress, shot_text, start_logging, stop_logging
from common.settings import Running
from common.training import command as training_command
from common.training.command import kinds_of, run_name, settings_of

TASK = train.TASK

PUBLISHED = {  # flag: (a value to give, the default: the published one but for `cuda`)
    "cuda": ("0", None), "random_seed": ("7", 111), "log_file": ("a.log", "training.log"),
    "store_root": ("runs", Path("checkpoint")), "store_name": ("mine", "sts"), "suffix": ("x", ""),
    "word_embs_file": ("v.txt", cli.ROOT / "data" / "glove" / "glove.840B.300d.txt"), "resume": (None, None),
    "task": ("sts-b", "sts-b"), "max_seq_len": ("30", 40), "max_word_v_size": ("99", 30000),
    "dropout_embs": ("0.1", 0.2), "d_word": ("50", 300), "glove": ("0", 1), "train_words": ("1", 0),
    "d_hid": ("64", 1500), "n_layers_enc": ("1", 2), "n_layers_highway": ("1", 0), "dropout": ("0.5", 0.2),
    "batch_size": ("8", 128), "optimizer": ("sgd", "adam"), "lr": ("0.1", 1e-4), "loss": ("huber", "mse"),
    "huber_beta": ("0.5", 0.3), "max_grad_norm": ("1", 5.0), "val_interval": ("10", 400),
    "max_vals": ("3", 100), "patience": ("2", 10), "lds": (None, False), "lds_kernel": ("triang", "gaussian"),
    "lds_ks": ("9", 5), "lds_sigma": ("1", 2.0), "fds": (None, False), "fds_kernel": ("laplace", "gaussian"),
    "fds_ks": ("9", 5), "fds_sigma": ("1", 2.0), "start_update": ("1", 0), "start_smooth": ("2", 1),
    "bucket_num": ("40", 50), "bucket_start": ("3", 0), "fds_mmt": ("0.5", 0.9),
    "reweight": ("inverse", None), "retrain_fc": (None, False), "pretrained": ("a.pth", ""),
    "evaluate": (None, False), "eval_model": ("a.pth", ""),
}  # fmt: skip
DEST = {"random_seed": "seed"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parse(line=""):
    """Return the value of every flag, before one means something for another."""
    return cli.parse(PROG, "x", kinds_of(TASK), TASK.defaults, shlex.split(line)).values()


def complete(line="", task=TASK):
    return settings_of(task, PROG, "x", shlex.split(line))


def fails(argv, capsys, *parts, code=2):
    """The one line that `train.py argv` ends with, which must hold each of `parts`."""
    argv = shlex.split(argv) if isinstance(argv, str) else argv
    assert call(argv) == code
    error = capsys.readouterr().err
    assert error.startswith(f"{PROG}: error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert str(part) in error, error
    return error


# Published flags


@pytest.mark.parametrize("flag", PUBLISHED)
def test_a_published_flag_is_accepted_and_acts(flag):
    value, default = PUBLISHED[flag]
    given = parse(f"--{flag}" + (f" {value}" if value else ""))[DEST.get(flag, flag)]
    if flag == "resume":
        assert given == ""  # with a path: test_resume_takes_a_path_too
    elif value is None:
        assert given is True
    elif default is None:
        assert given == (0 if flag == "cuda" else value)
    else:
        assert given == type(default)(value)
    assert given != default or flag == "task"


def test_defaults_are_the_published_ones():
    args = parse()
    for flag, (_, default) in PUBLISHED.items():
        assert args[DEST.get(flag, flag)] == default, flag
    # New ones
    assert (args["device"], args["data_dir"], args["fds_variant"]) == ("auto", None, "paper")
    assert (args["metrics_json"], args["overwrite"], args["schedule"]) == (None, False, ())


def test_seed_and_random_seed_are_one():
    assert parse("--seed 5")["seed"] == parse("--random_seed 5")["seed"] == 5


@pytest.mark.parametrize(
    ("cuda", "device"),
    [("--cuda 0", "cuda:0"), ("--cuda 2", "cuda:2"), ("--cuda -1", "cpu"), ("--device x", "x")],
)
def test_cuda_is_a_device(monkeypatch, cuda, device):
    seen = []
    monkeypatch.setattr(training_command, "run", lambda task, args: seen.append(args[Running].where) or 0)
    assert call(shlex.split(cuda)) == 0
    assert seen == [device]


def test_resume_takes_a_path_too():
    assert parse("--resume a.pth")["resume"] == "a.pth"
    assert parse("--resume --lds")["resume"] == ""


@pytest.mark.parametrize("flag", ["--weight_decay", "--weight-decay", "--wd"])
def test_weight_decay_has_every_published_name(flag):
    assert parse(f"{flag} 0.5")["weight_decay"] == 0.5


def test_data_are_looked_for_in_the_repository(monkeypatch):
    seen = []
    monkeypatch.setattr(training_command, "run", lambda task, args: seen.append(args[Running].data_dir) or 0)
    assert call([]) == 0
    assert seen == [cli.ROOT / "data" / "sts-b"]
    assert (cli.ROOT / "common" / "cli.py").is_file()


# Names

TAIL = "mse_seed_111_valint_400_patience_10_adam_0.0001_128"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("", f"sts_{TAIL}"),
        ("--reweight inverse", f"sts_inverse_{TAIL}"),
        ("--reweight sqrt_inv", f"sts_sqrt_inv_{TAIL}"),
        ("--lds", f"sts_lds_gau_5_2_{TAIL}"),
        ("--lds --reweight inverse --lds_sigma 1 --lds_ks 9", f"sts_lds_gau_9_1_{TAIL}"),
        ("--lds --lds_sigma 1.5", f"sts_lds_gau_5_1.5_{TAIL}"),
        ("--lds --lds_kernel triang", f"sts_lds_tri_5_{TAIL}"),
        ("--lds --lds_kernel laplace", f"sts_lds_lap_5_2_{TAIL}"),
        ("--lds --lds_kernel hann --lds_sigma 9", f"sts_lds_hann_5_{TAIL}"),
        ("--fds --fds_kernel general_gaussian", f"sts_fds_general_gaussian_5_2_0_1_0.9_{TAIL}"),
        ("--fds", f"sts_fds_gau_5_2_0_1_0.9_{TAIL}"),
        ("--fds --fds_kernel triang --start_update 1 --start_smooth 2", f"sts_fds_tri_5_1_2_0.9_{TAIL}"),
        ("--fds --fds_mmt 0.99", f"sts_fds_gau_5_2_0_1_0.99_{TAIL}"),
        ("--fds --fds_variant released", f"sts_fds_gau_5_2_0_1_0.9_released_{TAIL}"),
        ("--fds --fds_pass online", f"sts_fds_gau_5_2_0_1_0.9_online_{TAIL}"),
        ("--lds --fds", f"sts_lds_gau_5_2_fds_gau_5_2_0_1_0.9_{TAIL}"),
        ("--reweight inverse --fds", f"sts_inverse_fds_gau_5_2_0_1_0.9_{TAIL}"),
        ("--retrain_fc --pretrained a.pth --reweight inverse", f"sts_inverse_retrain_fc_{TAIL}"),
        ("--loss huber", f"sts_{TAIL.replace('mse', 'huber_beta_0.3')}"),
        ("--loss focal_l1 --huber_beta 9", f"sts_{TAIL.replace('mse', 'focal_l1')}"),
        ("--lr 0.001 --batch_size 16", f"sts_{TAIL.replace('0.0001_128', '0.001_16')}"),
        ("--store_name a --suffix b --patience 5", f"a_{TAIL.replace('patience_10', 'patience_5')}_b"),
        ("--seed 3 --val_interval 5 --optimizer sgd", "sts_mse_seed_3_valint_5_patience_10_sgd_0.0001_128"),
    ],
)
def test_a_run_is_named_as_published(flags, name):
    assert run_name(TASK, complete(flags)) == name


# What one flag means for another


def test_lds_alone_takes_the_scheme_of_the_task():
    def scheme_of(line, task=TASK):
        return complete(line, task)[ReweightFlags].reweight

    for scheme in ("inverse", "sqrt_inv"):
        assert scheme_of("--lds", dataclasses.replace(TASK, lds_reweight=scheme)) == scheme
    assert scheme_of("--lds --reweight sqrt_inv") == "sqrt_inv"
    assert scheme_of("--fds") == "none"


def test_lds_is_inverse_on_sts_b(corpus, capsys):
    assert call(command(corpus, "--lds --max_vals 1")) == 0
    assert "Methods: loss mse; re-weighting inverse, LDS gaussian 5/2\n" in capsys.readouterr().out


def test_a_window_of_scipy_trains(corpus, capsys):
    assert call(command(corpus, "--lds --fds --lds_kernel hann --fds_kernel boxcar --max_vals 1")) == 0
    assert "LDS hann 5/2; FDS boxcar 5/2" in capsys.readouterr().out


def test_run_names_of_two_windows_differ():
    names = []
    for kernel in KERNELS:
        settings = complete(f"--lds --fds --lds_kernel {kernel} --fds_kernel {kernel}")
        names.append(run_name(TASK, settings))
    assert len(set(names)) == len(KERNELS) > 15


def test_lds_without_weights_is_refused(capsys):
    fails("--lds --reweight none", capsys, "--lds smooths the density", "drop --reweight none")


def test_rrt_without_a_first_stage_is_refused(capsys):
    fails("--retrain_fc", capsys, "--retrain_fc needs --pretrained CKPT")


def test_a_kernel_wider_than_the_buckets_is_refused(corpus, capsys):
    flags = command(corpus, "--fds --fds_ks 9 --bucket_num 10 --bucket_start 6")
    fails(flags, capsys, "--fds_ks 9", "too wide", "--bucket_start 6", "--bucket_num 10")


def test_a_missing_first_stage_is_named(corpus, capsys):
    argv = command(corpus, "--retrain_fc --pretrained none.pth")
    fails(argv, capsys, "none.pth: there is no such checkpoint")
    assert not run_dir(argv).exists()


# What a user can get wrong


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--batch_sise 8", ["unknown argument --batch_sise", "did you mean --batch_size?"]),
        ("--fds_sigm=2", ["unknown argument --fds_sigm=2", "did you mean --fds_sigma?"]),
        ("--zzzzzz", ["unknown argument --zzzzzz;"]),
        ("--rew inverse", ["unknown argument --rew "]),  # no abbreviations
        ("extra", ["unknown argument extra"]),
        ("--lds_ks 4", ["--lds_ks", "'4' is no odd whole number of at least 1"]),
        ("--fds_ks 0", ["--fds_ks", "'0' is no odd whole number of at least 1"]),
        ("--fds_ks -3", ["--fds_ks", "'-3' is no odd whole number of at least 1"]),
        ("--batch_size 0", ["--batch_size", "'0' is no whole number of at least 1"]),
        ("--batch_size 1.5", ["--batch_size", "'1.5' is no whole number of at least 1"]),
        ("--batch_size many", ["--batch_size", "'many' is no whole number of at least 1"]),
        ("--max_vals -1", ["--max_vals", "'-1' is no whole number of at least 1"]),
        ("--lr nan", ["--lr", "'nan' is no finite number"]),
        ("--lr inf", ["--lr", "'inf' is no finite number"]),
        ("--lr 0", ["--lr", "'0' is no finite number"]),
        ("--lr=-inf", ["--lr", "'-inf' is no finite number"]),
        ("--lr -0.1", ["--lr", "'-0.1' is no finite number"]),
        ("--lds_sigma 0", ["--lds_sigma", "'0' is no finite number"]),
        ("--lds_sigma inf", ["--lds_sigma", "'inf' is no finite number"]),
        ("--fds_mmt nan", ["--fds_mmt", "'nan' is no finite number from 0 to 1"]),
        ("--fds_mmt 1.5", ["--fds_mmt", "'1.5' is no finite number from 0 to 1"]),
        ("--dropout 1.5", ["--dropout", "'1.5' is no finite number from 0 to 1"]),
        ("--dropout -0.1", ["--dropout", "'-0.1' is no finite number from 0 to 1"]),
        ("--max_grad_norm inf", ["--max_grad_norm", "'inf' is no finite number of at least 0"]),
        ("--seed 1e3", ["--seed", "'1e3' is no whole number"]),
        ("--seed 99999999999999999999", ["--seed", "is no whole number"]),
        ("--loss mae", ["--loss", "invalid choice: 'mae'", "focal_mse"]),
        ("--reweight sqrt", ["--reweight", "invalid choice: 'sqrt'", "sqrt_inv"]),
        ("--lds_kernel box", ["--lds_kernel", "invalid choice: 'box'", "triang"]),
        ("--lds_kernel han", ["--lds_kernel", "invalid choice: 'han'", "did you mean hann?", "cosine"]),
        ("--fds_kernel gausian", ["--fds_kernel", "invalid choice: 'gausian'", "did you mean gaussian?"]),
        ("--fds_kernel kaiser", ["--fds_kernel", "'kaiser'", "needs a parameter of its own", "hann"]),
        ("--glove 2", ["--glove", "'2' is no whole number from 0 to 1"]),
        ("--cuda first", ["--cuda", "'first' is no whole number"]),
        ("--lr", ["--lr", "expected one argument"]),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(capsys, flags, parts):
    fails(flags, capsys, *parts, f"see {PROG} --help")


def test_missing_data_name_the_files_and_how_to_get_them(tmp_path, capsys):
    argv = command(tmp_path / "nowhere")
    fails(
        argv, capsys, tmp_path / "nowhere", "train_new.tsv, dev_new.tsv, test_new.tsv", "no such folder",
        "scripts/download.py sts-b", "scripts/make_standin.py sts-b", "--data_dir",
    )  # fmt: skip
    assert not run_dir(argv).exists()  # nothing is left that a command with the right --data_dir would meet
    assert call(command(write_corpus(tmp_path / "here"), "--max_vals 1")) == 0


def test_one_missing_file_is_named_alone(tmp_path, capsys):
    folder = write_corpus(tmp_path / "data")
    (folder / "dev_new.tsv").unlink()
    assert "train_new" not in fails(command(folder), capsys, folder, "dev_new.tsv not in this folder")


def test_missing_word_vectors_are_named(corpus, tmp_path, capsys):
    argv = command(corpus, f"--word_embs_file {tmp_path / 'v.txt'}")
    fails(
        argv,
        capsys,
        tmp_path / "v.txt",
        "scripts/download.py glove",
        "--word_embs_file",
        "--glove 0",
    )


def test_another_dimension_of_word_vectors_is_named(corpus, capsys):
    fails(command(corpus, "--d_word 9"), capsys, "glove.txt, line 1", "--d_word 8")


def test_a_broken_row_is_named(tmp_path, capsys):
    folder = write_corpus(tmp_path / "data")
    with (folder / "test_new.tsv").open("a") as file:
        file.write("too few\tcolumns\n")
    fails(command(folder), capsys, f"{folder / 'test_new.tsv'}, line 42", "2 columns", "correct the file")


def test_a_broken_standin_is_named(tmp_path, capsys):
    folder = write_corpus(tmp_path / "data")
    (folder / "standin.json").write_text('{"dataset": "sts-b"')
    fails(command(folder), capsys, folder / "standin.json", "broken", "scripts/make_standin.py")


def test_resume_without_a_run_is_refused(corpus, capsys):
    argv = command(corpus, "--resume")
    fails(argv, capsys, run_dir(argv), "there is no such run to --resume", "without the flag it starts")
    assert not run_dir(argv).exists()


@pytest.mark.parametrize("device", ["cuda:77", "gpu", "cpu:x", "''"])
def test_a_device_that_is_not_there_is_named(corpus, capsys, device):
    argv = [*command(corpus), "--device", *shlex.split(device)]
    fails(argv, capsys, "--device", "there is no such device here", "try --device auto")
    assert not run_dir(argv).exists()


def test_auto_is_the_first_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.pick_device("auto") == torch.device("cpu")


def test_another_configuration_under_one_name_is_refused(corpus, capsys):
    """`--d_hid` is not in the published name, so these two runs would share a directory."""
    argv = command(corpus, "--max_vals 1")
    assert call(argv) == 0
    capsys.readouterr()
    other = command(corpus, "--max_vals 1 --d_hid 5")
    fails(
        other, capsys, run_dir(argv), "holds a run of another configuration", "--d_hid 6 there, 5 here",
        "--store_name", "--store_root", "--overwrite",
    )  # fmt: skip
    assert call([*other, "--overwrite"]) == 0
    assert "is finished" not in capsys.readouterr().out
    assert call(other) == 0
    assert "is finished" in capsys.readouterr().out


def test_a_store_root_that_is_a_file_is_named(corpus, tmp_path, capsys):
    (tmp_path / "file").touch()
    fails(command(corpus, f"--store_root {tmp_path / 'file'}"), capsys, tmp_path / "file", "--store_root")


# How a command ends


def test_help_works(capsys):
    assert call(["--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {PROG}")
    for flag in (*PUBLISHED, "seed", "device", "data_dir", "fds_variant", "metrics_json", "overwrite"):
        assert f"--{flag}" in told
    assert "(default: 0.0001)" in told


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.tsv, line 3: is empty"), 2, "p: error: a.tsv, line 3: is empty\n"),
        (RunFailed("the loss is nan at step 7"), 1, "p: error: the loss is nan at step 7\n"),
        (KeyboardInterrupt(), 130, "p: stopped; nothing is lost, the same command goes on\n"),
    ],
)
def test_exit_codes(capsys, error, code, line):
    def command():
        raise error

    assert cli.run_command("p", command) == code
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run_command("p", lambda: 1 // 0)
    assert cli.run_command("p", lambda: 0) == 0


@pytest.mark.parametrize(
    ("kind", "low", "high", "text", "value"),
    [
        (int, 0, math.inf, "3", 3),
        (float, 0, 1, "1", 1.0),
        (float, 0, 1, "1e-3", 1e-3),
        (int, -5, 5, "-5", -5),
    ],
)
def test_numbers_within_their_limits(kind, low, high, text, value):
    parsed = number(kind, low, high)(text)
    assert (parsed, type(parsed)) == (value, kind)


# What is printed


@contextlib.contextmanager
def logged():
    start_logging(None)
    yield logging.getLogger("dir")
    stop_logging()


def test_on_a_pipe_progress_is_log_lines_without_bars(capsys):
    with logged(), Progress(200, "pair", "training", start=50, every=0) as progress:
        progress.advance(50, "loss 0.5000")
        progress.advance(100)
    out, err = capsys.readouterr()
    assert err == ""
    assert "\r" not in out
    first, second = out.splitlines()
    assert first.startswith("training: 100/200 (50 %), ")
    assert first.endswith(" pair/s  loss 0.5000")
    assert second.startswith("training: 200/200 (100 %), ")
    assert second.endswith("loss 0.5000")


def test_on_a_pipe_lines_come_every_so_often_only(capsys):
    with logged(), Progress(200, "pair", "training", every=60) as progress:
        for _ in range(100):
            progress.advance(2)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_and_lines_stay_whole(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with logged() as log, Progress(200, "pair", "training") as progress:
        progress.bar.mininterval = 0
        progress.advance(50, "loss 0.5000")
        log.info("a line of the log")
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a line of the log"]
    assert "\r" in err
    assert "training:  25%" in err and "50/200" in err and "loss 0.5000" in err


def test_a_run_on_a_pipe_tells_its_checks(corpus, capsys):
    assert call(command(corpus, "--max_vals 2")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\r" not in out
    assert [line for line in out.splitlines() if line.startswith("Step ")] == [
        line for line in out.splitlines() if "training loss" in line and "validation MSE" in line
    ]
    assert out.count("\nStep ") == 2
    assert logging.getLogger("dir").handlers == []


def test_the_table_says_which_way_is_better_and_dashes_what_is_empty():
    row = {"n": 1234, "mse": 0.98765, "pearson": 0.5}
    text = shot_text({"all": row, "many": {"n": 0, "mse": None, "pearson": None}}, ("mse", "pearson"))
    assert [line.split() for line in text.splitlines()] == [
        ["All", "Many"], ["n", "1,234", "0"], ["MSE", "↓", "0.988", "–"], ["Pearson", "↑", "0.500", "–"],
    ]  # fmt: skip
    assert len({len(line) for line in text.splitlines()}) == 1


def test_a_reader_that_leaves_is_no_error():
    """As `| head` does; in a process of its own, because it loses its standard output."""
    code = (
        "from common import cli\n"
        "def flood():\n    while True:\n        print('x' * 1000)\n"
        "raise SystemExit(cli.run_command('p', flood))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 141
