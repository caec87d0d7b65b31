"""STS-B-DIR (paper, section 4) as text: sentence pairs, vocabulary, GloVe vectors and padded batches."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sts_split import PADDING, PairSplit

from common.errors import UserError

SPLIT_FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
FIRST, SECOND, SCORE = 7, 8, 9  # columns of the GLUE layout, from 0
UNKNOWN = 1
SPECIAL_WORDS = ("@@PADDING@@", "@@UNKNOWN@@")

_GET_DATA = (
    "python scripts/download.py sts-b and then python scripts/prepare.py sts-b make them, "
    "python scripts/make_standin.py sts-b --out DIR writes a stand-in, --data_dir says where they are"
)
_ALL_SPLITS = (
    "the vocabulary is that of all three splits, and only a checkpoint of this project keeps it, so evaluating one "
    "split needs all of them; "
)
_GET_VECTORS = (
    "python scripts/download.py glove gets it, --word_embs_file says where the file is, "
    "--glove 0 does without"
)
_NUMBERS_AT_END = re.compile(rb"(?: [-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)*$")


@dataclass(frozen=True)
class Pairs:
    """N pairs of sentences as read, and how alike the two of a pair are, from 0 to 5."""

    first: list[str]
    second: list[str]
    scores: np.ndarray  # float32 (N,)


@dataclass(frozen=True)
class Vocabulary:
    """Words by index; index 0 pads, index 1 stands for every word that is not here."""

    words: list[str]

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each word."""
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The index of each token, `UNKNOWN` for one that is no word of this vocabulary."""
        return [self.index.get(token, UNKNOWN) for token in tokens]


@dataclass(frozen=True)
class Corpus:
    """The vocabulary of all three splits, and each split (its `labels` are the scores) in its indices."""

    vocabulary: Vocabulary
    train: PairSplit
    val: PairSplit
    test: PairSplit


def load_corpus(folder: Path, max_tokens: int, max_words: int) -> Corpus:
    """The three splits in `folder`, of at most `max_tokens` tokens a sentence and `max_words` words in all.

    Raises one UserError that names every missing file, or the first thing wrong in the files.
    """
    missing = [file for file in SPLIT_FILES.values() if not (folder / file).is_file()]
    if missing:
        what = "not in this folder" if folder.is_dir() else "not found, as there is no such folder"
        why = "" if len(missing) == len(SPLIT_FILES) else _ALL_SPLITS
        raise UserError(f"{folder.resolve()}: {', '.join(missing)} {what}; {why}{_GET_DATA}")
    pairs = {name: read_pairs(folder / file) for name, file in SPLIT_FILES.items()}
    tokens = {name: tokens_of(split, max_tokens) for name, split in pairs.items()}
    vocabulary = build_vocabulary(chain.from_iterable(chain.from_iterable(tokens.values())), max_words)
    ids = {name: [list(map(vocabulary.encode, side)) for side in sides] for name, sides in tokens.items()}
    splits = {name: PairSplit(first, second, pairs[name].scores) for name, (first, second) in ids.items()}
    return Corpus(vocabulary, **splits)


def load_tested_corpus(
    folder: Path, max_tokens: int, words: list[str], labels: Mapping[str, torch.Tensor]
) -> Corpus:
    """The test split in `folder` by a checkpoint's words; of the others, "train" and "val", the labels are true."""
    vocabulary, pairs = Vocabulary(words), read_pairs(folder / SPLIT_FILES["test"])
    first, second = (list(map(vocabulary.encode, side)) for side in tokens_of(pairs, max_tokens))
    others = {}
    for name, scores in labels.items():
        nothing = [[UNKNOWN]] * len(scores)
        others[name] = PairSplit(nothing, nothing, scores.numpy())
    return Corpus(vocabulary, test=PairSplit(first, second, pairs.scores), **others)


def read_pairs(path: Path) -> Pairs:
    """The rows of a TSV in the GLUE STS-B layout: a header line, then N rows; quotes are plain characters.

    UserError, with the line: not UTF-8, no rows, too few columns, an empty sentence, a score not in [0, 5].
    """
    rows = []
    try:
        # Not splitlines(): it also breaks a line at characters that a sentence may hold, such as U+2028.
        for number, line in enumerate(path.read_bytes().rstrip(b"\r\n").split(b"\n"), start=1):
            text = line.decode("utf-8").rstrip("\r")
            if number > 1:
                rows.append(_row(text))
            elif text and "sentence1" not in text:
                raise ValueError("a header that names sentence1, sentence2 and score should stand here")
        if not rows:
            raise ValueError("no rows follow the header line")
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}; correct the file, or {_GET_DATA}") from error
    first, second, scores = zip(*rows, strict=True)
    return Pairs(list(first), list(second), np.array(scores, np.float32))


