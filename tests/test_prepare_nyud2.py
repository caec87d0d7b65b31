"""scripts/prepare.py nyud2: counts, subset and mask by hand, in constant memory, and every bad input."""

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import prepare
import pytest
import tiny_depth
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from preparing import depth_pixels, nyud2
from preparing.depth_pixels import count, draw_mask, pick
from preparing.nyud2 import HISTOGRAM, draw_subset, published_counts, shots_of, summary
from tiny_depth import slope, tiny_nyud2, write_pair

from common import cli
from common.datasets.depth import (
    COUNTS,
    DEPTH_BINS,
    FIRST_BIN,
    MASK,
    SUBSET_CSV,
    TEST_CSV,
    TRAIN_CSV,
    read_pairs,
)
from common.datasets.standin import Standin
from common.report import stop_logging

pytestmark = pytest.mark.slow

OURS = (COUNTS, HISTOGRAM, SUBSET_CSV, MASK)
BIN_OF_LEVEL = DEPTH_BINS.index(np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(10))


def call(folder, *flags):
    """The exit code of `prepare.py nyud2 --data_dir folder`, run in this process."""
    argv = ["nyud2", "--data_dir", str(folder), *map(str, flags)]
    try:
        return cli.run_command(prepare.PROG, lambda: prepare.main(argv))
    except SystemExit as end:
        return end.code
    finally:
        stop_logging()


def raw(folder, **how):
    """A tiny folder without what prepare.py writes."""
    tiny_nyud2(folder, **how)
    for name in OURS:
        (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = raw(tmp_path_factory.mktemp("nyud2") / "data")
    assert call(folder) == 0
    return folder


def stored(folder, name):
    """The stored numbers of each depth file, as counted: doubled to 320 x 240, the middle 304 x 228."""
    files = [np.asarray(Image.open(pair.depth)) for pair in read_pairs(folder, name)]
    return np.stack([np.repeat(np.repeat(file, 2, 0), 2, 1)[6:234, 8:312] for file in files])


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in OURS if (folder / name).exists()}


# Counts


def test_counts_are_of_the_cropped_8_bit_levels(prepared):
    told = json.loads((prepared / COUNTS).read_text())
    levels = stored(prepared, TRAIN_CSV)
    assert told["counts"] == np.bincount(BIN_OF_LEVEL[levels.ravel()], minlength=100).tolist()
    assert (told["images"], told["invalid"], told["seed"]) == (12, 0, 0)
    assert sum(told["counts"]) == 12 * 304 * 228


def test_pixels_without_a_measurement_are_told_and_not_counted(tmp_path, capsys):
    folder, holes = raw(tmp_path), np.full((120, 160), 3.0)
    holes[50:60, 70:90] = 0  # 200 pixels, four times as many when counted
    write_pair(folder, "nyu2_train/room_0000_out/0.jpg", "nyu2_train/room_0000_out/0.png", holes, test=False)
    write_pair(folder, "nyu2_test/00001_colors.png", "nyu2_test/00001_depth.png", holes, test=True)
    assert call(folder) == 0
    told = json.loads((folder / COUNTS).read_text())
    assert (told["invalid"], told["counts"][0]) == (800, 0)
    assert sum(told["counts"]) == 12 * 304 * 228 - 800
    out = capsys.readouterr().out
    assert "pixels without a measurement, left out: 800\n" in out
    assert "test pixels without a measurement: 800\n" in out
    assert not np.load(folder / MASK)[stored(folder, TEST_CSV) == 0].any()


