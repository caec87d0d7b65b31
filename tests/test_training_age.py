"""The published age program, trained from beginning to end, against this project's own trainings."""

import numpy as np
import pytest
from PIL import Image
from tiny_faces import write_csv
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

from common.images.split import FaceSplit

pytestmark = pytest.mark.slow

REFERENCE = golden_file("training_age.npz")
METRICS = ("mse", "mae", "gm")
SPLITS = {"train": 90, "val": 24, "test": 24}
FLAGS = "--img_size 40 --many_above 8 --few_below 3 --workers 2"
AS_HERE = [name for name in REFERENCE.configurations if name != "rrt_fds"]


def write_data(folder, seed):
    """Write the images of a seed and `agedb.csv`."""
    folder.mkdir()
    labels = REFERENCE[f"labels_{seed}"].astype(int)
    rng = np.random.default_rng([seed, 1])
    images = (rng.integers(0, 128, (len(labels), 40, 40, 3)) + 2 * labels[:, None, None, None]).astype(
        np.uint8
    )
    assert (images.sum((1, 2, 3), dtype=np.int64) == REFERENCE[f"image_sums_{seed}"]).all()
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row}.png")
    splits = np.repeat(list(SPLITS), list(SPLITS.values()))
    rows = [
        {"age": age, "path": f"{row}.png", "split": split}
        for row, (age, split) in enumerate(zip(labels, splits, strict=True))
    ]
    write_csv(folder / "agedb.csv", rows)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function from a configuration to its training; each is trained once."""
    folder, runs, data = tmp_path_factory.mktemp("age"), {}, {}

    def train(name):
        if name in runs:
            return runs[name]
        own = REFERENCE.configurations[name]
        seed, flags = own["seed"], [*FLAGS.split(), *own["flags"].split()]
        if seed not in data:
            data[seed] = write_data(folder / f"data{seed}", seed)
        if own["after"]:
            flags += ["--pretrained", str(train(own["after"]).best)]
        orders = REFERENCE[f"orders_{seed}"]

        def prepare(patch, recording):
            use_orders(patch, orders[:, 0], orders[:, 1])
            without_augmentation(patch, FaceSplit)
            prepare_model(patch, recording, "linear.bias", own["bias"])

        runs[name] = rehearse("agedb-dir", data[seed], folder / name, flags, prepare)
        return runs[name]

    return train


def differences(run, name):
    """Return how a training differs from the published one."""
    reference = REFERENCE.of(name)
    found = compare(run, reference, METRICS, REFERENCE.keys)
    compare_tables(found, run.test(METRICS), reference["test"], "test", METRICS)
    found.add("best", [check["best"] for check in run.checks], reference["best"], 0)
    if "weights" in reference:
        found.add("weights", run.recording.weights, reference["weights"], ROUNDED)
    else:
        found.add("weights", run.recording.weights is None, True, 0)
    return found


@pytest.mark.parametrize(
    "name",
    [*AS_HERE, "rrt_fds"],
)
def test_11_7_a_whole_training_is_the_published_one(trained, name):
    assert differences(trained(name), name).too_large == {}


@pytest.mark.parametrize("other", ["vanilla", "lds", "lds_fds_paper"])
def test_a_training_differs_from_another_configuration(trained, other):
    found = differences(trained("lds_fds_released"), other)
    assert {"loss", "val mae", "state_sum", "linear.weight"} <= found.too_large.keys()
    assert found["loss"] > 1e-3
