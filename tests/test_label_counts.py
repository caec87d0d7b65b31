"""scripts/label_counts.py: the counts, bins and shots that training has, read without its inputs."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from conftest import ROOT, SHARED
from plotting.label_counts import TrainingLabels, default_settings, of_folder, of_run
from reproducing.recipes import read_tables
from sts_corpus import write_corpus
from tiny_faces import SIZES, write_faces

from common.bins import Bins
from common.errors import UserError
from common.lds import get_lds_kernel_window
from common.metrics import Shots
from common.task import load_task
from common.training.command import settings_of

pytestmark = pytest.mark.slow


def loaded(dataset, folder, *flags):
    """What training loads, and what is read for a picture, under the same flags."""
    task, argv = load_task(dataset), [word for flag in flags for word in flag.split()]
    settings = settings_of(task, "", " ", [*argv, "--data_dir", str(folder)])
    return task.load(settings), of_run(task, settings)


def counted(name):
    """The training labels of a public table by bin of its recorded results."""
    cell = read_tables()[f"tabular-{name}-small"].cell("Vanilla", 0)
    argv = [word.replace("data/tabular", str(SHARED / "data" / "tabular")) for word in cell.command()[1:]]
    task = load_task("tabular")
    shots = of_run(task, settings_of(task, "", " ", argv)).shots
    assert asdict(shots.bins) == json.loads((ROOT / cell.result).read_text())["bins"]
    return shots.counts


TABLES = json.loads((ROOT / "data" / "histograms.json").read_text())["tables"]


@pytest.mark.parametrize("name", TABLES)
def test_histograms_of_the_page_are_counted_from_the_data(name):
    if not SHARED.is_dir():
        pytest.skip("the real data are not here")
    assert counted(name).tolist() == TABLES[name]


def assert_same(data, read):
    assert read.bins == data.bins
    assert read.shots.bins == data.shots.bins
    assert np.array_equal(read.shots.counts, data.shots.counts)
    assert (read.shots.many_above, read.shots.few_below) == (data.shots.many_above, data.shots.few_below)
    assert read.standin == data.standin


@pytest.mark.parametrize(
    "flags",
    ["", "--many_above 3 --few_below 2", "--bin_width 5", "--label_min 0 --label_max 70"],
)
def test_of_faces(tmp_path, flags):
    folder = write_faces(tmp_path)
    data, read = loaded("agedb", folder, flags, "--img_size 16 --cache off")
    assert_same(data, read)
    assert read.shots.counts.sum() == SIZES["train"]


def test_of_own_images_with_fractions(tmp_path):
    labels = np.random.default_rng(0).uniform(-1, 2, sum(SIZES.values())).round(3)
    folder = write_faces(tmp_path, name="cups", target="fill", labels=labels)
    flags = "--dataset cups --target fill --bin_width 0.5 --label_min -1 --label_max 2 --img_size 16"
    data, read = loaded("agedb", folder, flags, "--cache off")
    assert_same(data, read)
    assert (read.title, read.axis, read.whole) == ("cups", "fill", False)
    assert read.centres(read.bins) == pytest.approx([-0.75, -0.25, 0.25, 0.75, 1.25, 1.75])


@pytest.mark.parametrize("flags", ["", "--bucket_num 25"])
@pytest.mark.parametrize("standin", [True, False])
def test_of_sentence_pairs(tmp_path, flags, standin):
    data, read = loaded("sts-b", write_corpus(tmp_path, standin=standin), flags)
    assert_same(data, read)


def test_a_stand_in_brings_its_thresholds(tmp_path):
    folder = write_faces(tmp_path)
    told = {"dataset": "agedb", "scale": 0.1, "seed": 0, "many_above": 10, "few_below": 2, "note": "made up"}
    (folder / "standin.json").write_text(json.dumps(told))
    assert_same(*loaded("agedb", folder, "--img_size 16 --cache off"))
    assert of_folder(folder).standin == "agedb at scale 0.1, seed 0: made up"


@pytest.mark.parametrize(
    ("whole", "bins", "expected"),
    [
        (True, Bins.integers(3, 5), [3, 4, 5]),
        (True, Bins.uniform(0, 10, 2), [2, 7]),  # 0 to 4, 5 to 9
        (False, Bins.uniform(0, 10, 2), [2.5, 7.5]),
    ],
)
def test_a_bin_of_whole_numbers_lies_around_them(whole, bins, expected):
    shots = Shots(bins, np.ones(bins.num), 1, 1)
    training = TrainingLabels("x", "age", "years", "images", shots, bins, whole=whole)
    assert list(training.centres(bins)) == expected


def test_smoothing_leaves_out_the_bins_below_the_first():
    bins = Bins.uniform(0, 5, 5)
    shots = Shots(bins, np.array([0, 0, 6, 0, 3]), 1, 1)
    training = TrainingLabels(
        "x", "depth", "m", "pixels", shots, bins, border="reflect", first_bin=2
    )  # fmt: skip
    smoothed = training.smoothed(get_lds_kernel_window("triang", 3, 1))  # 1/4, 1/2, 1/4
    assert smoothed == pytest.approx([0, 0, 4.5, 2.25, 2.25])  # each border bin is its own neighbour
    assert smoothed.sum() == pytest.approx(shots.counts.sum())


def test_a_folder_is_told_by_its_files(tmp_path):
    assert of_folder(write_corpus(tmp_path / "pairs")).title == "STS-B-DIR"
    assert of_folder(write_faces(tmp_path / "faces")).title == "AgeDB-DIR"
    assert of_folder(write_faces(tmp_path / "mine", name="mine")).title == "mine"


def test_several_csvs(tmp_path):
    write_faces(tmp_path, name="a")
    write_faces(tmp_path, name="b")
    with pytest.raises(UserError, match=r"holds several CSVs \(a.csv, b.csv\); name one of them"):
        of_folder(tmp_path)
    assert of_folder(tmp_path / "b.csv").title == "b"


@pytest.mark.parametrize("dataset", ["agedb", "sts-b"])
def test_data_that_are_not_there(tmp_path, dataset):
    task = load_task(dataset)
    with pytest.raises(UserError, match="--data_dir says where they are|--data_dir says where the data are"):
        of_run(task, default_settings(task, data_dir=tmp_path))


def test_a_data_set_without_a_script():
    with pytest.raises(UserError, match="nosuch: there is no such data set"):
        load_task("nosuch")
