"""Faces: what is wrong in a CSV, the batches with and without a cache, the augmentation, the bins."""

import logging
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as tvf

from common.bins import Bins
from common.datasets.faces import SPLITS, label_bins, read_faces
from common.errors import UserError
from common.images.augment import crop_flip, normalize, random_crop_flip
from common.images.split import FaceSplit, load_faces
from common.task import Draw

CPU = torch.device("cpu")
SIZE = 24
GOOD = ["31,a/0.jpg,train", "32,a/1.jpg,train", "33,a/2.jpg,val", "34,a/3.jpg,test"]


def write(path, rows, header="age,path,split"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """30 small images and their CSV; a test that changes files takes `root`."""
    root = tmp_path_factory.mktemp("faces") / "data"
    (root / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 256, (30, 26, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"a/{number}.jpg")
    splits = ["train"] * 20 + ["val"] * 5 + ["test"] * 5
    write(root / "faces.csv", [f"{20 + i},a/{i}.jpg,{split}" for i, split in enumerate(splits)])
    return root


@pytest.fixture
def root(master, tmp_path):
    return shutil.copytree(master, tmp_path / "data")


def load(root, cache="auto", **options):
    table = read_faces(root / "faces.csv", needed=options.get("needed", SPLITS))
    return load_faces(table, img_size=SIZE, cache=cache, workers=2, **options)


# --- the CSV


def test_a_good_csv(tmp_path):
    table = read_faces(write(tmp_path / "x.csv", [*GOOD, "", ""]))
    assert table.paths == [f"a/{i}.jpg" for i in range(4)]
    assert table.labels.dtype == np.float32
    np.testing.assert_array_equal(table.labels, [31, 32, 33, 34])
    np.testing.assert_array_equal(table.rows("train"), [0, 1])
    np.testing.assert_array_equal(table.rows("train", bad=[0]), [1])


def test_columns_in_any_order_with_others_between_and_a_byte_order_mark(tmp_path):
    rows = [f'x,"{path}",{split},{age}' for age, path, split in (row.split(",") for row in GOOD)]
    rows[0] = rows[0].replace("a/0.jpg", "a/0, b.jpg")
    write(tmp_path / "x.csv", rows, header="\ufeffname,path,split,score")
    table = read_faces(tmp_path / "x.csv", target="score")
    np.testing.assert_array_equal(table.labels, [31, 32, 33, 34])
    assert table.paths[0] == "a/0, b.jpg"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",a/9.jpg,train", r"age is not a number \(line 6: ''\)"),
        ("nan,a/9.jpg,train", r"age is not a number \(line 6: 'nan'\)"),
        ("inf,a/9.jpg,train", "age is not a number"),
        ("old,a/9.jpg,train", r"age is not a number \(line 6: 'old'\)"),
        ("-1,a/9.jpg,train", r"age is outside 0 to 200 \(line 6: '-1'\).*--label_min"),
        ("200.5,a/9.jpg,train", r"age is outside 0 to 200 \(line 6: '200.5'\).*--label_max"),
        ("31,a/9.jpg,valid", r"unknown split \(line 6: 'valid'\); the splits are train, val, test"),
        ("31,a/9.jpg,", "unknown split"),
        ("31,../9.jpg,train", r"leaves the data folder or is empty \(line 6: '../9.jpg'\).*--data_dir"),
        ("31,a/../../9.jpg,train", "leaves the data folder"),
        ("31,/etc/9.jpg,train", "leaves the data folder"),
        ("31,,train", "leaves the data folder or is empty"),
        ("31,a/9.jpg", "line 6 has not the 3 cells"),
        ("31,a/9,9.jpg,train", "line 6 has not the 3 cells.*quotes"),
        ('31,"a/9.jpg,train', "is not a CSV"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message) as caught:
        read_faces(write(tmp_path / "x.csv", [*GOOD, row]))
    assert "x.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_is_right_after_blank_lines_and_many_bad_rows_are_counted(tmp_path):
    rows = [*GOOD, "", *["x,a/9.jpg,train"] * 5]
    with pytest.raises(UserError, match="line 7: 'x', line 8: 'x', line 9: 'x', 2 more"):
        read_faces(write(tmp_path / "x.csv", rows))


@pytest.mark.parametrize("missing", ["age", "path", "split"])
def test_a_missing_column(tmp_path, missing):
    header = "age,path,split".replace(missing, "other")
    with pytest.raises(UserError, match=f"no column {missing}; its columns are .*other") as caught:
        read_faces(write(tmp_path / "x.csv", GOOD, header))
    assert ("--target" in str(caught.value)) == (missing == "age")


def test_a_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="no such file; ask its authors"):
        read_faces(tmp_path / "x.csv", hint="ask its authors")


