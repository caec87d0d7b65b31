"""Checkpoints: whole or not at all on the disk, nothing executed on reading, every key accounted for."""

import errno
import io
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import toy
from torch import nn

from common.errors import RunFailed, UserError
from common.method import choose_methods
from common.training import checkpoint
from common.training.checkpoint import load, load_published, renamed, save, state_of
from common.training.regressor import Regressor, load_model

KEYS = (("encoder.", "net."), ("head.", "net.linear."))
FDS_KEYS = (("methods.smoothing.statistics.", "FDS."), *KEYS)
CONTENT = {
    "dataset": "toy",
    "epoch": 3,
    "state_dict": {"w": torch.arange(5000.0)},
    "state": {"history": [1.5]},
}


def refused(path, *parts):
    """The one line that reading `path` ends with: it names the file and holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    return message


# Reading


class Payload:
    """What a hostile checkpoint holds: unpickling it runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_is_refused_and_not_run(tmp_path, zipped):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth.tar"
    torch.save(
        {"state_dict": {"w": torch.zeros(1)}, "x": Payload(marker)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    refused(path, "refused", "more than tensors and plain data (it names posix.system)")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have run


def test_a_bare_pickle_with_a_payload_is_refused_and_not_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    refused(path, "refused")
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_anywhere_is_one_line(tmp_path, zipped):
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer, _use_new_zipfile_serialization=zipped)
    whole, path = buffer.getvalue(), tmp_path / "cut.pth.tar"
    lengths = {0, 1, 2, 3, 10, 100, 200, 500, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole)
    assert torch.equal(load(path)["state_dict"]["w"], CONTENT["state_dict"]["w"])


def test_a_file_cut_short_says_so(tmp_path):
    path = tmp_path / "cut.pth.tar"
    torch.save(CONTENT, path)
    path.write_bytes(path.read_bytes()[:9000])
    refused(path, "cannot be read as a checkpoint", "cut short or damaged")
    path.write_bytes(b"")
    refused(path, "cannot be read as a checkpoint", "cut short or damaged")


def test_flipped_bytes_are_one_line_or_another_value_but_no_crash(tmp_path):
    path, rng = tmp_path / "flipped.pth.tar", torch.Generator().manual_seed(0)
    torch.save({"state_dict": {"w": torch.zeros(3)}}, path)
    whole = path.read_bytes()
    refusals = 0
    for position in torch.randint(len(whole), (150,), generator=rng).tolist():
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            load(path)
        except UserError as error:
            assert str(path) in str(error)
            refusals += 1
    assert refusals


@pytest.mark.parametrize(
    "text",
    ["hello, I am a text file\n", "step,loss\n1,2\n", "{}", "\n\n", "<!DOCTYPE html>\n<html>404</html>"],
)
def test_a_text_file_is_no_checkpoint(tmp_path, text):
    path = tmp_path / "note.txt"
    path.write_text(text)
    refused(path, "checkpoint")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    refused(tmp_path / "none.pth.tar", "there is no such checkpoint")
    refused(tmp_path, "there is no such checkpoint")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), "text", 5])
def test_what_is_no_dict_is_named_by_its_type(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", f"holds a {type(content).__name__}, not a checkpoint")


@pytest.mark.parametrize("content", [{"epoch": 3}, {"state_dict": 5}, {"state_dict": {"w": "text"}}])
def test_a_dict_without_a_model_is_named(content):
    with pytest.raises(UserError, match='run/a.pth: holds no model: neither a "state_dict" nor a bare one'):
        state_of(content, "run/a.pth")


def test_a_bare_state_dict_is_the_model():
    assert list(state_of({"w": torch.zeros(2)}, "a.pth")) == ["w"]
    assert list(state_of({"epoch": 1, "state_dict": {"w": torch.zeros(2)}}, "a.pth")) == ["w"]


# Writing


def test_what_is_written_is_read(tmp_path):
    last, best = tmp_path / "ckpt.pth.tar", tmp_path / "ckpt.best.pth.tar"
    save(last, CONTENT, also=best)
    assert last.read_bytes() == best.read_bytes()
    assert load(last)["state"] == {"history": [1.5]}
    save(last, CONTENT | {"epoch": 4})
    assert (load(last)["epoch"], load(best)["epoch"]) == (4, 3)  # not one file any more
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt.best.pth.tar", "ckpt.pth.tar"]


def test_without_hard_links_the_best_is_a_copy(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    save(tmp_path / "last", CONTENT, also=tmp_path / "best")
    assert (tmp_path / "last").read_bytes() == (tmp_path / "best").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best", "last"]


def full(content, file):
    file.write(b"some bytes of a checkpoint")
    raise OSError(errno.ENOSPC, "No space left on device")


def short_write(content, file):
    file.write(b"some bytes")
    raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0")


@pytest.mark.parametrize("fault", [full, short_write])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, fault):
    last, best = tmp_path / "ckpt.pth.tar", tmp_path / "ckpt.best.pth.tar"
    save(last, CONTENT, also=best)
    before = [last.read_bytes(), best.read_bytes()]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fault)
        with pytest.raises(RunFailed) as caught:
            save(last, CONTENT | {"epoch": 9}, also=best)
    for told in (str(last), "could not be written", "free some disk", "same command again"):
        assert told in str(caught.value)
    if fault is full:
        assert "No space left on device" in str(caught.value)
    assert [last.read_bytes(), best.read_bytes()] == before
    assert load(last)["epoch"] == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt.best.pth.tar", "ckpt.pth.tar"]


