"""What users trip over in runs (the numbers are those of the list that was made of it)."""

import json
import shutil

import pytest
import sts_corpus
import tiny_depth
import tiny_faces
import torch
from runs import read

from common.report import shot_text
from common.training.load import rounded

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def corpus(folder, seed=0):
    return sts_corpus.write_corpus(folder, seed=seed)


def shuffled_words(folder, into):
    """The same corpus with its training rows in reverse: as many words, at other indices."""
    shutil.copytree(folder, into)
    header, *rows = (into / "train_new.tsv").read_text().splitlines()
    (into / "train_new.tsv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    return into


def last_line(capsys):
    return capsys.readouterr().err


# 1


@pytest.mark.parametrize("flag", ["--evaluate --eval_model", "--pretrained"])
def test_11_1_a_checkpoint_of_another_vocabulary_is_refused(tmp_path, capsys, flag):
    here = corpus(tmp_path / "here")
    there = shuffled_words(here, tmp_path / "there")
    assert sts_corpus.call(sts_corpus.command(here)) == 0
    best = sts_corpus.run_dir(sts_corpus.command(here)) / "ckpt.best.pth.tar"
    capsys.readouterr()
    assert sts_corpus.call(sts_corpus.command(there, f"{flag} {best} --store_name other")) == 2
    error = last_line(capsys)
    assert str(best) in error
    assert "another vocabulary" in error


def test_11_1_a_checkpoint_without_a_vocabulary_is_taken_to_be_of_the_published_split(tmp_path, capsys):
    here = corpus(tmp_path / "here")
    assert sts_corpus.call(sts_corpus.command(here)) == 0
    path = sts_corpus.run_dir(sts_corpus.command(here)) / "ckpt.best.pth.tar"
    content = torch.load(path, weights_only=False)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "released.pth.tar")
    assert (
        sts_corpus.call(sts_corpus.command(here, f"--evaluate --eval_model {tmp_path}/released.pth.tar")) == 0
    )
    assert (
        "does not say its vocabulary: taken to be the one of the published split" in capsys.readouterr().out
    )


# 2


def test_11_2_pairs_with_the_test_split_alone_are_told_what_the_vocabulary_needs(tmp_path, capsys):
    here = corpus(tmp_path / "here")
    for name in ("train_new.tsv", "dev_new.tsv"):
        (here / name).unlink()
    torch.save({"state_dict": {}}, "c.pth.tar")
    capsys.readouterr()
    assert sts_corpus.call(sts_corpus.command(here, "--evaluate --eval_model c.pth.tar")) == 2
    error = last_line(capsys)
    told = "train_new.tsv, dev_new.tsv not in this folder; the vocabulary is that of all three splits, and only a "
    told += "checkpoint of this project keeps it, so evaluating one split needs all of them; "
    assert told + "python scripts/download.py sts-b" in error


def test_11_2_pairs_with_the_test_split_alone_are_evaluated_by_the_checkpoints_words(tmp_path, capsys):
    here = corpus(tmp_path / "here")
    assert sts_corpus.call(sts_corpus.command(here, "--store_root", tmp_path / "runs")) == 0
    (run,) = (tmp_path / "runs").iterdir()
    tables = []
    for names in ((), ("train_new.tsv", "dev_new.tsv")):
        for name in names:
            (here / name).unlink()
        capsys.readouterr()
        flags = f"--evaluate --eval_model {run}/ckpt.best.pth.tar --predictions {tmp_path}/of.csv"
        assert sts_corpus.call(sts_corpus.command(here, flags)) == 0
        tables.append((capsys.readouterr().out.partition("Test of")[2], (tmp_path / "of.csv").read_bytes()))
    assert tables[0] == tables[1]
    assert tables[0][1] == (run / "predictions.csv").read_bytes()
    assert "MSE" in tables[0][0]


# 4


def change_a_label(folder):
    path = folder / "agedb.csv"
    rows = tiny_faces.read_csv(path)
    rows[0]["age"] = str(int(float(rows[0]["age"])) + 1)
    tiny_faces.write_csv(path, rows)


@pytest.mark.parametrize("finished", [True, False])
def test_11_4_changed_data_are_noticed(tmp_path, capsys, finished):
    data = tiny_faces.write_faces(tmp_path / "faces")
    command = tiny_faces.command(data)
    assert tiny_faces.call(command) == 0
    path = tiny_faces.run_dir(command)
    if not finished:
        (path / "metrics.json").unlink()
    change_a_label(data)
    capsys.readouterr()
    assert tiny_faces.call(command) == 2
    error = last_line(capsys)
    assert f"{path}: the data have changed since this run began" in error
    assert "--overwrite" in error
    assert tiny_faces.call([*command, "--overwrite"]) == 0


# 5


