"""scripts/prepare.py utkface: names to a balanced split, copies, the committed part, and bad input."""

import json
from collections import Counter

import download
import numpy as np
import prepare
import pytest
from PIL import Image
from preparing import utkface
from preparing.splits import balanced_split
from preparing.utkface import UTKFACE, age_of, fields_of, read_part
from tiny_faces import call, command, read_csv, run_dir

from common.errors import UserError

pytestmark = pytest.mark.slow

DATE = "2017010911{:07d}"


def name_of(age, number, ending=".jpg.chip.jpg"):
    return f"{age}_{number % 2}_{number % 5}_{DATE.format(number)}{ending}"


def make_images(root, names, *, empty=True):
    """Images of the names, each with bytes of its own."""
    folder = root / "UTKFace"
    folder.mkdir(parents=True, exist_ok=True)
    for row, name in enumerate(names):
        if empty:
            (folder / name).write_text(name)
        else:
            pixels = np.random.default_rng(row).normal(4 * age_of(name), 9, (20, 20, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
    return root


def run(root, *flags):
    return utkface.utkface(["--data_dir", str(root), *map(str, flags)])


def splits_of(root):
    return {row["path"].removeprefix("UTKFace/"): row["split"] for row in read_csv(root / "utkface.csv")}


@pytest.fixture
def part(tmp_path, monkeypatch):
    """A committed part of 90 images in place of the real one; its splits by name."""
    names = sorted(name_of(age, number) for age in (8, 30, 31) for number in range(30))
    splits = UTKFACE.draw([age_of(name) for name in names], 666)
    content = {split: {} for split in ("train", "val", "test")}
    for name, split in zip(names, splits, strict=True):
        fields, _, date = fields_of(name).rpartition("_")
        content[split][fields] = f"{content[split].get(fields, '')} {date}".strip()
    file = tmp_path / "part.json"
    file.write_text(json.dumps(content))
    monkeypatch.setattr(utkface, "PART", file)
    read_part.cache_clear()
    yield dict(zip(names, splits, strict=True))
    read_part.cache_clear()


# The rule


def test_the_committed_split_is_the_rule_on_its_sorted_names():
    part = read_part()
    names = sorted(f"{fields}.jpg.chip.jpg" for fields in part)
    assert len(names) == 9_672
    assert UTKFACE.draw([age_of(name) for name in names], 666) == [part[fields_of(name)] for name in names]


def test_the_committed_split_is_balanced_and_takes_a_fifth_at_most():
    ages = {split: Counter() for split in ("train", "val", "test")}
    for fields, split in read_part().items():
        ages[split][age_of(fields)] += 1
    assert {split: count.total() for split, count in ages.items()} == {
        "train": 7_262,
        "val": 1_205,
        "test": 1_205,
    }
    assert ages["val"] == ages["test"]
    assert max(ages["test"].values()) == 18  # 30 x 9,672 / 16,488
    for age, number in ages["test"].items():
        assert 5 * number <= sum(count[age] for count in ages.values())


def test_numbers_of_an_age_follow_the_size():
    """Of 5,496 images, a third of AgeDB's: 10 of an age, or a fifth where that is less."""
    ages = [30] * 5_446 + [31] * 50
    drawn = Counter(zip(ages, UTKFACE.draw(ages, 666), strict=True))
    assert (drawn[30, "val"], drawn[30, "test"], drawn[31, "val"]) == (10, 10, 10)
    ages = [30] * 5_482 + [31] * 14
    drawn = Counter(zip(ages, UTKFACE.draw(ages, 666), strict=True))
    assert (drawn[31, "val"], drawn[31, "test"], drawn[31, "train"]) == (2, 2, 10)


# A folder of images


def test_the_part_gives_the_committed_split(tmp_path, part, capsys):
    make_images(tmp_path, part)
    assert run(tmp_path) == 0
    assert splits_of(tmp_path) == part
    assert "This is the committed split: all 90 rows agree with it." in capsys.readouterr().out
    assert run(tmp_path) == 0
    assert "This is the committed split" in capsys.readouterr().out


def test_the_part_is_taken_out_of_a_larger_folder(tmp_path, part, capsys):
    others = [name_of(age, number) for age in (8, 50) for number in range(100, 120)]
    make_images(tmp_path, [*part, *others])
    assert run(tmp_path) == 0
    told = capsys.readouterr().out
    assert "NOT the committed split: its 130 images are not the 90 of part.json, which --part takes" in told
    names = sorted([*part, *others])
    assert list(splits_of(tmp_path)) == names
    assert list(splits_of(tmp_path).values()) == UTKFACE.draw([age_of(name) for name in names], 666)
    assert run(tmp_path, "--part", "--overwrite") == 0
    assert splits_of(tmp_path) == part
    assert "This is the committed split" in capsys.readouterr().out


def test_what_is_missing_of_the_part_is_told_and_moves_nothing(tmp_path, part, capsys):
    kept = dict(list(part.items())[3:])
    make_images(tmp_path, kept)
    assert run(tmp_path) == 0
    assert splits_of(tmp_path) == kept
    assert "NOT the committed split: 3 of the 90 images of part.json are missing" in capsys.readouterr().out


def test_another_seed_is_drawn_and_told(tmp_path, part, capsys):
    make_images(tmp_path, part)
    assert run(tmp_path, "--seed", 1) == 0
    assert "NOT the committed split: its seed is 666, not 1." in capsys.readouterr().out
    ages = [age_of(name) for name in splits_of(tmp_path)]
    assert list(splits_of(tmp_path).values()) == balanced_split(ages, 1, 1, 5)


def test_names_that_lack_a_field_and_copies_are_left_out_and_counted(tmp_path, capsys):
    names = [name_of(30, number) for number in range(20)]
    lacking = ["61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg.chip.jpg"]
    odd = ["24_0_1_20170116220224657 .jpg.chip.jpg", "55_0_0_20170116232725357jpg.chip.jpg"]
    make_images(tmp_path, [*names, *lacking, *odd])
    folder = tmp_path / "UTKFace"
    for copy, of in ((name_of(30, 90), names[0]), (name_of(31, 91), names[0]), (name_of(30, 93), names[5])):
        (folder / copy).write_bytes((folder / of).read_bytes())
    assert run(tmp_path) == 0
    told = capsys.readouterr().out
    assert f"Left out, as their names lack a field: 2 ({lacking[1]}, {lacking[0]})." in told
    assert "exact copies of another image: 3 (2 images have copies, 1 of them under another age;" in told
    assert set(splits_of(tmp_path)) == {*names, *odd}


@pytest.mark.slow
def test_from_a_folder_of_images_to_a_run(tmp_path, monkeypatch, capsys):
    """As a user does it: download --from a folder, prepare, check, train."""
    rng = np.random.default_rng(0)
    names = [name_of(20 + int(rng.binomial(10, 0.3)), number) for number in range(150)]
    make_images(tmp_path / "mine", names, empty=False)
    monkeypatch.chdir(tmp_path)
    assert download.main(["utkface", "--from", "mine", "--out", "data"]) == 0
    assert prepare.main(["utkface", "--data_dir", "data"]) == 0
    assert prepare.main(["utkface", "--data_dir", "data", "--check"]) == 0
    assert "none of 150 images are damaged" in capsys.readouterr().out
    argv = command("data", "--epoch 1 --lds --fds")
    assert call(argv, "utkface-dir") == 0
    result = json.loads((run_dir(argv, "utkface") / "metrics.json").read_text())
    assert result["dataset"] == "utkface"
    assert (
        result["shots"]["all"]["n"]
        == Counter(row["split"] for row in read_csv(tmp_path / "data/utkface.csv"))["test"]
    )


# Bad input


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no image; those of UTKFace belong directly into it; .*download.py utkface"),
        (
            [name_of(30, 1), "portrait.jpg", "Anna_30.jpg"],
            r"2 of 3 images are not named <age>_.* \('Anna_30.jpg', 'portrait.jpg'\); rename or remove them",
        ),
        ([name_of(121, 1), name_of(30, 2)], "has an age above 120 .'121_1_1_"),
        ([name_of(30, number) for number in range(4)], "no age from 0 to 120 has five images"),
    ],
)  # fmt: skip
def test_bad_folder(tmp_path, names, message):
    make_images(tmp_path, names)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "utkface.csv").exists()


