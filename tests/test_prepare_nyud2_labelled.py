"""scripts/prepare.py nyud2 --labelled: a tiny .mat to the published layout, the official split, and bad input."""

import json

import h5py
import numpy as np
import pytest
from conftest import SHARED
from PIL import Image
from preparing import nyud2, nyud2_labelled
from preparing.check import check
from preparing.nyud2_labelled import GET_LABELLED, SPLIT
from tiny_depth import call, command, slope

from common.datasets.depth import SUBSET_CSV, TEST_CSV, TRAIN_CSV, read_pairs, scene
from common.errors import RunFailed, UserError
from common.report import stop_logging

ROWS = 9
TEST = [1, 2, 6]
LAYOUT = SHARED / "data" / "nyud2-labelled"


def depths():
    """Metres `(H, W)` of each image."""
    rng = np.random.default_rng(0)
    return [slope(rng, far=rng.uniform(3, 9.9)) for _ in range(ROWS)]


def write_mat(path, *, without=(), scenes=None, **change):
    """A file as MATLAB 7.3 stores it: arrays transposed, a cell array as references to texts."""
    metres = depths()
    grey = np.stack([np.clip(255 - 25 * depth, 0, 255) for depth in metres]).astype(np.uint8)
    content = {
        "images": np.stack([grey, grey, 255 - grey], 1).swapaxes(2, 3),
        "depths": np.stack(metres).swapaxes(1, 2),
    }
    names = scenes or [f"kitchen_{row // 2:04d}{'ab'[row % 2]}" for row in range(ROWS)]
    with h5py.File(path, "w") as file:
        for name, values in (content | change).items():
            file[name] = values.astype(np.float32 if name == "depths" else np.uint8)
        cells = [file.create_dataset(f"#refs#/{row}", data=np.array([[ord(c)] for c in name], np.uint16))
                 for row, name in enumerate(names)]  # fmt: skip
        file["scenes"] = np.array([[cell.ref for cell in cells]], dtype=h5py.ref_dtype)
        for name in without:
            del file[name]
    return path


@pytest.fixture(autouse=True)
def tiny_split(tmp_path, monkeypatch):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"images": ROWS, "test": TEST}))
    monkeypatch.setattr(nyud2_labelled, "SPLIT", file)


def run(*flags):
    try:
        return nyud2.nyud2([str(flag) for flag in flags])
    finally:
        stop_logging()


def test_the_official_split_is_795_to_654():
    split = json.loads(SPLIT.read_text())
    assert split["images"] == 1_449
    assert len(set(split["test"])) == len(split["test"]) == 654
    assert split["test"] == sorted(split["test"])
    assert (split["test"][0], split["test"][-1]) == (1, 1_449)


@pytest.mark.skipif(not LAYOUT.exists(), reason="needs the labelled images")
def test_the_official_split_is_that_of_the_images_at_hand():
    train = {int(pair.image.stem) + 1 for pair in read_pairs(LAYOUT, TRAIN_CSV)}
    assert set(range(1, 1_450)) - train == set(json.loads(SPLIT.read_text())["test"])


