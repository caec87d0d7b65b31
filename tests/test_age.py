"""The age data sets before their first step: the model, its keys, the flags, the bins, and bad input."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from golden_weights import filled
from runs import history, read
from tiny_faces import TINY, call, command, load_train, read_csv, run_dir, write_csv, write_faces
from torch import nn

from common import cli
from common.bins import Bins
from common.errors import UserError
from common.images import task as age
from common.images.split import FaceSplit
from common.method import choose_methods
from common.metrics import Shots
from common.settings import Running
from common.task import Batch, Data, load_task
from common.training.checkpoint import renamed
from common.training.command import kinds_of, run_name, settings_of
from common.training.regressor import Regressor, build_regressor

pytestmark = pytest.mark.slow

TASK = load_task("agedb")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A good data folder, with its cache; tests that spoil something take `data`."""
    folder = write_faces(tmp_path_factory.mktemp("faces") / "data")
    assert call(command(folder, f"--epoch 1 --store_root {folder.parent}")) == 0
    return folder


@pytest.fixture
def data(faces, tmp_path):
    return shutil.copytree(faces, tmp_path / "data")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(argv, capsys, *told, code=2, folder="agedb-dir"):
    """The command ends with `code` and one line that tells all of this; it leaves no run directory."""
    capsys.readouterr()
    assert call(argv, folder) == code
    error = capsys.readouterr().err
    assert error.startswith(f"{folder}/train.py: error: ")
    assert error.count("\n") == 1
    for part in told:
        assert str(part) in error
    return error


# --- the model


@pytest.fixture(scope="module")
def resnet50():
    encoder = age.ResNetEncoder("resnet50")
    return Regressor(encoder, nn.Linear(encoder.feature_dim, 1)).eval()


def test_keys_shapes_and_types_are_the_published_ones(resnet50, golden):
    state = renamed(resnet50.state_dict(), TASK.key_map)
    ours = {key: [list(value.shape), str(value.dtype)] for key, value in state.items()}
    published = json.loads((golden / "age_state_keys.json").read_text())
    assert len(published) == 320
    assert ours == {f"module.{key}": what for key, what in published.items()}


def test_outputs_are_the_published_models(resnet50, golden):
    keys = {ours: theirs.removeprefix("module.") for ours, theirs in named(resnet50).items()}
    order = {key: i for i, key in enumerate(sorted(keys.values()))}
    state = resnet50.state_dict()
    weights = {key: filled(keys[key], value, order[keys[key]]) for key, value in state.items()}
    resnet50.load_state_dict(weights)
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        features = resnet50.encoder(images)
        outputs = resnet50.predict(images).mean
    assert features.shape == (4, 2048)
    assert outputs.shape == (4, 1)
    published = json.loads((golden / "age_model_out.json").read_text())
    np.testing.assert_allclose(outputs.squeeze(1).numpy(), published, rtol=0, atol=1e-4)


def named(regressor):
    """Each key here, and the published one."""
    return {key: next(iter(renamed({key: 0}, TASK.key_map))) for key in regressor.state_dict()}


def test_parameters_stand_in_the_published_order(resnet50):
    """The optimizer's state knows parameters by their number: first to last layer, then the head."""
    names = [name for name, _ in resnet50.named_parameters()]
    assert names[:3] == ["encoder.conv1.weight", "encoder.bn1.weight", "encoder.bn1.bias"]
    assert names[-2:] == ["head.weight", "head.bias"]
    first = [name.split(".")[1] for name in names[3:-2]]
    assert first == sorted(first), "layer1 … layer4"


def test_models_of_torchvision_have_features():
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"} < set(age.resnets())
    for name in ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"):
        with torch.device("meta"):
            encoder = age.ResNetEncoder(name)
            features = encoder(torch.zeros(2, 3, 64, 64))
        assert features.shape == (2, encoder.feature_dim)
        assert encoder.feature_dim in (512, 2048)


# --- the flags

