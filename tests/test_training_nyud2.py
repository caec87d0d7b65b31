"""The published depth program, trained from beginning to end, against this project's own trainings."""

import json

import numpy as np
import pytest
from depth_data import DepthSplit
from PIL import Image
from whole_training import (
    ROUNDED,
    compare,
    compare_tables,
    golden_file,
    prepare_model,
    rehearse,
    use_orders,
    without_augmentation,
)

pytestmark = pytest.mark.slow

REFERENCE = golden_file("training_nyud2.npz")
METRICS = ("rmse", "mse", "mae", "abs_rel", "log10", "delta1", "delta2", "delta3", "n")
TRAIN, TEST = 14, 5
SUBSET = slice(3, 9)
FLAGS = "--img_size 48 --pretrained_encoder none --workers 2"


def pictures(seed, holes):
    """Yield the image and the depth in millimetres of each of the reference's files, training first."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:120, 0:160]
    for i in range(TRAIN + TEST):
        a, b = rng.integers(0, 40), rng.integers(0, 40)
        near, span = rng.integers(750, 3000), rng.integers(2000, 6500)
        plane = a * x + b * y + 1
        steps = 40 * rng.integers(0, 8, (15, 20)).repeat(8, 0).repeat(8, 1)
        depth = np.minimum(near + (span * plane) // plane.max() + steps, 9950)
        if holes and i < TRAIN:
            depth[rng.integers(0, 100) :, :][:16, 16:64] = 0
        shade = (255 - depth // 50)[..., None] // np.array([1, 2, 3])
        noise = rng.integers(0, 64, (15, 20, 3)).repeat(8, 0).repeat(8, 1)
        yield (shade * 3 // 4 + noise).clip(0, 255).astype(np.uint8), depth


def write_data(folder, seed, holes):
    """Write the images, depths, lists, mask and counts of a seed."""
    for place in ("nyu2_train/room_0000_out", "nyu2_test"):
        (folder / place).mkdir(parents=True)
    rows, image_sums, depth_sums = [], [], []
    for i, (image, depth) in enumerate(pictures(seed, holes)):
        place = f"nyu2_train/room_0000_out/{i}" if i < TRAIN else f"nyu2_test/{i}"
        stored = ((depth * 255 + 5000) // 10000).astype(np.uint8) if i < TRAIN else depth.astype(np.uint16)
        Image.fromarray(image).save(folder / f"{place}_image.png")
        Image.fromarray(stored).save(folder / f"{place}_depth.png")
        rows.append(f"data/{place}_image.png,data/{place}_depth.png")
        image_sums.append(image.sum(dtype=np.int64))
        depth_sums.append(depth.sum(dtype=np.int64))
    suffix = f"{seed}_holes" if holes else f"{seed}"
    assert (image_sums == REFERENCE[f"image_sums_{suffix}"]).all()
    assert (depth_sums == REFERENCE[f"depth_sums_{suffix}"]).all()
    lists = {"train": rows[:TRAIN], "test": rows[TRAIN:], "train_FDS_subset": rows[SUBSET]}
    for name, lines in lists.items():
        (folder / f"nyu2_{name}.csv").write_text("\n".join(lines) + "\n")
    mask = np.random.default_rng([seed, 1]).integers(0, 20, (TEST, 228, 304)) == 0
    assert mask.sum() == REFERENCE[f"mask_sum_{seed}"]
    np.save(folder / "test_balanced_mask.npy", mask.astype(np.uint8))
    counts = {"counts": REFERENCE["counts"].tolist(), "images": TRAIN}
    (folder / "depth_counts.json").write_text(json.dumps(counts))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function from a configuration to its training; each is trained once."""
    folder, runs, data = tmp_path_factory.mktemp("nyud2"), {}, {}

    def train(name):
        if name in runs:
            return runs[name]
        own = REFERENCE.configurations[name]
        seed, holes, flags = own["seed"], own["holes"], [*FLAGS.split(), *own["flags"].split()]
        if holes not in data:
            data[holes] = write_data(folder / f"data{seed}{holes}", seed, holes)
        if own["after"]:
            flags += ["--pretrained", str(train(own["after"]).best)]
        flags += ["--keep_invalid"] if holes else []
        flags += ["--fds_variant", "released"] if name == "lds_fds_whole" else []

        def prepare(patch, recording):
            use_orders(
                patch, REFERENCE[f"orders_{seed}"]
            )  # FDS's pass goes in an order of its own: the file's
            without_augmentation(patch, DepthSplit)
            prepare_model(patch, recording, "R.conv2.bias", own["bias"])

        runs[name] = rehearse("nyud2-dir", data[holes], folder / name, flags, prepare)
        return runs[name]

    return train


def differences(run, name):
    """Return how a training differs from the published one."""
    reference = REFERENCE.of(name)
    found = compare(run, reference, METRICS, REFERENCE.keys)
    compare_tables(found, run.test(METRICS), reference["val"][reference["best_epoch"]], "test", METRICS)
    if "bucket_weights" in reference:
        found.add("bucket_weights", run.recording.weights, reference["bucket_weights"], ROUNDED)
    else:
        found.add("bucket_weights", run.recording.weights is None, True, 0)
    return found


@pytest.mark.parametrize("name", ["vanilla", "lds_fds", "lds_fds_whole", "rrt", "holes"])
def test_11_8_11_9_a_whole_training_is_the_published_one(trained, name):
    assert differences(trained(name), name).too_large == {}
