"""Run directories of the version before settings were values (0.1): they load, are evaluated and go on."""

import os
import signal

import pytest
import sts_corpus
import tiny_depth
import tiny_faces
import torch
from runs import in_child, killed_at, read, same

from common.files import write_json
from common.training import engine

COMMON = {
    "batch_size": 16, "fds": True, "fds_kernel": "gaussian", "fds_ks": 5, "fds_mmt": 0.9, "fds_sigma": 2.0,
    "fds_variant": "paper", "huber_beta": 1.0, "lds": True, "lds_kernel": "gaussian", "lds_ks": 5,
    "lds_sigma": 2.0, "lr": 0.001, "max_grad_norm": 0.0, "max_vals": 2, "momentum": 0.9, "neighbours": None,
    "optimizer": "adam", "patience": 0, "pretrained": "", "resample": None, "retrain_fc": False,
    "schedule": [], "seed": 0, "start_smooth": 1, "start_update": 0, "val_interval": 0, "weight_decay": 1e-4,
}  # fmt: skip
AGE = COMMON | {
    "bad_images": "error", "bin_width": None, "bucket_num": None, "bucket_start": None, "dataset": "agedb",
    "epoch": 2, "few_below": 2.0, "img_size": 16, "label_max": None, "label_min": None, "loss": "l1",
    "many_above": 3.0, "model": "resnet_tiny", "name": "agedb", "padding": 16, "published_start": 3,
    "reweight": "sqrt_inv", "schedule": [60, 80], "store_name": "", "target": "age",
}  # fmt: skip
STS = COMMON | {
    "bucket_num": 50, "bucket_start": 0, "d_hid": 6, "d_word": 8, "dropout": 0.2, "dropout_embs": 0.2,
    "glove": 1, "huber_beta": 0.3, "loss": "mse", "lr": 0.01, "max_grad_norm": 5.0, "max_seq_len": 40,
    "max_vals": 3, "max_word_v_size": 30000, "momentum": 0.0, "n_layers_enc": 1, "n_layers_highway": 0,
    "patience": 10, "reweight": "inverse", "seed": 111, "store_name": "sts", "suffix": "", "task": "sts-b",
    "train_words": 0, "val_interval": 5, "weight_decay": 1e-5, "word_embs_lowercase": False,
}  # fmt: skip
DEPTH = COMMON | {
    "batch_size": 4, "bucket_num": 100, "bucket_start": 7, "epochs": 2, "img_size": 36, "keep_invalid": False,
    "loss": "mse", "model": "resnet18", "pretrained_encoder": "none", "reweight": "inverse", "select": "test",
    "start_epoch": 0, "store_name": "nyud2", "val_fraction": 0.05,
}  # fmt: skip
RUNS = {  # its data, its command, its args.json, the step at which it is killed
    "agedb": (tiny_faces, tiny_faces.write_faces, "--lds --fds", AGE, 8),
    "sts-b": (sts_corpus, sts_corpus.write_corpus, "--lds --fds --max_vals 3", STS, 8),
    "nyud2": (tiny_depth, tiny_depth.tiny_nyud2, "--lds --fds", DEPTH, 5),
}


def make_old(path, module, data, saved):
    """Give a run directory the args.json that the old version wrote for it."""
    where = {"data_dir": str(data)}
    if module is sts_corpus:
        where["word_embs_file"] = str(data / "glove.txt")
    write_json(path / "args.json", dict(sorted((saved | where).items())))
    return (path / "args.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_goes_on_is_evaluated_and_is_known_to_be_finished(name, tmp_path, monkeypatch, capsys):
    module, write, flags, saved, step = RUNS[name]
    data = write(tmp_path / "data")
    argv = module.command(data, flags)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert module.call(argv) == 0
    whole = module.run_dir(argv).resolve()
    monkeypatch.chdir(tmp_path)
    pid = in_child(lambda: module.call(argv), lambda: killed_at(engine.Run, "step", step))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    path = module.run_dir(argv)
    old = make_old(path, module, data, saved)
    capsys.readouterr()
    assert module.call(argv) == 0
    assert f"Resuming {path / 'ckpt.pth.tar'} at step" in capsys.readouterr().out
    assert (path / "args.json").read_bytes() == old
    assert read(path / "metrics.json")["shots"] == read(whole / "metrics.json")["shots"]
    ends = [torch.load(folder / "ckpt.pth.tar")["state_dict"] for folder in (path, whole)]
    assert same(*ends)
    assert module.call(argv) == 0
    assert "is finished" in capsys.readouterr().out
    assert module.call([*argv, "--evaluate", "--metrics_json", "again.json"]) == 0
    assert read(tmp_path / "again.json")["shots"] == read(path / "metrics.json")["shots"]
    assert module.call([*argv, "--lds_sigma", "2"]) == 0, "a flag at its default makes no other run"


@pytest.mark.parametrize("name", RUNS)
def test_another_configuration_than_an_old_run_is_refused(name, tmp_path, monkeypatch, capsys):
    module, write, flags, saved, _ = RUNS[name]
    data = write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    argv = module.command(data, flags)
    path = module.run_dir(argv)
    path.mkdir(parents=True)
    make_old(path, module, data, saved)
    assert module.call([*argv, "--max_grad_norm", "3"]) == 2
    told = f"another configuration (--max_grad_norm {saved['max_grad_norm']} there, 3.0 here)"
    assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_old_args_json_is_a_configuration(name, tmp_path, monkeypatch, capsys):
    """What it holds beside flags is passed over; the command line says where the run is."""
    module, write, flags, saved, _ = RUNS[name]
    data = write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    make_old(tmp_path, module, data, saved)
    device = ["--device", "cpu"]
    assert module.call(["--config", "args.json", *device]) == 0
    argv = module.command(data, flags)
    assert (module.run_dir(argv) / "metrics.json").exists()