def _row(line: str) -> tuple[str, str, float]:
    """Both sentences and the score of one row; ValueError says what is wrong with it."""
    columns = line.split("\t")
    if len(columns) <= SCORE:
        raise ValueError(f"{len(columns)} columns where the STS-B layout with scores has {SCORE + 1}")
    first, second, score = columns[FIRST], columns[SECOND], float(columns[SCORE])
    if not first.strip() or not second.strip():
        raise ValueError(f"{'sentence2' if first.strip() else 'sentence1'} is empty")
    if not 0 <= score <= 5:
        raise ValueError(f"score {score} is outside 0 to 5")
    return first, second, score


@lru_cache(maxsize=1)
def _tokenizers() -> tuple[Any, Any]:
    """NLTK's English sentence splitter and word tokenizer; imported late, as NLTK takes a second."""
    import punkt
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    # The package holds the model that NLTK would download, but its own splitter keeps "J. ?!" whole, which
    # word_tokenize does not: what was learned therefore goes into NLTK's splitter.
    model, parameters = punkt.load_model("english"), PunktParameters()
    vars(parameters).update(vars(model), ortho_context=defaultdict(int, model.ortho_context))
    return PunktSentenceTokenizer(parameters), NLTKWordTokenizer()


def tokenize(sentence: str, max_tokens: int = 40) -> list[str]:
    """The first `max_tokens` tokens of NLTK's `word_tokenize`; none only if the sentence is blank."""
    splitter, words = _tokenizers()
    return [token for part in splitter.tokenize(sentence) for token in words.tokenize(part)][:max_tokens]


def tokens_of(pairs: Pairs, max_tokens: int) -> list[list[list[str]]]:
    """The tokens of the first and of the second sentence of each pair."""
    return [[tokenize(sentence, max_tokens) for sentence in side] for side in (pairs.first, pairs.second)]


def build_vocabulary(sentences: Iterable[list[str]], max_size: int = 30000) -> Vocabulary:
    """The `max_size` commonest words by frequency, ties as they first appear; the special two come first."""
    counts = Counter(chain.from_iterable(sentences))
    return Vocabulary([*SPECIAL_WORDS, *(word for word, _ in counts.most_common(max_size))])


def load_word_vectors(
    path: Path, vocabulary: Vocabulary, dim: int, *, lowercase: bool, seed: int
) -> tuple[torch.Tensor, int]:
    """One row per word, float32 `(V, dim)`, and how many words a GloVe text file has a vector for.

    Padding is zeros, words without a vector are N(0, 1); `lowercase` looks for a missing word in lower case.
    UserError, with the line: no file, another dimension than `dim`, a word2vec header, a broken number.
    """
    words = vocabulary.words[len(SPECIAL_WORDS) :]
    wanted = chain(words, (word.lower() for word in words if lowercase))
    found = _read_vectors(path, set(map(str.encode, wanted)), dim)
    # Drawn for every word, so that a row does not depend on which other words the file has.
    rows = torch.randn(len(vocabulary), dim, generator=torch.Generator().manual_seed(seed))
    rows[PADDING] = 0
    hits = 0
    for index, word in enumerate(words, start=len(SPECIAL_WORDS)):
        vector = found.get(word.encode(), found.get(word.lower().encode()) if lowercase else None)
        if vector is not None:
            rows[index] = vector
            hits += 1
    return rows, hits


def _read_vectors(path: Path, wanted: set[bytes], dim: int) -> dict[bytes, torch.Tensor]:
    """The vectors `(dim,)` of the wanted words; lines stay bytes, as most of a 5.6 GB file is not wanted."""
    if not path.is_file():
        raise UserError(f"{path.resolve()}: no such file; {_GET_VECTORS}")
    found, number = {}, 1
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.rstrip()
                usual = line.count(b" ") == dim
                word = line[: line.index(b" ")] if usual else _unusual_word(line, dim, first=number == 1)
                if word in wanted or number == 1:
                    found[word] = _vector(line, dim)
        if not found:
            raise ValueError("the file is empty")
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}; {_GET_VECTORS}") from error
    return found


def _unusual_word(line: bytes, dim: int, *, first: bool) -> bytes:
    """The word of a line without exactly `dim` spaces, which holds some itself (". . ."), or a ValueError."""
    if first and re.fullmatch(rb"\d+ \d+", line):
        raise ValueError(f"a word2vec header ({line.decode()}), which a GloVe file does not have: remove it")
    found = _NUMBERS_AT_END.search(line)
    size = found.group().count(b" ") if found else 0
    if size == dim:
        return line.rsplit(b" ", dim)[0]
    remedy = f"give --d_word {size}" if first and size else "the file may be damaged"
    raise ValueError(f"the line ends in {size} numbers where --d_word says {dim}: {remedy}")


def _vector(line: bytes, dim: int) -> torch.Tensor:
    """The last `dim` fields as float32 `(dim,)`; ValueError where one is no finite number."""
    vector = torch.tensor([float(field) for field in line.rsplit(b" ", dim)[1:]])
    if not vector.isfinite().all():
        raise ValueError("a number is not finite")
    return vector