PUBLISHED = {
    "lds": False, "lds_kernel": "gaussian", "lds_ks": 9, "lds_sigma": 1, "fds": False,
    "fds_kernel": "gaussian", "fds_ks": 9, "fds_sigma": 1, "start_update": 0, "start_smooth": 1,
    "bucket_num": 100, "bucket_start": 3, "fds_mmt": 0.9, "reweight": "none", "retrain_fc": False,
    "dataset": "agedb", "data_dir": "./data", "model": "resnet50", "store_root": "checkpoint",
    "store_name": "", "gpu": None, "optimizer": "adam", "loss": "l1", "lr": 1e-3, "epoch": 90,
    "momentum": 0.9, "weight_decay": 1e-4, "schedule": (60, 80), "batch_size": 256, "print_freq": 10,
    "img_size": 224, "workers": 32, "resume": "", "pretrained": "", "evaluate": False,
}  # fmt: skip
OTHERWISE = {"lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2}  # the paper's kernels (LDS 4)
LATER = {"bucket_num", "bucket_start", "data_dir"}  # known once the data set is


def parsed(*argv):
    return settings_of(TASK, "train.py", "x", [str(word) for word in argv])


def test_every_published_flag_has_its_published_default():
    args = parsed().values()
    args["resume"] = args["resume"] or ""  # a path, or none
    args["data_dir"] = cli.parse("train.py", "x", kinds_of(TASK), TASK.defaults, [])[Running].data_dir
    wanted = {name: value for name, value in (PUBLISHED | OTHERWISE).items() if name not in LATER}
    assert {name: str(args[name]) if name == "store_root" else args[name] for name in wanted} == wanted
    for name in LATER:
        assert args[name] is None


@pytest.mark.parametrize(
    "flags",
    [
        "--data_dir /faces --reweight sqrt_inv --lds --lds_kernel gaussian --lds_ks 5 --lds_sigma 2",
        "--data_dir /faces --fds --fds_kernel gaussian --fds_ks 5 --fds_sigma 2",
        "--data_dir /faces --retrain_fc --reweight inverse --pretrained vanilla.pth.tar --gpu 0",
        "--evaluate --lds --fds --resume best.pth.tar --bucket_num 100 --bucket_start 3 --workers 4",
        "--dataset agedb --model resnet50 --store_root a --store_name b --optimizer sgd --momentum 0.8 "
        "--weight_decay 1e-3 --loss huber --lr 0.1 --epoch 3 --schedule 1 2 --batch_size 9 --print_freq 1 "
        "--img_size 64 --start_update 1 --start_smooth 2 --fds_mmt 0.5",
    ],
)
def test_published_commands_are_understood(flags):
    args = parsed(*flags.split()).values()
    for flag, value in zip(flags.split(), flags.split()[1:], strict=False):
        if flag.startswith("--") and not value.startswith("--") and flag not in ("--resume", "--schedule"):
            kind = type(args[flag[2:]])
            assert args[flag[2:]] == kind(value)


@pytest.mark.parametrize(
    ("flags", "reweight"),
    [
        ("", "none"),
        ("--lds", "sqrt_inv"),
        ("--lds --reweight inverse", "inverse"),
        ("--fds", "none"),
        ("--reweight sqrt_inv", "sqrt_inv"),
    ],
)
def test_lds_alone_is_the_papers_row(flags, reweight):
    assert parsed(*flags.split()).values()["reweight"] == reweight


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("", "agedb_resnet50_adam_l1_0.001_256_seed_0"),
        ("--reweight inverse --loss mse --seed 3", "agedb_resnet50_inverse_adam_mse_0.001_256_seed_3"),
        ("--lds --lds_kernel triang --lds_ks 9", "agedb_resnet50_lds_tri_9_adam_l1_0.001_256_seed_0"),
        (
            "--model resnet18 --lds --fds --batch_size 16",
            "agedb_resnet18_lds_gau_5_2_fds_gau_5_2_0_1_0.9_adam_l1_0.001_16_seed_0",
        ),
        (
            "--fds --fds_kernel laplace --fds_sigma 1.5 --start_update 1 --start_smooth 2 --fds_mmt 0.99",
            "agedb_resnet50_fds_lap_5_1.5_1_2_0.99_adam_l1_0.001_256_seed_0",
        ),
        (
            "--fds --fds_variant released",
            "agedb_resnet50_fds_gau_5_2_0_1_0.9_released_adam_l1_0.001_256_seed_0",
        ),
        (
            "--store_name x --retrain_fc --pretrained y --reweight inverse --optimizer sgd --lr 1e-4",
            "agedb_resnet50_x_inverse_retrain_fc_sgd_l1_0.0001_256_seed_0",
        ),
        ("--dataset own --store_name x", "own_resnet50_x_adam_l1_0.001_256_seed_0"),
    ],
)
def test_a_run_has_its_published_name_and_the_seed(flags, name):
    assert run_name(TASK, parsed(*flags.split())) == name