def test_a_file_renamed_to_another_age_is_not_the_committed_split(tmp_path, part, capsys):
    make_images(tmp_path, part)
    first = tmp_path / "UTKFace" / next(iter(part))
    first.rename(first.with_name("77" + first.name[2:]))
    assert run(tmp_path) == 0
    assert "NOT the committed split: its 90 images are not the 90 of part.json" in capsys.readouterr().out


def test_no_folder_and_a_part_without_an_image(tmp_path, part):
    with pytest.raises(UserError, match=r"UTKFace: cannot be read \(No such file.*download.py utkface"):
        run(tmp_path / "nowhere")
    make_images(tmp_path, [name_of(50, number) for number in range(20)])
    with pytest.raises(
        UserError, match=r"holds no image of the part that part\.json lists; leave --part out"
    ):
        run(tmp_path, "--part")


def test_download_says_where_it_is(tmp_path):
    with pytest.raises(UserError, match=r"https://susanqq\.github\.io/UTKFace/.* --from UTKFace\.tar\.gz"):
        download.main(["utkface", "--out", str(tmp_path / "out")])


# Subsets


@pytest.mark.parametrize(("flags", "gone"), [(["--peaks", "8"], {30, 31}), (["--drop-ages", "30"], {30})])
def test_a_subset_has_empty_gaps_and_no_row_twice(tmp_path, part, flags, gone):
    make_images(tmp_path, part)
    assert run(tmp_path, *flags, "--out", tmp_path / "subset.csv") == 0
    rows = read_csv(tmp_path / "subset.csv")
    names = [row["path"].removeprefix("UTKFace/") for row in rows]
    assert len(set(names)) == len(names)
    assert gone.isdisjoint({int(row["age"]) for row in rows if row["split"] == "train"})
    assert {name: row["split"] for name, row in zip(names, rows, strict=True)}.items() <= part.items()
    assert {int(row["age"]) for row in rows if row["split"] == "test"} == {8, 30, 31}