def test_11_5_where_the_data_lie_is_not_what_a_run_is(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data)) == 0
    data.rename(tmp_path / "moved")
    assert tiny_faces.call(tiny_faces.command(tmp_path / "moved")) == 0
    assert "is finished" in capsys.readouterr().out


def ends_like_a_whole_run(module, data, short, long):
    """A run that grew from `short` to `long` has the weights of one that was `long` from the start."""
    grown, whole = (
        module.command(data, flags, "--store_root", root) for flags, root in (("", "a"), ("", "b"))
    )
    assert module.call([*grown, *short]) == 0
    assert module.call([*grown, *long]) == 0
    assert module.call([*whole, *long]) == 0
    ends = [
        torch.load(module.run_dir([*c, *long]) / "ckpt.pth.tar", weights_only=False) for c in (grown, whole)
    ]
    for key, value in ends[1]["state_dict"].items():
        assert torch.equal(ends[0]["state_dict"][key], value), key
    assert ends[0]["epoch"] == ends[1]["epoch"]
    results = [read(module.run_dir([*c, *long]) / "metrics.json")["shots"] for c in (grown, whole)]
    assert results[0] == results[1]


def test_11_5_an_age_run_grows(tmp_path):
    data = tiny_faces.write_faces(tmp_path / "faces")
    ends_like_a_whole_run(tiny_faces, data, ["--lds", "--fds"], ["--lds", "--fds", "--epoch", "3"])


def test_11_5_a_text_run_grows(tmp_path):
    ends_like_a_whole_run(sts_corpus, corpus(tmp_path / "s"), ["--max_vals", "2"], ["--max_vals", "3"])


def test_11_5_a_depth_run_grows_under_its_own_schedule(tmp_path):
    data = tiny_depth.tiny_nyud2(tmp_path / "n", train=4, test=2)
    ends_like_a_whole_run(
        tiny_depth, data, ["--epochs", "5"], ["--epochs", "6"]
    )  # whose default schedule has a 5


def test_11_5_a_run_does_not_shrink(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data)) == 0
    capsys.readouterr()
    assert tiny_faces.call(tiny_faces.command(data, "--epoch 1")) == 2
    assert "--epoch 2 there, 1 here" in last_line(capsys)


@pytest.mark.parametrize("flags", ["--lds_ks 9", "--huber_beta 2", "--fds_mmt 0.5", "--momentum 0.5"])
def test_11_5_a_flag_without_effect_makes_no_other_run_and_is_warned_about(tmp_path, capsys, flags):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data, "--epoch 1")) == 0
    assert tiny_faces.call(tiny_faces.command(data, "--epoch 2", flags)) == 0
    out = capsys.readouterr().out
    assert f"{flags.split()[0]} has no effect with these flags" in out
    assert len(list((tmp_path / "checkpoint").iterdir())) == 1


def test_11_5_another_configuration_names_flags_of_this_script_and_the_way_to_continue(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data)) == 0
    capsys.readouterr()
    assert tiny_faces.call(tiny_faces.command(data, "--padding 3")) == 2
    error = last_line(capsys)
    path = tiny_faces.run_dir(tiny_faces.command(data))
    assert "--padding 16 there, 3 here" in error
    assert f"--config {path / 'args.json'}" in error
    # And that is the way.
    assert tiny_faces.call(["--config", str(path / "args.json"), "--device", "cpu"]) == 0


# 14


def test_11_14_workers_0_and_the_names_of_the_length_work(tmp_path):
    data = tiny_faces.write_faces(tmp_path / "faces")
    words = " ".join(tiny_faces.command(data)).replace("--epoch 2 ", "").split()
    assert tiny_faces.call([*words, "--epochs", "1", "--workers", "0", "--cache", "off", "--wd", "0"]) == 0
    assert tiny_faces.call([*words, "--epoch", "1", "--workers", "0", "--weight-decay", "0"]) == 0
    (path,) = (tmp_path / "checkpoint").iterdir()
    assert json.loads((path / "args.json").read_text())["epoch"] == 1


@pytest.mark.parametrize("module", [tiny_faces, sts_corpus])
def test_11_14_resume_is_understood_with_and_without_a_path(tmp_path, capsys, module):
    data = tiny_faces.write_faces(tmp_path / "d") if module is tiny_faces else corpus(tmp_path / "d")
    command = module.command(data)
    assert module.call([*command, "--resume"]) == 2
    assert "there is no such run to --resume" in last_line(capsys)
    assert module.call(command) == 0
    assert module.call([*command, "--resume"]) == 0
    best = module.run_dir(command) / "ckpt.best.pth.tar"
    assert module.call([*command, "--evaluate", "--resume", str(best)]) == 0