def test_published_counts_give_the_published_shots():
    counts = published_counts()
    assert (counts.images, counts.counts.sum()) == (50_688, 3_513_286_656)
    shots = shots_of(counts.counts, Standin())
    assert (shots.many_above, shots.few_below) == (2.6e7, 1e7)
    rows = [line.split() for line in summary(shots, np.full(100, 9357)).splitlines()]
    assert rows[1] == ["bins", "93", "39", "15", "39"]
    assert rows[3] == ["test", "mask", "870,201", "364,923", "140,355", "364,923"]
    assert "(> 26,000,000)" in summary(shots, counts.counts)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder whose number of training images is the published one, 12 here; and how to publish counts."""
    folder = raw(tmp_path / "data")

    def publish(counts):
        file = tmp_path / "published.json"
        file.write_text(json.dumps({"images": 12, "counts": counts.tolist()}))
        monkeypatch.setattr(nyud2, "PUBLISHED_COUNTS", file)
        return folder

    return publish


def test_of_the_published_images_the_published_counts_are_used(published, capsys):
    counts = np.arange(100) * 1000
    folder = published(counts)
    for pair in read_pairs(folder, TRAIN_CSV):
        pair.depth.unlink()  # not read
    assert call(folder) == 0
    assert "has the 12 published rows: the published counts are used" in capsys.readouterr().out
    assert json.loads((folder / COUNTS).read_text())["counts"] == counts.tolist()


def test_a_stand_in_is_counted_whatever_its_size(published, capsys):
    folder = published(np.arange(100))
    told = {"dataset": "nyud2", "scale": 1, "seed": 0, "many_above": 9e4, "few_below": 3e4, "note": "rooms"}
    (folder / "standin.json").write_text(json.dumps(told))
    assert call(folder) == 0
    assert sum(json.loads((folder / COUNTS).read_text())["counts"]) == 12 * 304 * 228
    out = capsys.readouterr().out
    assert "Stand-in, not the real data: nyud2 at scale 1, seed 0: rooms" in out
    assert "Many (> 90,000)" in out


def test_a_recount_says_whether_it_is_the_published_one(published, capsys):
    folder = published(np.zeros(100, int))
    counts = np.bincount(BIN_OF_LEVEL[stored(folder, TRAIN_CSV).ravel()], minlength=100)
    for off, told in (
        (0, "the published counts are the same"),
        (5, "the published counts differ by 5 pixels"),
    ):
        published(counts + off * (np.arange(100) == 50))
        assert call(folder, "--overwrite") == 0
        assert told in capsys.readouterr().out
        assert json.loads((folder / COUNTS).read_text())["counts"] == counts.tolist()


# The subset


@given(st.integers(1, 2000), st.integers(0, 5))
def test_subset_is_600_rows_in_file_order_or_all(rows, seed):
    drawn = draw_subset(rows, seed)
    assert len(drawn) == min(600, rows)
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn[0] <= drawn[-1] < rows
    assert (drawn == draw_subset(rows, seed)).all()
    if rows > 700:
        assert (drawn != draw_subset(rows, seed + 1)).any()


def test_subset_has_rows_of_the_training_file(tmp_path, monkeypatch):
    monkeypatch.setattr(nyud2, "SUBSET", 5)
    folder = raw(tmp_path)
    lines = (folder / TRAIN_CSV).read_text().splitlines()
    (folder / TRAIN_CSV).write_text("\n\n".join(lines) + "\n,\n", encoding="utf-8-sig")
    assert call(folder) == 0
    rows = (folder / SUBSET_CSV).read_text().splitlines()
    assert rows == [lines[row] for row in draw_subset(12, 0)]
    with (folder / SUBSET_CSV).open() as file:
        assert {len(row) for row in csv.reader(file)} == {2}


# The mask


def test_mask_takes_as_many_pixels_of_each_bin(prepared):
    mask = np.load(prepared / MASK)
    assert (mask.shape, mask.dtype, set(np.unique(mask))) == ((4, 228, 304), np.uint8, {0, 1})
    metres = stored(prepared, TEST_CSV).astype(np.float32) / np.float32(1000)
    bins = DEPTH_BINS.index(metres)
    there = np.bincount(bins[metres > 0], minlength=100)
    there[:FIRST_BIN] = 0
    taken = np.bincount(bins[mask > 0], minlength=100)
    assert taken.tolist() == np.where(there > 0, there[there > 0].min(), 0).tolist()
    assert taken.sum() > 1000


def planes(folder, *maps):
    """Pairs of test images whose depth is given."""
    names = [(f"nyu2_test/{n}_colors.png", f"nyu2_test/{n}_depth.png") for n in range(len(maps))]
    for pair, metres in zip(names, maps, strict=True):
        write_pair(folder, *pair, metres, test=True)
    (folder / TEST_CSV).write_text("".join(f"data/{a},data/{b}\n" for a, b in names))
    return read_pairs(folder, TEST_CSV)


def test_mask_is_drawn_evenly_from_all_images_and_places(tmp_path):
    """Of 3.05 m there are 1/8 in one image, 3/8 in the next, 4/8 in the last; 9.05 m decides how many."""
    one, two, three = (np.full((120, 160), 3.05) for _ in range(3))
    one[:, 40:] = two[:, 120:] = 0
    three[:60] = 9.05
    three[60:] = 3.05
    extra = np.full((120, 160), 3.05)
    pairs = planes(tmp_path, one, two, three, extra)
    counted = count(pairs, test=True, name="test").counts
    draw_mask(tmp_path / MASK, pairs, counted, 0)
    mask = np.load(tmp_path / MASK)
    depth = stored(tmp_path, TEST_CSV)
    each = int((depth == 9050).sum())
    assert mask[depth == 9050].all()  # the rarest bin gives all
    assert mask[depth == 3050].sum() == each
    assert not mask[depth == 0].any()
    there = (depth == 3050).sum((1, 2))
    share = each / there.sum()
    spread = 5 * np.sqrt(there * share * (1 - share))
    assert (abs(mask.astype(int).sum((1, 2)) - there * share - [0, 0, each, 0]) < spread).all()
    halves = mask[3][:, :152].sum(), mask[3][:, 152:].sum()
    assert abs(int(halves[0]) - int(halves[1])) < 5 * np.sqrt(sum(halves))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
def test_pick_takes_what_is_asked_of_each_bin(bins, seed):
    rng = np.random.default_rng(seed)
    index = np.array(bins)[None]
    taken = rng.integers(np.bincount(bins, minlength=6) + 1)
    chosen = pick(index, taken, rng)
    assert chosen.shape == index.shape
    assert np.bincount(index[chosen], minlength=6).tolist() == taken.tolist()


def test_the_seed_decides(prepared, tmp_path, capsys):
    again, other = raw(tmp_path / "again"), raw(tmp_path / "other")
    assert call(again) == call(other, "--seed", 1) == 0
    assert bytes_of(again) == bytes_of(prepared)
    assert bytes_of(other)[MASK] != bytes_of(prepared)[MASK]
    assert "bins, seed 1" in capsys.readouterr().out


def test_bins_without_a_pixel_are_named(tmp_path, capsys):
    folder, rng = raw(tmp_path), np.random.default_rng(0)
    planes(folder, slope(rng, 0.75, 6.9), slope(rng, 7.2, 9.95))
    assert call(folder) == 0
    depth = stored(folder, TEST_CSV)
    empty = [f"{b / 10} m" for b in range(7, 100) if not (depth // 100 == b).any()]
    assert {"7.0 m", "7.1 m"} <= set(empty)
    assert (
        f"Bins without a test pixel: {len(empty)} (those from {', '.join(empty[:3])}"
        in capsys.readouterr().out
    )
    mask = np.load(folder / MASK)
    assert len(np.unique(depth[mask > 0] // 100)) == 93 - len(empty)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """All 200 maps at once would be 55 MB of float32, and 14 MB of mask."""
    rng, peaks = np.random.default_rng(0), []
    for number in (20, 200):
        pairs = planes(tmp_path / str(number), *(slope(rng)[::5, ::5] for _ in range(number)))
        tracemalloc.start()
        counted = count(pairs, test=True, name="test")
        draw_mask(tmp_path / f"{number}.npy", pairs, counted.counts, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0], peaks
    assert np.load(tmp_path / "200.npy", mmap_mode="r").shape == (200, 228, 304)


# What is there already


def test_what_is_there_is_used_and_not_written(prepared, capsys):
    before = {name: (prepared / name).stat().st_mtime_ns for name in OURS}
    mask = int(np.load(prepared / MASK).sum())
    assert call(prepared, "--seed", 5) == 0
    out = capsys.readouterr().out
    for told in (f"{COUNTS} is there already", f"{SUBSET_CSV} is there already, 12 images", "all is there"):
        assert told in out
    assert f"{MASK} is there already, {mask:,} pixels, and is used as it is" in out
    assert {name: (prepared / name).stat().st_mtime_ns for name in OURS} == before


def test_published_files_stay_and_the_rest_is_written(tmp_path, capsys):
    folder = raw(tmp_path)
    np.save(folder / MASK, np.ones((4, 228, 304), np.uint8))
    (folder / SUBSET_CSV).write_text((folder / TRAIN_CSV).read_text().splitlines()[3] + "\n")
    before = bytes_of(folder)
    assert call(folder) == 0
    assert f"{folder}: {COUNTS}, {HISTOGRAM} written" in capsys.readouterr().out
    assert before.items() <= bytes_of(folder).items()
    assert call(folder, "--overwrite") == 0
    assert all(bytes_of(folder)[name] != before[name] for name in before)


def test_summary_is_of_the_mask_that_is_there(prepared, capsys):
    assert call(prepared) == 0
    mask = int(np.load(prepared / MASK).sum())
    row = next(line for line in capsys.readouterr().out.splitlines() if "test mask" in line)
    cells = [int(cell.replace(",", "")) for cell in row.split()[2:]]
    assert cells[0] == mask == sum(cells[1:])


def test_histogram_is_a_log_plot_of_metres_by_shot(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **how: (drawn.append(self), save(self, *a, **how))
    )
    shots = shots_of(published_counts().counts, Standin())
    nyud2.histogram(tmp_path / "h.png", "NYUD2-DIR", shots)
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Depth (metres)", "Training pixels in 0.1 m")
    assert axes.get_yscale() == "log"
    bars = [len(group) for group in axes.containers]
    assert bars == [39, 15, 39]
    heights = sorted(bar.get_height() for group in axes.containers for bar in group)
    assert heights == sorted(shots.counts[FIRST_BIN:].tolist())
    with Image.open(tmp_path / "h.png") as image:
        assert image.format == "PNG"


# Bad input


def spoil(folder, what):
    """Break one thing; returns what the error must name."""
    train, test = (read_pairs(folder, name)[1] for name in (TRAIN_CSV, TEST_CSV))
    if what in (TRAIN_CSV, TEST_CSV):
        (folder / what).unlink()
        return what, "make_standin.py nyud2"
    if what == "files":
        for file in train:
            file.unlink()
        return "nyu2_train.csv: 2 of its 24 files are not there", str(train.image)
    if what == "8 bit":
        Image.open(train.depth).save(test.depth)
        return str(test.depth), "16-bit"
    if what == "16 bit":
        Image.open(test.depth).save(train.depth)
        return str(train.depth), "8-bit"
    if what == "size":
        Image.open(train.image).resize((80, 60)).save(train.image)
        return str(train.image), "80 x 60 and 160 x 120"
    if what == "damaged":
        test.depth.write_bytes(test.depth.read_bytes()[:300])
        return str(test.depth), "replace the file"
    if what == "no image":
        test.image.write_text("x")
        return str(test.image), "is not an image"
    name = {"train": TRAIN_CSV, "test": TEST_CSV}[what.removeprefix("invalid ")]
    for pair in read_pairs(folder, name):
        empty = np.zeros_like(np.asarray(Image.open(pair.depth)))
        Image.fromarray(empty).save(pair.depth)
    return name, "not one of its", "from 0.7 m on"


BAD = [
    TRAIN_CSV, TEST_CSV, "files", "8 bit", "16 bit", "size", "damaged", "no image", "invalid train",
    "invalid test",
]  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_data_is_one_line_and_nothing_is_written(tmp_path, capsys, what):
    folder = raw(tmp_path)
    named = spoil(folder, what)
    before = sorted(folder.rglob("*"))
    assert call(folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("scripts/prepare.py: error: ")
    assert error.count("\n") == 1
    for part in named:
        assert part in error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (COUNTS, "{", "is broken"),
        (COUNTS, "[]", "is broken"),
        (COUNTS, json.dumps({"counts": [1] * 99, "images": 12}), "not 100 counts"),
        (COUNTS, json.dumps({"counts": [0] * 100, "images": 12}), "not 100 counts"),
        (COUNTS, json.dumps({"counts": [1] * 100, "images": 13}), "over 13 images, not the 12"),
        (MASK, np.ones((5, 228, 304), np.uint8), "shape (5, 228, 304)"),
        (MASK, "x", "cannot be read"),
    ],
)
def test_what_is_there_and_does_not_fit_can_be_written_anew(tmp_path, capsys, name, content, told):
    folder = raw(tmp_path)
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        np.save(folder / name, content)
    assert call(folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in (str(folder / name), told, "--overwrite"))
    assert call(folder, "--overwrite") == 0
    assert call(folder) == 0


def test_ctrl_c_leaves_nothing(tmp_path, capsys, monkeypatch):
    """In the middle of the mask, the last thing to be drawn."""
    folder, real = raw(tmp_path), depth_pixels.reported

    def stop(items, what, total):
        for number, item in enumerate(real(items, what, total)):
            if "mask" in what and number == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(depth_pixels, "reported", stop)
    before = sorted(folder.rglob("*"))
    assert call(folder) == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("flags", [["--sed", "1"], ["--seed", "-1"], ["--seed", "x"]])
def test_wrong_flags_are_named(tmp_path, capsys, flags):
    assert call(tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert flags[0] in error
    assert error.count("\n") == 1


def test_help_names_the_defaults(capsys):
    assert call(Path("x"), "--help") == 0
    out = capsys.readouterr().out
    assert "data/nyud2" in out
    assert "--overwrite" in out


# From raw data to a run


def test_a_raw_folder_becomes_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = raw(tmp_path / "data")
    argv = tiny_depth.command(folder, "--lds --fds --select val --val_fraction 0.2")
    assert tiny_depth.call(argv) == 2, "there is no mask yet"
    assert call(folder) == 0
    assert tiny_depth.call(argv) == 0
    result = json.loads((tiny_depth.run_dir(argv) / "metrics.json").read_text())
    assert result["shots"]["all"]["n"] == int(np.load(folder / MASK).sum())
