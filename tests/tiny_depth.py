"""A very small NYUD2 folder: planes whose depth is their brightness, in the published formats."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common import cli
from common.datasets.depth import DEPTH_BINS, counted_depth
from common.settings import Running
from common.training.command import run_name, settings_of

torch.set_num_threads(1)  # so small a model is slower on two, and a forked child must not inherit a pool


def write_pair(folder: Path, image: str, depth: str, metres: np.ndarray, *, test: bool) -> None:
    """One image and its depth; `metres` `(H, W)`, 0 where there is no measurement."""
    for name in (image, depth):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    grey = np.clip(255 * (1 - metres / 10), 0, 255)
    Image.fromarray(np.stack([grey, grey, 255 - grey], -1).astype(np.uint8)).save(folder / image)
    if test:
        Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(folder / depth)
    else:
        Image.fromarray(np.round(metres * 25.5).astype(np.uint8)).save(folder / depth)


def slope(rng: np.random.Generator, near: float = 0.8, far: float = 9.9) -> np.ndarray:
    """A tilted plane between two depths, metres `(120, 160)`."""
    y, x = np.mgrid[0:1:120j, 0:1:160j]
    share = rng.uniform(0, 1) * x + rng.uniform(0, 1) * y
    share = (share - share.min()) / np.ptp(share)
    return near + (far - near) * (share if rng.random() < 0.5 else 1 - share)


def tiny_nyud2(folder: Path, *, train: int = 12, test: int = 4, scenes: int = 3, seed: int = 0) -> Path:
    """Write the whole folder, counts and mask included; returns it."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(train):
        place = f"nyu2_train/room_{number % scenes:04d}_out/{number}"
        write_pair(folder, f"{place}.jpg", f"{place}.png", slope(rng, far=rng.uniform(3, 9.9)), test=False)
        rows["train"].append(f"data/{place}.jpg,data/{place}.png")
    for number in range(test):
        place = f"nyu2_test/{number:05d}"
        write_pair(folder, f"{place}_colors.png", f"{place}_depth.png", slope(rng), test=True)
        rows["test"].append(f"data/{place}_colors.png,data/{place}_depth.png")
    for name, lines in rows.items():
        (folder / f"nyu2_{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "nyu2_train_FDS_subset.csv").write_text("\n".join(rows["train"][:6]) + "\n")
    np.save(folder / "test_balanced_mask.npy", rng.random((test, 228, 304)).__lt__(0.2).astype(np.uint8))
    depths = [counted_depth(folder / row.split(",")[1].removeprefix("data/")) for row in rows["train"]]
    counts = DEPTH_BINS.counts(np.concatenate([depth[depth > 0] for depth in depths]))
    (folder / "depth_counts.json").write_text(json.dumps({"counts": counts.tolist(), "images": train}))
    return folder


# --- `nyud2-dir/train.py` as a function

PROG = "nyud2-dir/train.py"
TINY = (
    "--model resnet18 --pretrained_encoder none --img_size 36 --batch_size 4 --epochs 2 --device cpu "
    "--lr 1e-3 --workers 2"
)


def load_train():
    """The module; every data set has a `train.py`, so it gets a name of its own."""
    if "nyud2_train" not in sys.modules:
        spec = importlib.util.spec_from_file_location("nyud2_train", cli.ROOT / PROG)
        sys.modules["nyud2_train"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["nyud2_train"])
    return sys.modules["nyud2_train"]


train = load_train()


def command(folder: Path, *flags: object) -> list[str]:
    """The arguments of a tiny run; runs land below the current directory, as a user's do."""
    return ["--data_dir", str(folder), *TINY.split(), *(word for flag in flags for word in str(flag).split())]


def call(argv: list[str]) -> int:
    """The exit code of `train.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: train.main(argv))
    except SystemExit as end:
        return end.code


def run_dir(argv: list[str]) -> Path:
    """Where a run of `argv` writes."""
    settings = settings_of(train.TASK, PROG, " ", argv)
    return settings[Running].store_root / run_name(train.TASK, settings)