@pytest.mark.slow
def test_a_mat_becomes_the_published_layout(tmp_path, monkeypatch, capsys):
    mat, out = write_mat(tmp_path / "labelled.mat"), tmp_path / "out"
    assert run("--labelled", mat, "--data_dir", out) == 0
    assert "6 training images counted" in capsys.readouterr().out
    train, test = read_pairs(out, TRAIN_CSV), read_pairs(out, TEST_CSV)
    assert [int(pair.image.stem) + 1 for pair in train] == [3, 4, 5, 7, 8, 9]
    assert [pair.depth.name for pair in test] == [f"{number:05d}_depth.png" for number in range(3)]
    assert {scene(pair) for pair in train} == {f"kitchen_{number:04d}" for number in (1, 2, 3, 4)}
    assert len(read_pairs(out, SUBSET_CSV)) == 6
    metres = depths()
    stored = np.asarray(Image.open(test[2].depth))
    np.testing.assert_array_equal(stored, np.round(metres[5].astype(np.float32) * 1000))
    stored = np.asarray(Image.open(train[0].depth))
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(stored / 25.5, metres[2], atol=0.02)
    blue = np.asarray(Image.open(test[0].image))[..., 2]
    np.testing.assert_array_equal(blue, 255 - np.clip(255 - 25 * metres[0], 0, 255).astype(np.uint8))
    with pytest.raises(UserError, match=r"nyu2_train\.csv: is there already; leave --labelled out, or add"):
        run("--labelled", mat, "--data_dir", out)
    assert run("--labelled", mat, "--data_dir", out, "--overwrite") == 0
    monkeypatch.chdir(tmp_path)
    assert call(command(out, "--epochs 1 --select val --val_fraction 0.2")) == 0
    check_holds_it_to_the_official_split(out, capsys)


def check_holds_it_to_the_official_split(out, capsys):
    """`prepare.py nyud2 --check` knows the labelled images by their numbers, also where some are wrong."""

    def wrong():
        capsys.readouterr()
        with pytest.raises(RunFailed):
            check("nyud2", ["--data_dir", str(out)])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("The labelled images of NYU Depth V2: held to their official split, not")
        return [line.removeprefix("  WRONG  ") for line in lines if line.startswith("  WRONG  ")]

    capsys.readouterr()
    assert check("nyud2", ["--data_dir", str(out)]) == 0
    told = capsys.readouterr().out
    for line in ("training images: 6", "test images: 3", "none of 6 labelled training images are missing"):
        assert f"  ok     {line}\n" in told
    assert "published file" not in told and "nyud2_counts.json" not in told
    lines = (out / TRAIN_CSV).read_text().splitlines()
    (out / TRAIN_CSV).write_text("\n".join(lines[1:]))
    missing, number, *_ = wrong()
    assert missing == "1 of 6 labelled training images are missing: 3"
    assert number == "training images: 5, where the official split has 6"
    test = (out / TEST_CSV).read_text().splitlines()
    (out / TRAIN_CSV).write_text("\n".join([*lines, test[0]]))
    assert wrong()[0].startswith(
        f"1 of 7 rows of {TRAIN_CSV} are not for training in the official split: {out}"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"without": ["depths"]}, "has no variable depths"),
        ({"without": ["images", "scenes"]}, "has no variable images, scenes"),
        ({"images": np.zeros((4, 3, 16, 12))}, r"its images are \(4, 3, 16, 12\) and its depths \(9, 160, 120\)"),
        ({"depths": np.zeros((ROWS, 16, 12))}, "not 9 pairs of one size"),
        ({"scenes": ["a/b"] * ROWS}, "its scenes are not 9 names .'a/b', 'a/b', 'a/b' and 6 more"),
        ({"scenes": ["kitchen_0001"]}, "its scenes are not 9 names; the"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line_and_leave_nothing(tmp_path, change, message):
    mat = write_mat(tmp_path / "labelled.mat", **change)
    with pytest.raises(UserError, match=message) as caught:
        run("--labelled", mat, "--data_dir", tmp_path / "out")
    assert str(caught.value).startswith(f"--labelled {mat}: ")
    assert str(caught.value).endswith(GET_LABELLED) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200), b"", None])
def test_a_file_that_is_no_hdf5(tmp_path, content):
    mat = tmp_path / "labelled.mat"
    if content is not None:
        mat.write_bytes(content)
    reason = "cannot be read as HDF5" if content is not None else "there is no such file"
    with pytest.raises(UserError, match=f"--labelled .*: {reason}; the labelled data set is"):
        run("--labelled", mat, "--data_dir", tmp_path / "out")


def test_without_h5py_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match="--labelled needs h5py: pip install"):
        run("--labelled", tmp_path / "x.mat", "--data_dir", tmp_path / "out")