def test_the_help_says_what_differs_and_which_row(capsys):
    for folder, table in (("agedb-dir", "Table 2"), ("imdb-wiki-dir", "Table 1")):
        with pytest.raises(SystemExit) as end:
            load_train(folder).main(["--help"])
        assert end.value.code == 0
        told = " ".join(capsys.readouterr().out.split())
        for part in (
            table,
            "the published age code has 9 and 5",
            "the published age code has 1",
            "with --lds the paper's scheme",
        ):
            assert part in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--model vgg16", "--model: invalid choice: 'vgg16'"),
        ("--batchsize 4", "unknown argument --batchsize (did you mean --batch_size?)"),
        ("--eval", "unknown argument --eval"),
        ("--img_size 4", "--img_size: '4' is no whole number of at least 8"),
        ("--epoch 0", "--epoch/--epochs: '0' is no whole number"),
        ("--lr -1", "--lr/--learning-rate/--learning_rate: '-1' is no finite number"),
        ("--fds_ks 4", "--fds_ks: '4' is no odd whole number"),
        ("--bin_width 0", "--bin_width: '0' is no finite number"),
        ("--bad_images maybe", "--bad_images: invalid choice: 'maybe'"),
        ("--lds --reweight none", "drop --reweight none"),
        ("--retrain_fc", "--retrain_fc needs --pretrained CKPT"),
        ("--device cuda:77", "--device cuda:77: there is no such device here; try --device auto"),
        ("--gpu 77", "--device cuda:77: there is no such device here"),
    ],
)
def test_a_bad_flag_is_named(faces, capsys, tmp_path, flags, told):
    refused(command(faces, flags), capsys, told)
    assert not list((tmp_path / "checkpoint").glob("*"))


# --- bins, shots and buckets


def weights_of(labels, *flags):
    """The loss weights of training images with these ages."""
    split = FaceSplit(labels, [], None, 0, np.arange(len(labels)))
    data = Data(split, split, split, age.AGES, Shots(age.AGES, age.AGES.counts(labels), 100, 20))
    for method in choose_methods(TASK, parsed(*flags)):
        data = method.prepare(data)
    return data.train.weights


def built(settings, data):
    return build_regressor(TASK, settings, data, choose_methods(TASK, settings))