@pytest.mark.parametrize("content", [b"", b"age,path,split\n", b"\xff\xfe\x00"])
def test_no_table_at_all(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(UserError, match="x.csv"):
        read_faces(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:3], "the test split is empty"),
        ([GOOD[0], *GOOD[2:]], "the train split has one sample"),
        (GOOD[2:], "the train split is empty"),
    ],
)
def test_splits_need_samples(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        read_faces(write(tmp_path / "x.csv", rows))


def test_the_limits_move_with_the_flags(tmp_path):
    csv = write(tmp_path / "x.csv", [*GOOD, "-12.5,a/9.jpg,train", "500,a/9.jpg,train"])
    assert read_faces(csv, label_min=-20, label_max=500).labels.min() == -12.5
    with pytest.raises(UserError, match="outside -20 to 499"):
        read_faces(csv, label_min=-20, label_max=499)
    with pytest.raises(UserError, match="--label_min is 300 and --label_max 200"):
        read_faces(csv, label_min=300)


# --- loading


def test_splits_are_rows_of_one_cache(root):
    splits = load(root)
    assert {name: len(split.labels) for name, split in splits.items()} == {"train": 20, "val": 5, "test": 5}
    assert splits["val"].images is splits["train"].images
    np.testing.assert_array_equal(splits["test"].labels, np.arange(45, 50, dtype=np.float32))
    assert splits["test"].paths[0] == "a/25.jpg"


def test_skip_drops_bad_images_from_their_splits(root):
    (root / "a/3.jpg").unlink()
    (root / "a/21.jpg").write_bytes(b"no image")
    splits = load(root, bad_images="skip")
    assert 23 not in splits["train"].labels
    assert 41 not in splits["val"].labels
    batch = next(splits["train"].batches([Draw(np.array([3]), 0)], augment=False, device=CPU))
    assert batch.targets.item() == 24
    assert torch.equal(batch.inputs, published(root / "a/4.jpg"))


def test_skip_that_leaves_an_empty_split(root):
    for number in range(20, 25):
        (root / f"a/{number}.jpg").unlink()
    with pytest.raises(UserError, match="without its unusable images: the val split is empty"):
        load(root, bad_images="skip")


def test_error_names_bad_images(root):
    (root / "a/3.jpg").unlink()
    for cache in ("auto", "off"):
        with pytest.raises(UserError, match=r"1 of 30 images cannot be used: a/3.jpg is missing"):
            load(root, cache)


def test_no_image_at_all_says_how_to_get_them(root):
    shutil.rmtree(root / "a")
    with pytest.raises(UserError, match="holds none of the 30 images .* such as a/0.jpg; fetch them"):
        load(root, bad_images="skip", hint="fetch them")


# --- batches


def published(path):
    steps = [
        transforms.Resize((SIZE, SIZE)),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    return transforms.Compose(steps)(Image.open(path).convert("RGB"))[None]


DRAWS = [Draw(np.array([7, 0, 19]), 11), Draw(np.array([5]), 12), Draw(np.array([1, 1, 2]), 13)]


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_evaluation_batches_are_the_published_tensors(root, cache):
    split = load(root, cache)["train"]
    for draw, batch in zip(DRAWS, split.batches(DRAWS, augment=False, device=CPU), strict=True):
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.is_contiguous()
        expected = torch.cat([published(root / f"a/{index}.jpg") for index in draw.indices])
        assert torch.equal(batch.inputs, expected)
        assert torch.equal(batch.targets, torch.tensor(draw.indices[:, None] + 20, dtype=torch.float32))
        assert batch.weights is None


@pytest.mark.parametrize("augment", [True, False])
def test_batches_are_the_same_with_and_without_a_cache(root, augment):
    one, other = (load(root, cache)["train"] for cache in ("auto", "off"))
    pairs = zip(
        one.batches(DRAWS, augment=augment, device=CPU),
        other.batches(iter(DRAWS), augment=augment, device=CPU),
        strict=True,
    )
    for a, b in pairs:
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)


def test_weights_follow_their_samples(root):
    split = load(root)["train"]
    split.weights = np.linspace(0.5, 1.5, 20)
    batch = next(split.batches(DRAWS, augment=True, device=CPU))
    assert batch.weights.dtype == torch.float32
    np.testing.assert_array_equal(batch.weights[:, 0], split.weights[DRAWS[0].indices].astype(np.float32))


def test_a_bad_file_without_a_cache_is_named_when_it_is_reached(root):
    split = load(root, "off")["train"]
    (root / "a/5.jpg").write_bytes(b"no image")
    batches = split.batches(DRAWS, augment=False, device=CPU)
    assert len(next(batches).inputs) == 3, "the bad one is read ahead, and raises only in its turn"
    with pytest.raises(UserError, match=r"a/5\.jpg: is not an image; .*--bad_images skip"):
        next(batches)


def test_endless_draws_are_read_one_ahead_and_can_be_left(master):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Draw(np.arange(4), len(taken))

    split = FaceSplit(np.zeros(4), [f"a/{i}.jpg" for i in range(4)], master, SIZE, np.arange(4))
    batches = split.batches(endless(), augment=True, device=CPU)
    next(batches)
    assert len(taken) == 2
    batches.close()


# --- augmentation


def images(number, size=SIZE, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (number, 3, size, size), dtype=np.uint8)
    return torch.from_numpy(pixels)


@given(st.integers(0, 2**31), st.integers(0, 16), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_each_crop_is_torchvisions_at_the_same_offset(seed, padding, number):
    batch, generator = images(number), torch.Generator().manual_seed(seed)
    top, left = torch.randint(0, 2 * padding + 1, (2, number), generator=generator)
    flip = torch.rand(number, generator=generator) < 0.5
    cropped = crop_flip(batch, top, left, flip, padding)
    for row in range(number):
        padded = tvf.pad(batch[row], [padding] * 4)
        expected = tvf.crop(padded, top[row].item(), left[row].item(), SIZE, SIZE)
        assert torch.equal(cropped[row], tvf.hflip(expected) if flip[row] else expected)
    assert torch.equal(cropped, random_crop_flip(batch, drawn(batch, seed), padding))


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_without_padding_only_the_flip_is_left_and_flipping_back_restores(seed):
    batch = images(8)
    out = random_crop_flip(batch, drawn(batch, seed), padding=0)
    assert out.dtype == torch.uint8
    for before, after in zip(batch, out, strict=True):
        assert torch.equal(after, before) or torch.equal(after.flip(2), before)
    assert torch.equal(out, random_crop_flip(batch, drawn(batch, seed), padding=0))
    # the layout of the cache, height x width x channel, must not matter
    channels_last = batch.contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        random_crop_flip(channels_last, drawn(batch, seed)), random_crop_flip(batch, drawn(batch, seed))
    )


def drawn(images, seed):
    return Draw(np.arange(len(images)), seed)


def offsets(transform, padding, size, number):
    """How often each (top, left, flip) was drawn, read back from images whose pixels say where they are."""
    side = size + 2 * padding
    marks = torch.zeros(3, size, size, dtype=torch.uint8)
    marks[0], marks[1] = torch.arange(1, size + 1)[:, None], torch.arange(1, size + 1)
    where = torch.arange(size)
    counts = np.zeros((side - size + 1, side - size + 1, 2), int)
    for image in transform(marks, number):
        flip = int(image[1].max(0).values.float().diff().sort().values.median() < 0)
        image = image.flip(2) if flip else image
        inside = (image[0] > 0).nonzero()[0]
        top = image[0][tuple(inside)] - 1 + padding - where[inside[0]]
        left = image[1][tuple(inside)] - 1 + padding - where[inside[1]]
        counts[top, left, flip] += 1
    return counts


@pytest.mark.slow
def test_the_distribution_is_the_published_one():
    padding, size, number = 2, 8, 6000

    def published_transform(marks, number):
        steps = transforms.Compose([transforms.RandomCrop(size, padding), transforms.RandomHorizontalFlip()])
        return [steps(marks) for _ in range(number)]

    def ours(marks, number):
        copies = marks.expand(number, -1, -1, -1)
        return random_crop_flip(copies, drawn(copies, 5), padding)

    torch.manual_seed(0)
    theirs, found = (offsets(how, padding, size, number) for how in (published_transform, ours))
    assert ((theirs > 0) == (found > 0)).all(), "the same crops are possible"
    expected = number / found.size
    for counts in (theirs, found):
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < 87, "the 0.1 % point of chi-square with 49 degrees of freedom is 85.4"


def test_batches_draw_by_their_seed_and_images_differ_within_a_batch():
    same = images(1).expand(64, -1, -1, -1)
    out = random_crop_flip(same, drawn(same, 3))
    assert len(out.flatten(1).unique(dim=0)) > 55
    assert not torch.equal(out, random_crop_flip(same, drawn(same, 4)))


def test_normalize_is_to_tensor_and_normalize_exactly():
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    picture = Image.fromarray(levels[0].permute(1, 2, 0).numpy())
    expected = transforms.Normalize([0.5] * 3, [0.5] * 3)(transforms.ToTensor()(picture))
    assert torch.equal(normalize(levels)[0], expected)
    assert normalize(levels).aminmax() == (-1, 1)
    assert levels.dtype == torch.uint8


# --- bins


def test_whole_ages_get_the_published_bins():
    assert label_bins(np.arange(101, dtype=np.float32)) == Bins.integers(0, 120)
    assert label_bins(np.array([-3.0, 7.0]), label_min=-5, label_max=9) == Bins.integers(-5, 9)
    assert label_bins(np.array([150.0, 180.0]), label_min=150) == Bins.integers(150, 200)


def test_ages_above_120_share_a_bin_and_it_is_said(caplog):
    log = logging.getLogger("dir")
    log.addHandler(caplog.handler)
    assert label_bins(np.array([30.0, 130.0])) == Bins.integers(0, 120)
    log.removeHandler(caplog.handler)
    assert "above 120" in caplog.text


def test_fractions_get_bins_of_the_width_that_is_asked_for():
    labels = np.array([1.25, 2.5, 9.75], np.float32)
    assert label_bins(labels) == Bins.uniform(1, 10, 9)
    assert label_bins(labels, bin_width=0.5) == Bins.uniform(1, 10, 18)
    assert label_bins(labels, bin_width=2, label_min=0, label_max=11) == Bins.uniform(0, 12, 6)
    assert label_bins(np.array([0.1, 0.9]), bin_width=0.1) == Bins.uniform(0, 1, 10)


def test_whole_numbers_with_a_width_keep_their_last_label_apart():
    assert label_bins(np.array([10.0, 20.0]), bin_width=1) == Bins.integers(10, 20)
    assert label_bins(np.array([0.0, 100.0]), bin_width=5) == Bins.uniform(0, 105, 21)


@given(
    st.lists(st.floats(0, 200, width=32), min_size=1, max_size=50),
    st.sampled_from([None, 0.1, 0.25, 1.0, 7.0]),
)
@settings(max_examples=60, deadline=None)
def test_every_label_lies_in_its_bin(labels, width):
    labels = np.array(labels, np.float32)
    bins = label_bins(labels, width)
    assert bins.counts(labels).sum() == len(labels)
    inside = labels[labels <= 120] if bins == Bins.integers(0, 120) else labels
    left = bins.left_edges[bins.index(inside)]
    assert (left <= inside + 1e-3).all()
    assert (inside <= left + bins.width + 1e-3).all()


@pytest.mark.parametrize("width", [0, -1, 1e-9, float("nan")])
def test_a_width_that_makes_no_bins(width):
    with pytest.raises(UserError, match="--bin_width"):
        label_bins(np.array([0.5, 9.5]), bin_width=width)
