"""Volumes: what is read and refused, the random transforms, the network, and whole runs, killed and resumed."""

import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from runs import assert_same_end, ended, in_child, killed_at, outcome, read
from sfcn import CHANNELS, Sfcn
from test_methods import ways_to_ask
from tiny_faces import call, load_train, read_csv, run_dir, write_csv
from volume_files import SAID, decode_volume, resized, unpacked
from volume_split import VolumeSplit, transformed, uniform

from common.errors import UserError
from common.images.decode import BadImage
from common.method import all_methods
from common.task import Draw, load_task
from common.training import checkpoint, command, compute

pytestmark = pytest.mark.slow

SIZE = (8, 8, 8, 2)
FLAGS = "--shape 8 8 8 --channels 4 8 4 --bins 4 --epoch 2 --batch_size 8 --device cpu --shots share"


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A stand-in of 24 volumes of 16^3, by the real script."""
    import make_standin

    folder = tmp_path_factory.mktemp("heads") / "heads"
    argv = ["volumes", "--out", str(folder), "--scale", "0.024", "--img_size", "16"]
    assert make_standin.main(argv) == 0
    return folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def argv_of(heads, *flags):
    return [
        "--csv",
        str(heads / "volumes.csv"),
        *FLAGS.split(),
        *(word for flag in flags for word in flag.split()),
    ]


def ramp(shape=(6, 7, 8)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# --- files


def test_a_volume_is_standardised_and_of_the_shape_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", ramp())
    np.savez(tmp_path / "a.npz", volume=ramp()[..., None])
    volume = unpacked(decode_volume(tmp_path / "a.npy", SIZE))
    assert volume.shape == (8, 8, 8)
    assert abs(volume.mean()) < 1e-3
    assert abs(volume.std() - 1) < 1e-3
    np.testing.assert_array_equal(volume, unpacked(decode_volume(tmp_path / "a.npz", SIZE)))


@pytest.mark.parametrize("shape", [(6, 7, 8), (3, 14, 4), (1, 1, 1)])
def test_resizing_keeps_what_is_linear(shape):
    old = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in (6, 7, 8)], indexing="ij")).sum(0)
    new = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")).sum(0)
    inside = tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)  # a border has no outer neighbour
    np.testing.assert_allclose(resized(old.astype(np.float32), shape)[inside], new[inside], atol=1e-5)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_another_orientation_is_turned_to_ras_and_said(tmp_path, ending, monkeypatch):
    image = nibabel.Nifti1Image(ramp(), np.eye(4))
    turned = image.as_reoriented(
        nibabel.orientations.axcodes2ornt("PIL", (("L", "R"), ("P", "A"), ("I", "S")))
    )
    assert nibabel.aff2axcodes(turned.affine) != ("R", "A", "S")
    nibabel.save(image, tmp_path / f"ras{ending}")
    nibabel.save(turned, tmp_path / f"other{ending}")
    SAID.clear()
    said = []
    monkeypatch.setattr(
        "volume_files.log", SimpleNamespace(info=lambda text, *args: said.append(text % args))
    )
    volumes = [decode_volume(tmp_path / f"{name}{ending}", SIZE) for name in ("ras", "other", "other")]
    np.testing.assert_array_equal(volumes[0], volumes[1])
    axes = "".join(nibabel.aff2axcodes(turned.affine))
    assert said == [f"other{ending} is oriented as {axes}: turned to RAS, as are others like it"]


def nan():
    volume = ramp()
    volume[1, 2, 3] = np.nan
    return volume


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (ramp((3, 4, 5, 2)), r"is 4-D \(3, 4, 5, 2\), and a volume is 3-D"),
        (ramp((3, 4)), r"is 2-D \(3, 4\), and a volume is 3-D"),
        (np.zeros((0, 4, 4)), r"is empty \(0, 4, 4\)"),
        (nan(), "holds NaN or infinite values"),
        (np.array([[["text"]]]), "cannot be read"),
        (np.array([[[{}]]]), "cannot be read"),
    ],
    ids=["4-D", "2-D", "empty", "NaN", "text", "objects"],
)
def test_what_is_no_volume_is_named(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(BadImage, match=rf"a\.npy: {reason}"):
        decode_volume(tmp_path / "a.npy", SIZE)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".nii", ".nii.gz"])
def test_a_truncated_file_is_named(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ".nii" in ending:
        nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((6, 7, 8)), np.eye(4)), path)
    else:
        {".npy": np.save, ".npz": np.savez}[ending](path, ramp())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(BadImage, match=rf"a{ending}: cannot be read"):
        decode_volume(path, SIZE)


def test_other_files_are_named(tmp_path):
    (tmp_path / "a.dcm").touch()
    np.savez(tmp_path / "a.npz", one=ramp(), two=ramp())
    for name, reason in {
        "a.dcm": "ends in none of",
        "a.npz": "holds 2 arrays",
        "b.npy": "is missing",
    }.items():
        with pytest.raises(BadImage, match=reason):
            decode_volume(tmp_path / name, SIZE)


def test_missing_nibabel_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    nibabel.save(nibabel.Nifti1Image(ramp(), np.eye(4)), tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    told = r"a\.nii: NIfTI needs nibabel: pip install nibabel"
    with pytest.raises(UserError, match=told) as caught:
        decode_volume(tmp_path / "a.nii", SIZE)
    assert not isinstance(caught.value, BadImage), "--bad_images skip must not leave out every scan"


# --- transforms and network


def test_transforms_are_mirrors_and_shifts_of_the_volume():
    volumes = torch.from_numpy(np.stack([ramp((4, 5, 6))] * 2))
    numbers = torch.full((2, 8), 0.999)
    still = transformed(volumes, numbers, (0, 1, 2), 0, 0.0)
    assert torch.equal(still, volumes)
    numbers[1, 1] = 0.1
    assert torch.equal(transformed(volumes, numbers, (1,), 0, 0.0)[1], volumes[1].flip(1))
    assert torch.equal(transformed(volumes, numbers, (0,), 0, 0.0)[1], volumes[1]), "this axis is not chosen"
    moved = transformed(volumes, numbers, (), 2, 0.0)[0]
    assert torch.equal(moved[:2, :3, :4], volumes[0, 2:, 2:, 2:])
    assert torch.equal(moved[2:], moved[1:2].expand(2, 5, 6)), "the border is repeated"
    brighter = transformed(volumes, numbers, (), 0, 0.5)[0]
    torch.testing.assert_close(brighter, volumes[0] * (1 + 0.5 * 0.998) + 0.5 * 0.998)


def test_the_draw_alone_says_how_volumes_are_augmented():
    draw = Draw(np.arange(3), 7)
    assert torch.equal(uniform(draw), uniform(Draw(np.arange(3) + 5, 7)))
    assert not torch.equal(uniform(draw), uniform(Draw(np.arange(3), 8)))


def test_the_network_is_the_published_one():
    net = Sfcn()
    kernels = [module.kernel_size for module in net if isinstance(module, torch.nn.Conv3d)]
    assert kernels == [(3, 3, 3)] * 5 + [(1, 1, 1)]
    assert [module.out_channels for module in net if isinstance(module, torch.nn.Conv3d)] == list(CHANNELS)
    assert sum(isinstance(module, torch.nn.MaxPool3d) for module in net) == 5
    assert Sfcn((4, 8, 4))(torch.zeros(2, 1, 8, 8, 4)).shape == (2, 4)


# --- bad commands


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--shape 8 8", "--shape 8 8: a volume has three sides"),
        ("--shape 8 8 3", "--shape 8 8 3: 3 --channels need 4 voxels of a side at least"),
        ("--channels 4", "--channels: names two blocks at least"),
        ("--bin_width 5", "--bins and --bin_width: both say"),
        ("--shape 4 4 4 --batch_size 1", "leaves a batch of one volume"),
        ("--csv none.csv", "there is no such file; python scripts/make_standin.py volumes"),
        ("--target age", "has no column age"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(heads, capsys, flags, told):
    assert call(argv_of(heads, flags), "volume-dir") == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def changed(heads, folder, change):
    """The CSV with changed rows beside the same volumes; a run on it."""
    rows = read_csv(heads / "volumes.csv")
    rows = change(rows) or rows
    (folder / "volumes").symlink_to(heads / "volumes")
    write_csv(folder / "volumes.csv", rows)
    return argv_of(folder)


def part_a_subject(rows):
    twice = next(row for row in rows if sum(row["subject"] == other["subject"] for other in rows) > 1)
    twice["split"] = "test" if twice["split"] != "test" else "val"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (part_a_subject, "volumes.csv, line "),
        (lambda rows: [row.pop("split") for row in rows] and None, "python scripts/prepare.py own"),
        (
            lambda rows: [row.update(label=5) for row in rows] and None,
            "its training rows hold 1 different labels",
        ),
    ],
    ids=["a subject in two splits", "no splits", "a constant label"],
)
def test_a_bad_table_is_refused_in_one_line(heads, tmp_path, capsys, change, told):
    assert call(changed(heads, tmp_path, change), "volume-dir") == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    if change is part_a_subject:
        assert "subject 's0" in error
        assert " stands in " in error


# --- whole runs


@pytest.fixture(scope="module")
def trained(heads, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        argv = argv_of(heads, "--lds --fds --intensity 0.1")
        assert call(argv, "volume-dir") == 0
        return run_dir(argv, "volume").resolve()


@pytest.mark.slow
def test_a_run_writes_what_every_run_writes(trained, heads):
    result, rows = read(trained / "metrics.json"), pd.read_csv(trained / "predictions.csv")
    assert result["dataset"] == "volume"
    assert "volumes at scale 0.024" in result["standin"]
    test = [row for row in read_csv(heads / "volumes.csv") if row["split"] == "test"]
    assert list(rows["path"]) == [row["path"] for row in test]
    np.testing.assert_allclose(rows["label"], [float(row["label"]) for row in test], rtol=1e-6)
    assert rows["prediction"].between(0, 150).all(), "in the units of the label"


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_run_goes_on_to_the_same_bits(trained, heads, number):
    argv = argv_of(heads, "--lds --fds --intensity 0.1")
    load_train("volume-dir")
    pid = in_child(lambda: call(argv, "volume-dir"), lambda: killed_at(checkpoint, "save", number))
    assert ended(pid) == -9
    assert call(argv, "volume-dir") == 0
    assert_same_end(run_dir(argv, "volume"), outcome(trained))


@pytest.mark.slow
def test_evaluating_needs_test_volumes_alone(trained, heads, tmp_path):
    rows = read_csv(heads / "volumes.csv")
    (tmp_path / "volumes").mkdir()
    for row in rows:
        if row["split"] == "test":
            (tmp_path / row["path"]).symlink_to(heads / row["path"])
    write_csv(tmp_path / "volumes.csv", rows)
    flags = f"--lds --fds --evaluate --eval_model {trained / 'ckpt.best.pth.tar'} --metrics_json m.json --cache off"
    assert call(argv_of(tmp_path, flags), "volume-dir") == 0
    assert read(tmp_path / "m.json")["shots"] == read(trained / "metrics.json")["shots"]


@pytest.mark.parametrize("flags", ["--fast", "--amp bf16"])
def test_a_run_computes_fast(heads, tmp_path, monkeypatch, flags):
    monkeypatch.setattr(compute, "bf16_obstacle", lambda device: None)
    assert call(argv_of(heads, flags, f"--store_root {tmp_path}"), "volume-dir") == 0
    (result,) = tmp_path.glob("*/metrics.json")
    assert read(result)["shots"]["all"]["mae"] > 0


WAYS = [flags for kind in all_methods() for flags in ways_to_ask(kind)]


@pytest.mark.parametrize("flags", WAYS)
def test_every_method_takes_a_step(heads, trained, tmp_path, flags):
    from common.method import choose_methods
    from common.training.regressor import build_regressor, set_up

    task = load_task("volume")
    try:
        settings = command.settings_of(task, "", " ", argv_of(heads, flags))
    except UserError as error:
        assert "--pretrained" in str(error)
        argv = argv_of(heads, flags, f"--pretrained {trained / 'ckpt.best.pth.tar'}")
        settings = command.settings_of(task, "", " ", argv)
    methods, data = choose_methods(task, settings), task.load(settings)
    for method in methods:
        data = method.prepare(data)
    assert isinstance(data.train, VolumeSplit)
    regressor = build_regressor(task, settings, data, methods)
    set_up(regressor, task, settings, data)
    draw = Draw(np.tile(np.arange(8), regressor.views), 0)
    (batch,) = data.train.batches([draw], augment=True, device=torch.device("cpu"))
    losses = regressor(batch, 0)
    assert losses
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_mixed_volumes_lie_between_two(heads):
    task = load_task("volume")
    data = task.load(command.settings_of(task, "", " ", argv_of(heads)))
    rows = np.arange(3)

    def plan(features):
        assert features.shape == (3, 512)
        share, noise = np.array([0, 0.5, 0], np.float32), np.array([0, 0, 9])
        return SimpleNamespace(
            first=rows, second=rows[::-1], share=share, noise=noise, labels=np.ones(3, np.float32)
        )

    made = data.train.resampled(rows, plan)
    old, new = (unpacked(split.pixels(rows, None)) for split in (data.train, made))
    np.testing.assert_array_equal(new[0], old[0])
    np.testing.assert_array_equal(new[1], old[1])  # mixed with itself
    assert 0.05 < (new[2] - old[2]).std() < 0.2