def test_inverse_weights_count_from_5_to_1000_as_published():
    labels = np.repeat([10.0, 20.0, 30.0, 40.0], [1, 5, 1000, 2000]).astype(np.float32)
    weights = weights_of(labels, "--reweight", "inverse")
    assert weights[[0, 1, 6, -1]] / weights[-1] == pytest.approx([200, 200, 1, 1])
    assert weights.mean() == pytest.approx(1)
    weights = weights_of(labels, "--reweight", "sqrt_inv")
    assert (weights[[0, 1, 6]] / weights[-1]) ** 2 == pytest.approx([2000, 400, 2], rel=1e-5)
    assert weights_of(labels) is None


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_statistics_are_of_raw_features_or_as_released_of_calibrated_ones(faces, variant):
    """FDS 3 of docs/differences.md."""
    args, data = loaded(faces, "--fds", "--fds_variant", variant)
    regressor = built(args, data).train()
    method = regressor.methods["smoothing"]
    method.statistics.smoothed_mean_last_epoch.fill_(2.0)
    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([[10.0], [11.0], [12.0], [13.0]])
    seen = regressor.see(Batch(images, labels, None), 1)
    raw = regressor.encoder(images)
    torch.testing.assert_close(seen.features, raw + 2)
    torch.testing.assert_close(seen.raw, raw)
    loss = regressor(Batch(images, labels, None), 1)["l1"]
    torch.testing.assert_close(loss, (regressor.head(raw + 2) - labels).abs().mean())
    collected = []
    method.statistics.collect = lambda features, targets: collected.append(features)
    method.statistics.update = lambda epoch: None
    method.end_of_epoch(1, lambda what: iter([seen]))
    torch.testing.assert_close(collected[0], raw + 2 if variant == "released" else raw)
    regressor.eval()
    expected = regressor.head(regressor.encoder(images))
    assert torch.equal(regressor.predict(images).mean, expected), "off at test time"


@pytest.mark.parametrize(("start", "buckets"), [(3, 97), (0, 100)])
def test_fds_has_the_published_settings(faces, start, buckets):
    args, data = loaded(faces, "--fds", "--bucket_start", str(start))
    fds = built(args, data).methods["smoothing"].statistics
    assert (fds.clip, fds.empty, fds.variant, fds.momentum) == ((0.1, 10), "keep", "paper", 0.9)
    assert fds.running_var.shape == (buckets, 64)
    assert (TASK.select(args), TASK.focal_beta, TASK.adam_weight_decay) == ("mae", 0.2, 0)


def loaded(folder, *flags):
    """The arguments and the data of a command."""
    settings = parsed("--data_dir", folder, *TINY.split(), *flags)
    return settings, TASK.load(settings)


def shot_counts(data):
    return {name: int(mask.sum()) for name, mask in data.shots.groups(data.train.labels).items()}


def test_ages_have_the_published_bins_shots_and_buckets(faces):
    args, data = loaded(faces)
    assert data.bins == Bins.integers(0, 120)
    assert data.shots.bins == Bins.integers(0, 200), "published shots do not pool ages above 120"
    assert data.buckets == (3, 100)
    labels = [int(row["age"]) for row in read_csv(faces / "agedb.csv") if row["split"] == "train"]
    counts = np.bincount(labels)[labels]
    expected = {"many": (counts > 3).sum(), "medium": ((counts >= 2) & (counts <= 3)).sum()}
    got = shot_counts(data)
    assert (got["many"], got["medium"]) == (expected["many"], expected["medium"])
    assert min(got.values()) > 0, "the data exercise every shot"


def test_ages_above_120_count_as_themselves_in_the_shots(data):
    rows = read_csv(data / "agedb.csv")
    for row, old in zip(rows, [130, 130, 130, 130, 140], strict=False):
        row["age"] = old
    write_csv(data / "agedb.csv", rows)
    _, loaded_data = loaded(data)
    assert list(loaded_data.shots.of(np.array([130, 140, 120]))) == ["many", "few", "few"]
    assert loaded_data.bins.counts(loaded_data.train.labels)[120] == 5, "re-weighting pools them"


def test_shot_thresholds_are_the_published_ones_by_default(faces):
    shots = TASK.load(parsed("--img_size", "16", "--data_dir", faces)).shots
    assert (shots.many_above, shots.few_below) == (100, 20)
    _, data = loaded(faces, "--many_above", "5", "--few_below", "0")
    assert (data.shots.many_above, data.shots.few_below) == (5, 0)


def standin(folder, **more):
    told = {
        "dataset": "agedb",
        "scale": 0.01,
        "seed": 0,
        "note": "made up",
        "many_above": 1.5,
        "few_below": 0.5,
    }
    (folder / "standin.json").write_text(json.dumps(told | more))


