"""A tiny STS-B-DIR in the published layout, and its `train.py` as a function, for the tests that train."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

from common import cli
from common.settings import Running
from common.training.command import run_name, settings_of

torch.set_num_threads(1)  # so small a model is slower on two, and a forked child must not inherit a pool

ROOT = Path(__file__).resolve().parent.parent
PROG = "sts-b-dir/train.py"
HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
WORDS = [f"word{i}" for i in range(40)]
SIZES = {"train_new.tsv": 120, "dev_new.tsv": 40, "test_new.tsv": 40}
DIM = 8  # of the word vectors
TINY = "--d_word 8 --d_hid 6 --n_layers_enc 1 --batch_size 16 --val_interval 5 --max_vals 4 --device cpu"


def load_train():
    """`sts-b-dir/train.py` as a module; every data set has a `train.py`, so it gets a name of its own."""
    if "sts_train" not in sys.modules:
        spec = importlib.util.spec_from_file_location("sts_train", ROOT / PROG)
        sys.modules["sts_train"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["sts_train"])
    return sys.modules["sts_train"]


train = load_train()


def write_corpus(folder, *, standin=True, seed=0):
    """Pairs that share more words the higher their score, 0 to 5; thresholds that give every shot samples."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name, size in SIZES.items():
        scores = [0.0, 5.0, *np.round(rng.triangular(0, 4, 5, size - 2), 1)]
        rows = [_row(rng, float(score)) for score in scores]
        (folder / name).write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    vectors = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=DIM))}\n" for word in WORDS[:-4]]
    (folder / "glove.txt").write_text("".join(vectors), encoding="utf-8")
    if standin:
        told = {"dataset": "sts-b", "scale": 0.02, "seed": seed, "note": "made up for a test"}
        thresholds = {"many_above": 4, "few_below": 3}
        (folder / "standin.json").write_text(json.dumps(told | thresholds), encoding="utf-8")
    return folder


def _row(rng, score):
    first = rng.choice(WORDS, rng.integers(2, 12))
    second = np.where(rng.random(len(first)) < score / 5, first, rng.choice(WORDS, len(first)))
    sentences = [" ".join(words) for words in (first, second[: max(1, len(second) - rng.integers(2))])]
    return "\t".join(["0", "g", "f", "2012", "0", "none", "none", *sentences, f"{score:.3f}"])


def command(folder, *flags):
    """The arguments of a tiny run; runs land below the current directory, as a user's do."""
    words = [word for flag in flags for word in str(flag).split()]
    where = ["--data_dir", str(folder), "--word_embs_file", str(folder / "glove.txt")]
    return [*where, *TINY.split(), "--lr", "0.01", *words]


def call(argv):
    """The exit code of `train.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: train.main(argv))
    except SystemExit as end:
        return end.code


def run_dir(argv):
    """Where a run of `argv` writes."""
    settings = settings_of(train.TASK, PROG, " ", argv)
    return settings[Running].store_root / run_name(train.TASK, settings)
