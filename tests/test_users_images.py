"""What users trip over with images and labels (the numbers are those of the list that was made of it)."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import sts_corpus
import tiny_faces
import torch
from golden_counts import agedb_train_counts
from runs import read

from common.bins import Bins, round_width
from common.datasets.faces import MAX_BINS, label_bins, read_train_labels
from common.errors import UserError
from common.fds import FDS
from common.images.task import ImageFlags, load_images
from common.methods.smoothing import MAX_VALUES
from common.task import load_task
from common.training.command import settings_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return tiny_faces.write_faces(tmp_path_factory.mktemp("faces") / "data")


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """The best checkpoint of a run, its test metrics and its predictions."""
    path = tiny_faces.trained_in(tmp_path_factory.mktemp("run"), tiny_faces.command(faces, "--epoch 1 --fds"))
    return path / "ckpt.best.pth.tar", read(path / "metrics.json")["shots"], path / "predictions.csv"


def rows_of(data, *splits):
    return [row for row in tiny_faces.read_csv(data / "agedb.csv") if row["split"] in splits]


def without_images(faces, into, *splits):
    """The same folder without a cache and without the images of these splits."""
    shutil.copytree(faces, into, ignore=shutil.ignore_patterns(".cache"))
    for row in rows_of(faces, *splits):
        (into / row["path"]).unlink()
    return into


def evaluate(data, trained, *flags):
    """The exit code, and the shots of `--metrics_json`."""
    argv = tiny_faces.command(
        data, "--fds --evaluate --eval_model", trained[0], "--metrics_json m.json", *flags
    )
    code = tiny_faces.call(argv)
    return code, read(tiny_faces.Path("m.json"))["shots"] if code == 0 else None


def refused(capsys, argv, *told):
    """The command ends with exit code 2 and one line that holds each of these words."""
    capsys.readouterr()
    assert tiny_faces.call(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for words in told:
        assert str(words) in error


# 2


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["auto", "off"])
def test_11_2_evaluating_needs_the_test_images_alone(faces, trained, tmp_path, cache):
    data = without_images(faces, tmp_path / "data", "train", "val")
    assert evaluate(data, trained, "--cache", cache) == (0, trained[1])
    if cache == "auto":
        (array,) = (data / ".cache").glob("*.npy")
        assert len(np.load(array, mmap_mode="r")) == 24, "test images alone are cached"


@pytest.mark.slow
def test_11_2_shots_come_from_the_labels_of_the_csv_whatever_training_images_are_there(
    faces, trained, tmp_path
):
    data = without_images(faces, tmp_path / "data")
    for number, row in enumerate(rows_of(faces, "train")[:60]):
        path = data / row["path"]
        path.unlink()
        if number % 2:
            path.write_bytes(b"no image")
    assert evaluate(data, trained, "--bad_images skip") == (0, trained[1])
    assert evaluate(data, trained) == (0, trained[1])


@pytest.mark.slow
def test_11_2_a_run_that_skips_bad_images_is_evaluated_to_its_own_table(faces, tmp_path):
    data = without_images(faces, tmp_path / "data")
    for row in rows_of(faces, "train")[:30]:
        (data / row["path"]).unlink()
    command = tiny_faces.command(data, "--epoch 1 --bad_images skip")
    assert tiny_faces.call(command) == 0
    assert tiny_faces.call([*command, "--evaluate", "--metrics_json", "m.json"]) == 0
    path = tiny_faces.run_dir(command)
    assert read(tiny_faces.Path("m.json"))["shots"] == read(path / "metrics.json")["shots"]


def test_11_2_a_missing_test_image_is_named(faces, tmp_path, capsys):
    data = without_images(faces, tmp_path / "data", "train", "val")
    gone = rows_of(faces, "test")[3]["path"]
    (data / gone).unlink()
    torch.save({"state_dict": {}}, "c.pth.tar")
    argv = tiny_faces.command(data, "--evaluate --eval_model c.pth.tar")
    refused(capsys, argv, f"1 of 24 images cannot be used: {gone} is missing")
    shutil.rmtree(data / "faces")
    refused(capsys, argv, "holds none of the 24 images of agedb.csv (test)")
    argv = tiny_faces.command(data, "")
    refused(capsys, argv, "holds none of the 128 images of agedb.csv, such as")


def load(data, *flags, published=None):
    settings = settings_of(load_task("agedb"), "", " ", tiny_faces.command(data, "--evaluate", *flags))
    return load_images(settings, "", 3, published)


def only_test_rows(faces, into):
    """The folder with test rows only."""
    data = without_images(faces, into, "train", "val")
    tiny_faces.write_csv(data / "agedb.csv", rows_of(faces, "test"))
    return data


@pytest.mark.slow
def test_11_2_agedb_with_test_rows_only_takes_the_published_counts(faces, trained, tmp_path, capsys):
    data = only_test_rows(faces, tmp_path / "data")
    code, shots = evaluate(data, trained)
    assert code == 0
    assert "the shots follow the labels of the published split" in capsys.readouterr().out
    counts = np.append(agedb_train_counts(), np.zeros(200, int))
    own = counts[[int(float(row["age"])) for row in rows_of(faces, "test")]]
    assert [shots[shot]["n"] for shot in ("all", "many", "few")] == [24, (own > 3).sum(), (own < 2).sum()]


def test_11_2_the_published_counts_are_those_of_the_published_split():
    load_task("agedb")  # which puts its folder on the path
    import agedb_task

    found = agedb_task.published_labels()
    assert len(found) == 12_208
    np.testing.assert_array_equal(Bins.integers(0, 120).counts(found), agedb_train_counts())


@pytest.mark.parametrize("why", ["another data set", "a stand-in", "another column"])
def test_11_2_other_data_need_train_labels(faces, tmp_path, capsys, why):
    data = only_test_rows(faces, tmp_path / "data")
    flags, folder = "", "agedb-dir"
    if why == "another data set":
        (data / "agedb.csv").rename(data / "imdb_wiki.csv")
        folder = "imdb-wiki-dir"
    elif why == "a stand-in":
        told = {"dataset": "agedb", "scale": 0.1, "seed": 0, "note": "x", "many_above": 10, "few_below": 2}
        (data / "standin.json").write_text(json.dumps(told))
    else:
        rows = [{"score": row.pop("age"), **row} for row in tiny_faces.read_csv(data / "agedb.csv")]
        tiny_faces.write_csv(data / "agedb.csv", rows)
        flags = "--target score"
    torch.save({"state_dict": {}}, "c.pth.tar")
    argv = tiny_faces.command(data, "--evaluate --eval_model c.pth.tar", flags)
    capsys.readouterr()
    assert tiny_faces.call(argv, folder) == 2
    error = capsys.readouterr().err
    assert "has no training rows" in error
    assert "--train_labels FILE" in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a label a line", "a column", "the whole CSV"])
def test_11_2_train_labels_give_the_shots(faces, trained, tmp_path, kind):
    data = only_test_rows(faces, tmp_path / "data")
    ages = [row["age"] for row in rows_of(faces, "train")]
    file = tmp_path / "labels"
    if kind == "a label a line":
        file.write_text("\n".join(ages) + "\n")
    elif kind == "a column":
        tiny_faces.write_csv(file, [{"name": "x", "age": age} for age in ages])
    else:
        shutil.copy(faces / "agedb.csv", file)
    assert evaluate(data, trained, "--train_labels", file) == (0, trained[1])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("31\nx\n", r"age is not a number \(line 2: 'x'\)"),
        ("31\n\n500\n", r"age is outside 0 to 200 \(line 3: '500'\)"),
        ("score\n31\n", r"age is not a number \(line 1: 'score'\)"),
        ("a,b\n1,2\n", "has no column age; its columns are a, b"),
        ("age,split\n31,test\n", "holds no training label"),
        ("", "has no column age"),
        (None, "there is no such file; --train_labels names"),
    ],
)
def test_11_2_defects_of_train_labels_are_named(tmp_path, content, told):
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=told) as caught:
        read_train_labels(file)
    assert str(file) in str(caught.value)


def test_11_2_bins_and_buckets_follow_the_training_labels(faces, tmp_path):
    data, file = only_test_rows(faces, tmp_path / "data"), tmp_path / "labels"
    file.write_text("0.5\n7.25\n90\n")
    found = load(data, f"--train_labels {file}")
    assert found.bins == Bins.uniform(0, 90, 90)
    assert found.buckets == (0, 90)
    np.testing.assert_array_equal(np.flatnonzero(found.shots.counts), [0, 7, 89])


@pytest.mark.slow
def test_11_2_train_labels_without_evaluate_are_warned_about(faces, tmp_path, capsys):
    argv = tiny_faces.command(faces, f"--epoch 1 --train_labels {tmp_path / 'x'}")
    assert tiny_faces.call(argv) == 0
    assert "--train_labels has no effect without --evaluate" in capsys.readouterr().out
    assert "train_labels" not in read(tiny_faces.run_dir(argv) / "args.json")


# 3


@pytest.mark.parametrize("last", [MAX_BINS, 10**6, 3 * 10**9])
def test_11_3_the_limit_on_bins_holds_for_whole_labels_and_names_a_width_that_fits(last):
    labels = np.array([0, 5, last], np.float32)
    with pytest.raises(UserError, match="1 to 100,000 bins .*; --bin_width") as caught:
        label_bins(labels, label_max=last)
    width = float(str(caught.value).split("--bin_width ")[-1].split(" ")[0])
    assert MAX_BINS / 6 < label_bins(labels, width, label_max=last).num <= MAX_BINS
    assert label_bins(labels[:2], label_max=MAX_BINS - 1).num == MAX_BINS


@pytest.mark.parametrize("span", [1, 99, 100, 101, 1000, 12_345.6, 1e9])
def test_11_3_a_round_width_makes_at_most_so_many_bins(span):
    width = round_width(span, 100)
    assert span / width <= 100
    assert width == 1 or span / width > 100 / 2.6


def wide_labels(folder, last):
    """Few images with whole labels up to a large one."""
    labels = np.random.default_rng(0).integers(0, last, sum(tiny_faces.SIZES.values()))
    labels[0] = last
    return tiny_faces.write_faces(folder, labels=labels)


@pytest.mark.parametrize("flags", ["", "--lds", "--fds"])
def test_11_3_large_whole_labels_are_refused_before_they_exhaust_memory(tmp_path, capsys, flags):
    data = wide_labels(tmp_path / "data", 10**6)
    refused(capsys, tiny_faces.command(data, "--label_max 1000000", flags), "--bin_width 20 does")


def test_11_3_fds_of_many_buckets_names_flags_with_values_that_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("common.methods.smoothing.MAX_VALUES", 64 * 500)
    data = wide_labels(tmp_path / "data", 10**4)
    told = "--fds: 10,001 buckets of 64 features do not fit into memory (at most 500 do)"
    refused(
        capsys,
        tiny_faces.command(data, "--label_max 10000 --fds"),
        told, "--bin_width 50, or --bucket_num 500",
    )  # fmt: skip
    for way_out in ("--bin_width 50", "--bucket_num 500"):
        argv = tiny_faces.command(data, f"--label_max 10000 --fds --epoch 1 {way_out} --overwrite")
        assert tiny_faces.call(argv) == 0


def test_11_3_the_message_names_no_flag_that_the_data_set_lacks(tmp_path, capsys):
    data = sts_corpus.write_corpus(tmp_path / "s")
    argv = sts_corpus.command(data, "--fds --bucket_num 1000000")
    assert sts_corpus.call(argv) == 2
    error = capsys.readouterr().err
    assert f"choose --bucket_num {MAX_VALUES // 48}" in error
    assert "--bin_width" not in error


def test_11_3_statistics_within_the_limit_take_less_than_a_gigabyte():
    statistics = FDS(2, 1000, 0, 0, 1, "gaussian", 5, 2, 0.9)
    values = sum(buffer.numel() for buffer in statistics.buffers()) / 2000
    assert values * MAX_VALUES * 4 < 1e9


# 15


@pytest.mark.parametrize("flags", ["--many_above 1 --few_below 2", "--many_above 5 --few_below 5.5"])
def test_11_15_many_above_below_few_below_is_refused(faces, capsys, flags):
    many, few = flags.split()[1::2]
    told = f"--many_above {many} is below --few_below {few}"
    refused(capsys, tiny_faces.command(faces, flags), told)


def test_11_15_one_threshold_is_held_against_the_default_of_the_other(faces, capsys):
    words = " ".join(tiny_faces.command(faces, "")).replace("--many_above 3 --few_below 2", "--many_above 7")
    refused(capsys, words.split(), "--many_above 7 is below --few_below 20; give both")


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_11_15_a_pipe_among_the_images_is_one_line(faces, tmp_path, capsys, cache):
    data = without_images(faces, tmp_path / "data")
    path = data / rows_of(faces, "train")[5]["path"]
    path.unlink()
    os.mkfifo(path)
    argv = tiny_faces.command(data, f"--cache {cache}")
    refused(capsys, argv, f"faces/{path.name} is a folder, a pipe or a device, not a file")


# 6


def test_11_6_predictions_name_the_image(faces, trained):
    table = pd.read_csv(trained[2])
    assert list(table.columns) == ["label", "prediction", "shot", "unseen", "path"]
    rows = rows_of(faces, "test")
    assert list(table["path"]) == [row["path"] for row in rows]
    np.testing.assert_array_equal(table["label"], [float(row["age"]) for row in rows])


@pytest.mark.slow
def test_11_6_paths_stay_with_their_rows_where_images_are_left_out(faces, trained, tmp_path):
    data = without_images(faces, tmp_path / "data")
    rows = rows_of(faces, "test")
    (data / rows[4]["path"]).unlink()
    assert evaluate(data, trained, "--bad_images skip --predictions p.csv")[0] == 0
    found, whole = pd.read_csv("p.csv"), pd.read_csv(trained[2])
    pd.testing.assert_frame_equal(found, whole.drop(index=4).reset_index(drop=True))


@pytest.mark.slow
def test_11_6_evaluate_writes_predictions_where_it_is_told(faces, trained):
    assert evaluate(faces, trained, "--predictions deep/p.csv")[0] == 0
    assert tiny_faces.Path("deep/p.csv").read_bytes() == trained[2].read_bytes()


def test_11_6_an_unwritable_file_is_refused_at_the_start(faces, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    argv = tiny_faces.command(faces, "--evaluate --eval_model none.pth.tar --predictions file/p.csv")
    refused(capsys, argv, "--predictions file/p.csv: cannot be written")


@pytest.mark.slow
def test_11_6_predictions_name_the_row_of_the_tsv(tmp_path, capsys):
    data = sts_corpus.write_corpus(tmp_path / "s")
    command = sts_corpus.command(data)
    assert sts_corpus.call(command) == 0
    table = pd.read_csv(sts_corpus.run_dir(command) / "predictions.csv")
    assert list(table.columns) == ["label", "prediction", "shot", "unseen", "row"]
    lines = (data / "test_new.tsv").read_text().splitlines()
    np.testing.assert_allclose(table["label"], [float(lines[row].split("\t")[9]) for row in table["row"]])
    assert len(table) == len(lines) - 1


def test_11_6_predictions_without_evaluate_are_warned_about():
    settings = settings_of(load_task("agedb"), "", " ", ["--predictions", "p.csv"])
    assert settings.idle() == ["--predictions"]
    assert "predictions" not in settings.identity()
    assert "train_labels" not in settings.identity()
    assert settings[ImageFlags].train_labels is None