@pytest.mark.parametrize("fault", ["fsync", "replace", "copy"])
def test_a_late_fault_leaves_no_temporary_file(tmp_path, monkeypatch, fault):
    last, best = tmp_path / "ckpt.pth.tar", tmp_path / "ckpt.best.pth.tar"
    save(last, CONTENT, also=best)

    def fails(*args):
        if fault == "copy":
            Path(args[1]).write_bytes(b"half")
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        if fault == "copy":
            patch.setattr(os, "link", fails)
            patch.setattr(shutil, "copyfile", fails)
        else:
            patch.setattr(*((os, "fsync") if fault == "fsync" else (Path, "replace")), fails)
        with pytest.raises(RunFailed, match="Input/output error"):
            save(last, CONTENT | {"epoch": 9}, also=best)
    assert (load(last)["epoch"], load(best)["epoch"]) == (3, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt.best.pth.tar", "ckpt.pth.tar"]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_leaves_the_old_checkpoint(small_disk):
    last = small_disk / "ckpt.pth.tar"
    save(last, CONTENT)
    with pytest.raises(RunFailed, match="could not be written.*free some disk"):
        save(last, CONTENT | {"more": torch.zeros(100_000)})
    assert load(last)["epoch"] == 3
    assert [file.name for file in small_disk.iterdir()] == ["ckpt.pth.tar"]


# Keys


class Encoder(nn.Module):
    feature_dim = 4

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)


def regressor(*, fds=False):
    settings = toy.settings_of("runs", "--fds --fds_ks 3" if fds else "")
    methods = choose_methods(toy.TASK, settings)
    for method in methods:
        method.build(4, toy.load())
    return Regressor(Encoder(), nn.Linear(4, 1), methods)


def statistics(model):
    return model.methods["smoothing"].statistics


def published(model):
    return renamed(model.state_dict(), FDS_KEYS)


def test_keys_are_the_published_ones_and_back():
    model, other = regressor(), regressor()
    state = published(model)
    assert set(state) == {"net.body.weight", "net.body.bias", "net.linear.weight", "net.linear.bias"}
    load_published(other, state, KEYS, "a.pth")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("here", [False, True])
def test_fds_may_be_there_or_not(there, here):
    model, other = regressor(fds=there), regressor(fds=here)
    if there:
        statistics(model).running_mean.fill_(7)
    load_published(other, published(model), FDS_KEYS, "a.pth")
    assert torch.equal(other.head.weight, model.head.weight)
    if here:
        assert (statistics(other).running_mean == (7 if there else 0)).all()


def test_missing_keys_are_named():
    state = published(regressor())
    del state["net.body.bias"]
    with pytest.raises(UserError) as caught:
        load_published(regressor(), state, KEYS, "a.pth", hint="; the hint")
    assert str(caught.value) == "a.pth: lacks net.body.bias: not a checkpoint of this model; the hint"


def test_extra_keys_are_named_three_and_a_count():
    state = published(regressor()) | {f"net.fc{i}.weight": torch.zeros(1) for i in range(5)}
    with pytest.raises(UserError) as caught:
        load_published(regressor(), state, KEYS, "a.pth")
    told = "holds the unknown net.fc0.weight, net.fc1.weight, net.fc2.weight and 2 more"
    assert str(caught.value) == f"a.pth: {told}: not a checkpoint of this model"


def test_another_shape_is_named_and_nothing_is_loaded():
    model = regressor()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = published(regressor()) | {"net.linear.weight": torch.zeros(1, 9)}
    with pytest.raises(UserError, match=r"a.pth: .*weight has shape \(1, 9\), this model's has \(1, 4\)"):
        load_published(model, state, KEYS, "a.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_part_that_is_not_taken_may_be_missing_as_a_whole_and_not_in_half():
    state = published(regressor())
    del state["net.linear.bias"]
    with pytest.raises(UserError, match="^a.pth: lacks net.linear.bias"):
        load_published(regressor(), state, KEYS, "a.pth", only=("encoder.",))
    del state["net.linear.weight"]
    load_published(regressor(), state, KEYS, "a.pth", only=("encoder.",))


def test_one_part_leaves_the_others_as_they_are():
    model, other = regressor(fds=True), regressor(fds=True)
    statistics(model).running_mean.fill_(7)
    head = other.head.weight.clone()
    load_published(other, published(model), FDS_KEYS, "a.pth", only=("encoder.",))
    assert torch.equal(other.encoder.body.weight, model.encoder.body.weight)
    assert torch.equal(other.head.weight, head)
    assert not torch.equal(head, model.head.weight)
    assert not statistics(other).running_mean.any()


def test_a_checkpoint_of_another_data_set_is_named():
    content = {"dataset": "sts-b", "state_dict": published(regressor())}
    with pytest.raises(UserError, match="^a.pth: is a checkpoint of sts-b, not of toy"):
        load_model(regressor(), content, toy.TASK, "a.pth")
    load_model(regressor(), content | {"dataset": "toy"}, toy.TASK, "a.pth")
    del content["dataset"]  # as in published checkpoints
    load_model(regressor(), content, toy.TASK, "a.pth")


def test_random_states_come_back():
    state = checkpoint.random_state()
    drawn = torch.rand(5)
    checkpoint.set_random_state(state)
    assert torch.equal(torch.rand(5), drawn)