def test_11_14_overwriting_the_checkpoint_to_resume_from_is_told(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    command = tiny_faces.command(data)
    assert tiny_faces.call(command) == 0
    last = tiny_faces.run_dir(command) / "ckpt.pth.tar"
    capsys.readouterr()
    assert tiny_faces.call([*command, "--overwrite", "--resume", str(last)]) == 2
    assert "--overwrite would replace the run that --resume names" in last_line(capsys)
    assert last.exists()


# 15


@pytest.mark.parametrize("flag", ["--momentum 1.5", "--store_name a/b"])
def test_11_15_values_that_cannot_be_are_refused(tmp_path, capsys, flag):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data, flag)) == 2
    assert flag.split()[0] in last_line(capsys)
    assert not (tmp_path / "checkpoint").exists()


def test_11_15_a_suffix_with_a_slash_is_refused(tmp_path, capsys):
    assert sts_corpus.call(sts_corpus.command(corpus(tmp_path / "s"), "--suffix ../x")) == 2
    assert "--suffix" in last_line(capsys)


def test_11_15_an_unwritable_metrics_json_is_refused_at_the_start(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    (tmp_path / "file").write_text("")
    assert tiny_faces.call(tiny_faces.command(data, f"--metrics_json {tmp_path}/file/m.json")) == 2
    assert f"--metrics_json {tmp_path}/file/m.json: cannot be written" in last_line(capsys)
    assert not (tmp_path / "checkpoint").exists()


# 17


def test_11_17_a_damaged_args_json_is_called_damaged(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    command = tiny_faces.command(data)
    assert tiny_faces.call(command) == 0
    (tiny_faces.run_dir(command) / "args.json").write_text('{"lr": ')
    capsys.readouterr()
    assert tiny_faces.call(command) == 2
    assert "args.json: is damaged" in last_line(capsys)


def test_11_17_a_damaged_history_is_one_line(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    assert tiny_faces.call(tiny_faces.command(data, "--epoch 1")) == 0
    path = tiny_faces.run_dir(tiny_faces.command(data))
    (path / "metrics.jsonl").write_text("garbage\n")
    capsys.readouterr()
    assert tiny_faces.call(tiny_faces.command(data)) == 2
    assert "metrics.jsonl, line 1: is damaged" in last_line(capsys)


def test_11_17_a_checkpoint_that_lacks_its_best_one_is_one_line(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    command = tiny_faces.command(data)
    assert tiny_faces.call(command) == 0
    path = tiny_faces.run_dir(command)
    (path / "ckpt.best.pth.tar").unlink()
    (path / "metrics.json").unlink()
    capsys.readouterr()
    assert tiny_faces.call(command) == 2
    assert "ckpt.best.pth.tar" in last_line(capsys)


def test_11_17_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces")
    command = tiny_faces.command(data)
    assert tiny_faces.call(command) == 0
    best = tiny_faces.run_dir(command) / "ckpt.best.pth.tar"
    content = bytearray(best.read_bytes())
    place = content.find(
        torch.load(best, weights_only=False)["state_dict"]["module.conv1.weight"].numpy().tobytes()
    )
    content[place + 100] ^= 4
    best.write_bytes(bytes(content))
    capsys.readouterr()
    assert tiny_faces.call([*command, "--evaluate"]) == 2
    assert f"{best}: is damaged" in last_line(capsys)


# 16


def test_11_16_own_data_are_logged_under_their_own_name(tmp_path, capsys):
    data = tiny_faces.write_faces(tmp_path / "faces", name="apples")
    assert tiny_faces.call(tiny_faces.command(data, "--dataset apples --epoch 1")) == 0
    out = capsys.readouterr().out
    assert "apples: 80 training, 24 validation, 24 test" in out
    assert "agedb:" not in out


def test_11_16_a_depth_run_counts_epochs_as_the_others_do(tmp_path, capsys):
    data = tiny_depth.tiny_nyud2(tmp_path / "n", train=4, test=2)
    assert tiny_depth.call(tiny_depth.command(data, "--epochs 2")) == 0
    out = capsys.readouterr().out
    best = [line for line in out.splitlines() if "the best so far" in line][-1]
    epoch = int(float(best.split("(epoch ")[1].split(")")[0]))
    assert f"ckpt.best.pth.tar (epoch {epoch})" in out
    path = tiny_depth.run_dir(tiny_depth.command(data, "--epochs 2"))
    assert torch.load(path / "ckpt.best.pth.tar", weights_only=False)["epoch"] == epoch - 1  # as published


@pytest.mark.parametrize(
    ("bound", "text"), [(12823.54798, "12,824"), (100, "100"), (2.6e7, "26,000,000"), (4.5, "4.5")]
)
def test_11_16_thresholds_are_rounded(bound, text):
    assert rounded(bound) == text


def test_11_16_columns_of_any_size_keep_a_space_between():
    shots = {group: {"n": 10**11, "mae": 123456789.123} for group in ("all", "many", "medium", "few")}
    for line in shot_text(shots, ("mae",)).splitlines()[1:]:
        assert len(line.split()) >= 5
