"""A made-up corpus of graded paraphrases, in the files and formats of STS-B-DIR, with word vectors to match.

A sentence says six things (who, what, where, when, how, how often), each worth a share of the score. Its
partner says the same in other words, or something else, in as many of them as the score asks for.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
SPLIT_FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
VECTORS, DIM = "glove.standin.50d.txt", 50
BALANCED_BINS = 20  # of the real validation and test splits, with 50 pairs each
NOISE = 0.15  # standard deviation of the grade, before the nearest choice of changed slots

# Each slot is a list of meanings; each meaning, a list of ways to say it.
SLOTS: dict[str, tuple[float, list[list[str]]]] = {
    "who": (
        1.5,
        [
            ["a man", "a guy", "a gentleman"],
            ["a woman", "a lady"],
            ["a child", "a kid", "a little one"],
            ["a dog", "a hound"],
            ["a cat", "a kitten"],
            ["a doctor", "a physician"],
            ["a soldier", "a trooper"],
            ["a singer", "a vocalist"],
            ["a farmer", "a peasant"],
            ["the president", "the head of state"],
            ["a student", "a pupil"],
            ["a cook", "a chef"],
        ],
    ),
    "what": (
        1.5,
        [
            ["is playing a guitar", "is strumming a guitar"],
            ["is slicing an onion", "is cutting an onion"],
            ["is riding a horse", "is sitting on a horse"],
            ["is reading a book", "is looking into a book"],
            ["is running", "is jogging"],
            ["is sleeping", "is taking a nap"],
            ["is eating bread", "is having some bread"],
            ["is driving a car", "is steering a car"],
            ["is swimming", "is taking a swim"],
            ["is talking on the phone", "is making a phone call"],
            ["is painting a wall", "is colouring a wall"],
            ["is throwing a ball", "is tossing a ball"],
        ],
    ),
    "where": (
        0.8,
        [
            ["in the kitchen", "beside the stove"],
            ["in the park", "among the trees"],
            ["on the beach", "by the sea"],
            ["in the street", "on the road"],
            ["at home", "in the house"],
            ["on a stage", "before an audience"],
            ["in the mountains", "up in the hills"],
            ["at the station", "on the platform"],
        ],
    ),
    "when": (
        0.6,
        [
            ["in the morning", "at dawn"],
            ["at night", "after dark"],
            ["in winter", "in the cold season"],
            ["in summer", "in the hot months"],
            ["at noon", "at midday"],
            ["on Sunday", "on the weekend"],
        ],
    ),
    "how": (
        0.4,
        [
            ["slowly", "without haste"],
            ["quickly", "in a hurry"],
            ["happily", "with a smile"],
            ["silently", "without a sound"],
            ["alone", "with nobody else"],
        ],
    ),
    "how often": (
        0.2,
        [["again", "once more"], ["for the first time", "as never before"], ["twice", "two times"]],
    ),
}
SHARES = np.array([share for share, _ in SLOTS.values()])
CHOICES = np.array(list(product((0, 1), repeat=len(SLOTS))))  # every set of slots whose meaning changes
GRADES = SHARES.sum() - CHOICES @ SHARES


def write_corpus(folder: Path, counts: list[int], per_bin: int, seed: int) -> None:
    """The three split files and the word vectors; `counts` are the training pairs in each score bin."""
    rng = np.random.default_rng(seed)
    training = np.repeat(np.arange(len(counts)), counts) + 0.5
    scores = {"train": training * 5 / len(counts)}
    for split in ("val", "test"):
        left = np.repeat(np.arange(BALANCED_BINS), per_bin)
        scores[split] = (left + rng.uniform(0.02, 0.98, len(left))) * 5 / BALANCED_BINS
    for split, file in SPLIT_FILES.items():
        rows = [pair(score, rng) for score in rng.permutation(scores[split])]
        lines = [
            "\t".join(
                [str(i), "made-up", "standin", "2021", f"{i:04d}", "none", "none", a, b, f"{score:.3f}"]
            )
            for i, (a, b, score) in enumerate(rows)
        ]
        (folder / file).write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    write_vectors(folder / VECTORS, rng)


def pair(score: float, rng: np.random.Generator) -> tuple[str, str, float]:
    """Two sentences whose slots agree as far as the score says, up to noise."""
    grade = score + rng.normal(0, NOISE)
    changed = CHOICES[np.argmin(np.abs(GRADES - grade) + rng.uniform(0, 0.05, len(GRADES)))]
    first, second = [], []
    for (_, meanings), differs in zip(SLOTS.values(), changed, strict=True):
        one, other = rng.choice(len(meanings), 2, replace=False)
        ways = meanings[one]
        first.append(ways[rng.integers(len(ways))])
        ways = meanings[other] if differs else ways
        second.append(ways[rng.integers(len(ways))])
    return sentence(first, rng), sentence(second, rng), score


def sentence(parts: list[str], rng: np.random.Generator) -> str:
    """Who and what first, then the rest, or one of the rest in front."""
    head, rest = parts[:2], parts[2:]
    if rng.random() < 0.3:
        front = rest.pop(rng.integers(2))
        head = [f"{front},", *head]
    text = " ".join([*head, *rest])
    return text[0].upper() + text[1:] + "."


def write_vectors(path: Path, rng: np.random.Generator) -> None:
    """A vector per word, in GloVe's text format: words that say the same thing lie close to each other."""
    vectors: dict[str, np.ndarray] = {}
    for _, meanings in SLOTS.values():
        for ways in meanings:
            centre = rng.normal(0, 1, DIM)
            for word in " ".join(ways).split():
                vectors.setdefault(word, centre + rng.normal(0, 0.4, DIM))
                vectors.setdefault(word[0].upper() + word[1:], vectors[word] + rng.normal(0, 0.05, DIM))
    vectors |= {mark: rng.normal(0, 1, DIM) for mark in (".", ",")}
    lines = [" ".join([word, *(f"{value:.4f}" for value in vector)]) for word, vector in vectors.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