def test_a_standin_brings_its_thresholds_and_a_flag_moves_them(data):
    standin(data)
    told = TASK.load(parsed("--data_dir", data, "--img_size", "16"))
    assert (told.shots.many_above, told.shots.few_below) == (1.5, 0.5)
    assert "made up" in told.standin
    _, told = loaded(data)
    assert (told.shots.many_above, told.shots.few_below) == (3, 2), "what the command says counts"


def own_labels(low, high, decimals, seed=1):
    """A peak and long tails between two labels that are always there; 128 rows."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(low + (high - low) * 0.4, (high - low) * 0.12, 126)
    return np.round(np.concatenate([[low, high], middle.clip(low, high)]), decimals)


KILOGRAMS = ("--dataset", "own", "--target", "weight", "--bin_width", "2.5", "--fds", "--lds")


@pytest.fixture(scope="module")
def kilograms(tmp_path_factory):
    labels = own_labels(40.0, 120.5, 1)
    return write_faces(tmp_path_factory.mktemp("own") / "data", name="own", target="weight", labels=labels)


def test_float_labels_get_bins_of_a_width_and_shots_by_bin(kilograms):
    args, data = loaded(kilograms, *KILOGRAMS, "--label_min", "40", "--label_max", "120.5")
    assert data.bins == data.shots.bins == Bins.uniform(40, 122.5, 33)
    assert data.buckets == (0, 33)
    labels = data.train.labels.astype(np.float64)
    edges = 40 + 2.5 * np.arange(34)
    np.testing.assert_array_equal(data.bins.counts(data.train.labels), np.histogram(labels, edges)[0])
    got = shot_counts(data)
    assert got["many"] > got["few"] > 0, "labels that are nearly all different share bins"
    assert len(np.unique(labels)) > 50


def test_float_labels_without_limits(kilograms):
    args, data = loaded(kilograms, *KILOGRAMS)
    assert data.bins == Bins.uniform(40, 122.5, 33), "from the labels, 40.0 to 120.5"
    args, data = loaded(kilograms, "--dataset", "own", "--target", "weight")
    assert data.bins == Bins.uniform(40, 121, 81), "a bin for each whole kilogram"
    assert data.buckets == (0, 81)


@pytest.mark.parametrize(
    ("decimals", "flags", "bins"),
    [
        (0, "--label_min -40 --label_max 25", Bins.integers(-40, 25)),
        (0, "--label_min -30", Bins.integers(-30, 200)),
        (1, "--label_min -30 --label_max 20 --bin_width 0.5", Bins.uniform(-30, 20, 100)),
        (1, "--label_min -30.25 --bin_width 5", Bins.uniform(-30.25, 24.75, 11)),
    ],
)
def test_negative_labels(tmp_path, decimals, flags, bins):
    labels = own_labels(-30, 20, decimals)
    folder = write_faces(tmp_path / "data", name="own", target="celsius", labels=labels)
    args, data = loaded(folder, "--dataset", "own", "--target", "celsius", *flags.split(), "--fds")
    assert data.bins == data.shots.bins == bins
    assert data.buckets == (0, bins.num)
    assert data.train.labels.min() == -30
    assert data.bins.counts(data.train.labels).sum() == 80
    assert (data.bins.left_edges[data.bins.index(data.train.labels)] <= data.train.labels + 1e-4).all()


@pytest.mark.parametrize(
    ("flags", "target"),
    [
        ("--label_min 40 --label_max 120.5", "weight"),
        ("--label_min -30 --label_max 30", "celsius"),
    ],
)
def test_own_labels_train_with_lds_and_fds_on_every_bin(tmp_path, flags, target):
    labels = own_labels(-30, 20, 1) if target == "celsius" else own_labels(40.0, 120.5, 1)
    folder = write_faces(tmp_path / "data", name="own", target=target, labels=labels)
    argv = command(folder, " ".join(KILOGRAMS).replace("weight", target), flags)
    assert call(argv) == 0
    path = run_dir(argv)
    assert path.name.startswith("own_resnet_tiny_lds_")
    _, data = loaded(folder, *argv[2:])
    state = torch.load(path / "ckpt.pth.tar")["state_dict"]
    counted = data.bins.counts(data.train.labels)
    assert (counted > 0).sum() > 10
    np.testing.assert_array_equal(state["module.FDS.num_samples_tracked"].numpy(), 2 * counted)
    assert state["module.FDS.running_mean"].shape == (data.bins.num, 64)
    shots = read(path / "metrics.json")["shots"]
    assert shots["many"]["n"] > 0 < shots["few"]["n"]
    assert all(math.isfinite(row["val"]["all"]["mae"]) for row in history(path))


# --- bad input


def spoil(path, change):
    """Rewrite the rows of a CSV; `change` gets them as a list of dicts."""
    rows = read_csv(path)
    rows = change(rows) or rows
    write_csv(path, rows)


def put(row, column, value):
    return lambda rows: rows[row].update({column: value})


BAD_TABLES = {
    "no age column": (
        lambda rows: [{"years" if k == "age" else k: v for k, v in row.items()} for row in rows],
        ("has no column age", "years, path, split", "--target"),
    ),
    "no split column": (
        lambda rows: [{k: v for k, v in row.items() if k != "split"} for row in rows],
        ("has no column split",),
    ),
    "unknown split": (put(3, "split", "dev"), ("unknown split (line 5: 'dev')", "train, val, test")),
    "nan": (put(0, "age", "nan"), ("age is not a number (line 2: 'nan')", "correct these rows")),
    "empty": (put(1, "age", ""), ("age is not a number (line 3: '')",)),
    "negative": (put(2, "age", "-3"), ("age is outside 0 to 200 (line 4: '-3')", "--label_min")),
    "too old": (put(9, "age", "201"), ("age is outside 0 to 200 (line 11: '201')", "--label_max")),
    "outside": (
        put(4, "path", "../a.png"),
        ("path leaves the data folder", "line 6: '../a.png'", "--data_dir"),
    ),
    "absolute": (put(4, "path", "/a.png"), ("path leaves the data folder", "line 6: '/a.png'")),
    "no validation": (
        lambda rows: [row for row in rows if row["split"] != "val"],
        ("the val split is empty", "train, val, test"),
    ),
    "no test": (
        lambda rows: [row for row in rows if row["split"] != "test"],
        ("the test split is empty",),
    ),
    "one training sample": (
        lambda rows: [row for i, row in enumerate(rows) if i == 0 or row["split"] != "train"],
        ("the train split has one sample", "at least two"),
    ),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_a_bad_table_is_refused_before_anything_is_written(data, capsys, tmp_path, what):
    change, told = BAD_TABLES[what]
    spoil(data / "agedb.csv", change)
    refused(command(data), capsys, data / "agedb.csv", *told)
    assert not list((tmp_path / "checkpoint").glob("*")), "the mended table can take the same name"


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_a_missing_image_is_named(data, capsys, tmp_path, cache):
    (data / "faces/7.png").unlink()
    told = (data, "1 of 128 images cannot be used: faces/7.png is missing", "--bad_images skip")
    refused(command(data, f"--cache {cache}"), capsys, *told)
    assert not list((tmp_path / "checkpoint").glob("*"))


def truncate(data, *numbers):
    for number in numbers:
        file = data / f"faces/{number}.png"
        file.write_bytes(file.read_bytes()[:200])


def test_truncated_images_are_listed(data, capsys):
    truncate(data, 7, 90)
    error = refused(command(data), capsys, data, "2 of 128 images cannot be used", "--bad_images skip")
    assert "faces/7.png cannot be read" in error
    assert "faces/90.png cannot be read" in error


def test_a_truncated_image_without_a_cache_is_named_when_it_is_reached(data, capsys):
    truncate(data, 7)
    refused(command(data, "--cache off"), capsys, data / "faces/7.png", "cannot be read", "--bad_images skip")


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_skip_trains_on_the_rest_and_says_how_many(data, capsys, cache):
    truncate(data, 7, 90)
    (data / "faces/120.png").unlink()
    argv = command(data, f"--epoch 1 --bad_images skip --cache {cache}")
    assert call(argv) == 0
    out = capsys.readouterr().out
    assert "3 of 128 images cannot be used" in out
    assert "left out" in out
    assert "79 training, 23 validation, 23 test" in out
    assert read(run_dir(argv) / "metrics.json")["shots"]["all"]["n"] == 23


def test_a_missing_data_folder_says_how_to_get_it(capsys, tmp_path):
    for folder, name in (("agedb-dir", "agedb"), ("imdb-wiki-dir", "imdb-wiki")):
        told = (
            tmp_path / f"none/{name.replace('-', '_')}.csv: there is no such file",
            f"python scripts/download.py {name}",
            f"python scripts/make_standin.py {name}",
        )
        refused(command(tmp_path / "none"), capsys, *told, folder=folder)


def test_a_table_without_its_images_says_how_to_get_them(data, capsys):
    shutil.rmtree(data / "faces")
    told = (data, "holds none of the 128 images of agedb.csv", "scripts/download.py agedb")
    refused(command(data), capsys, *told)


def test_a_missing_table_of_own_data_is_not_to_be_downloaded(faces, capsys):
    error = refused(
        command(faces, "--dataset own"), capsys, faces / "own.csv", "there is no such file", "--dataset"
    )
    assert "download" not in error


def test_a_broken_standin_file_is_named(data, capsys):
    (data / "standin.json").write_text("{}")
    refused(command(data), capsys, data / "standin.json", "is broken")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--fds --bucket_start 61", ("--bucket_start 61", "training labels end in bin")),
        ("--fds --bucket_start 5 --bucket_num 6", ("--bucket_start 5", "--bucket_num 6", "--fds_ks 5")),
        ("--label_min 50 --label_max 10", ("--label_min is 50", "--label_max 10")),
        ("--label_max 9", ("outside 0 to 9", "--label_max")),
        ("--bin_width 1e-9", ("--bin_width 1e-09",)),
        ("--batch_size 1", ("--batch_size 1:", "--img_size 16", "batch norm")),
        ("--batch_size 79", ("--batch_size 79:", "a batch of one image", "--img_size 16")),
        ("--resume no.pth.tar", ("no.pth.tar: there is no such checkpoint",)),
        ("--pretrained no.pth.tar", ("no.pth.tar: there is no such checkpoint",)),
        ("--evaluate --resume no.pth.tar", ("no.pth.tar: there is no such checkpoint",)),
        ("--target years", ("has no column years", "--target")),
        ("--cache agedb.csv", ("agedb.csv", "--cache")),
    ],
)
def test_flags_that_do_not_fit_the_data_are_refused(data, capsys, tmp_path, flags, told):
    (tmp_path / "agedb.csv").touch()
    refused(command(data, flags), capsys, *told)
    assert not list((tmp_path / "checkpoint").glob("*"))


def test_evaluation_without_a_run_names_the_file(faces, capsys, tmp_path):
    argv = command(faces, "--evaluate")
    refused(argv, capsys, run_dir(argv) / "ckpt.best.pth.tar", "there is no such checkpoint")
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["resnet_tiny", "resnet18"])
def test_a_batch_of_one_is_refused_exactly_where_batch_norm_refuses_it(name):
    """The last feature map is 1 x 1 up to 32 pixels."""
    split = FaceSplit(np.zeros(33, np.float32), [], None, 0, np.arange(33))
    bins = Bins.integers(0, 9)
    data = Data(split, split, split, bins, Shots(bins, bins.counts(split.labels), 100, 20))
    for size in (32, 33):
        args = parsed("--model", name, "--batch_size", "16", "--img_size", size)
        images = torch.zeros(1, 3, size, size)
        if size == 32:
            with pytest.raises(UserError, match=r"--batch_size 16: leaves a batch of one .* --img_size 32"):
                age.build(args, data)
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                age.ResNetEncoder(name).train()(images)
        else:
            assert age.build(args, data).train()(images).shape[0] == 1
        args = args.with_(evaluate=True)
        assert age.build(args, data).eval()(images).shape[0] == 1
