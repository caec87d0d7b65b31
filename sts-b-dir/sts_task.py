"""STS-B-DIR as a `Task`: flags, loading, encoder, and the settings of the published code (paper, section 4.2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sts_model import PairEncoder
from sts_text import SPLIT_FILES, Corpus, Vocabulary, load_corpus, load_tested_corpus, load_word_vectors

from common.bins import Bins
from common.cli import ROOT
from common.datasets.standin import STANDIN, read_standin
from common.files import digest
from common.flags import flag, part_of_name
from common.methods.criterion import CriterionFlags
from common.metrics import Shots
from common.settings import Running, Settings, Training
from common.task import Data, Length, Task

log = logging.getLogger("dir")
SHOT_BINS = Bins.uniform(0, 5, 50)
MANY_ABOVE, FEW_BELOW = 100, 30


@dataclass(frozen=True)
class TextFlags:
    """STS-B."""

    task: str = flag("sts-b", "the only task there is", choices=("sts-b",))
    max_seq_len: int = flag(40, "tokens of a sentence", low=1)
    max_word_v_size: int = flag(30000, "words of the vocabulary", low=1)
    word_embs_file: Path = flag(
        ROOT / "data" / "glove" / "glove.840B.300d.txt", "word vectors in GloVe's text format"
    )
    word_embs_lowercase: bool = flag(
        False, "look a word that is not found up in lower case (for lower-case GloVe)"
    )
    d_word: int = flag(300, "dimension of the word vectors", low=1)
    glove: int = flag(1, "0: learn word vectors from scratch", low=0, high=1)
    train_words: int = flag(0, "1: train the word vectors too", low=0, high=1)
    d_hid: int = flag(1500, "LSTM units in each direction", low=1)
    n_layers_enc: int = flag(2, "LSTM layers", low=1)
    n_layers_highway: int = flag(0, "highway layers", low=0)
    dropout: float = flag(0.2, "on word vectors and LSTM outputs", low=0, high=1)
    dropout_embs: float = flag(0.2, "no effect, as published", low=0, high=1)
    val_interval: int = flag(400, "steps between checks", low=1)
    max_vals: int = flag(100, "checks at most", low=1, grows=True)
    bucket_num: int = flag(50, "bins of LDS and FDS, over 0 to 5; FDS: one past the last bucket", low=1)
    bucket_start: int = flag(0, "FDS: first bucket", low=0)
    suffix: str = flag("", "last part of the run's name", parse=part_of_name)


def run_name(settings: Settings, methods: str) -> str:
    """Return the published name of a run."""
    own, training, criterion = settings[TextFlags], settings[Training], settings[CriterionFlags]
    running = settings[Running]
    loss = f"huber_beta_{criterion.huber_beta}" if criterion.loss == "huber" else criterion.loss
    name = f"{running.store_name}{methods}_{loss}_seed_{running.seed}_valint_{own.val_interval}"
    name += f"_patience_{training.patience}_{training.optimizer}_{training.lr}_{training.batch_size}"
    return name + (f"_{own.suffix}" if own.suffix else "")


def load(settings: Settings) -> Data:
    """Load both sentences of each pair as tokens of one vocabulary over all splits, as published."""
    own, folder = settings[TextFlags], settings[Running].data_dir
    assert folder is not None
    return as_data(settings, load_corpus(folder, own.max_seq_len, own.max_word_v_size))


def load_tested(settings: Settings, kept: Mapping[str, Any]) -> Data:
    """Load the data; where only the test split is there, its words and shots are those that the checkpoint kept."""
    own, folder = settings[TextFlags], settings[Running].data_dir
    assert folder is not None
    absent = {name for name, file in SPLIT_FILES.items() if not (folder / file).is_file()}
    if not kept or not absent or "test" in absent:
        return load(settings)
    return as_data(settings, load_tested_corpus(folder, own.max_seq_len, **kept))


def as_data(settings: Settings, corpus: Corpus) -> Data:
    """Return the splits of a corpus with bins, shots and words."""
    own, folder = settings[TextFlags], settings[Running].data_dir
    assert folder is not None
    log.info("Vocabulary: %s entries", f"{len(corpus.vocabulary):,}")
    standin = read_standin(folder)
    many, few = standin.many_above or MANY_ABOVE, standin.few_below or FEW_BELOW
    shots = Shots(SHOT_BINS, SHOT_BINS.counts(corpus.train.labels), many, few)
    # --bucket_num moves the bins of LDS and FDS, but not those of the shots, as published.
    bins = Bins.uniform(0, 5, own.bucket_num)
    words = Words(settings, corpus.vocabulary)
    corpus.train.word_vectors = words.vectors
    return Data(
        corpus.train, corpus.val, corpus.test, bins, shots,
        buckets=(own.bucket_start, own.bucket_num), standin=standin.note, extra=words,
        tied={"vocabulary": digest(word.encode() for word in corpus.vocabulary.words)},
        kept={
            "words": corpus.vocabulary.words,
            "labels": {"train": torch.tensor(corpus.train.labels), "val": torch.tensor(corpus.val.labels)},
        },
    )  # fmt: skip


def files(settings: Settings) -> list[Path]:
    """Return the files that hold sentences, scores and thresholds."""
    folder = settings[Running].data_dir
    assert folder is not None
    return [folder / name for name in (*SPLIT_FILES.values(), STANDIN)]


class Words:
    """The vocabulary, and its word vectors, which are read once and only if asked for."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self._vectors: torch.Tensor | None = None

    def vectors(self) -> torch.Tensor:
        """Return one row per word, float32 `(V, d_word)`: from the file, or random with `--glove 0`."""
        if self._vectors is None:
            self._vectors = self._read() if self.settings[TextFlags].glove else self._random()
        return self._vectors

    def _random(self) -> torch.Tensor:
        empty = torch.empty(len(self.vocabulary), self.settings[TextFlags].d_word)
        return torch.nn.init.xavier_uniform_(empty)

    def _read(self) -> torch.Tensor:
        own, seed = self.settings[TextFlags], self.settings[Running].seed
        vectors, found = load_word_vectors(
            own.word_embs_file, self.vocabulary, own.d_word, lowercase=own.word_embs_lowercase, seed=seed
        )
        log.info(
            "Word vectors: %s of %s words found in %s",
            f"{found:,}", f"{len(self.vocabulary) - 2:,}", own.word_embs_file,
        )  # fmt: skip
        return vectors


def build(settings: Settings, data: Data) -> PairEncoder:
    """Build the encoder; word vectors are read only where a checkpoint will not bring its own."""
    own, words = settings[TextFlags], data.extra
    if settings[Running].evaluate or settings[Training].pretrained:
        vectors = torch.zeros(len(words.vocabulary), own.d_word)
    else:
        vectors = words.vectors()
    return PairEncoder(
        vectors,
        own.d_hid,
        own.n_layers_enc,
        own.dropout,
        train_words=bool(own.train_words) or not own.glove,
        n_highway=own.n_layers_highway,
    )


TASK = Task(
    name="sts-b",
    title="STS-B-DIR",
    unit="pair",
    label_name="similarity score",
    load=load,
    load_tested=load_tested,
    build=build,
    run_name=run_name,
    length=lambda settings: Length(settings[TextFlags].val_interval, settings[TextFlags].max_vals),
    files=files,
    flags=(TextFlags,),
    defaults={
        "lr": 1e-4, "batch_size": 128, "loss": "mse", "huber_beta": 0.3, "max_grad_norm": 5.0, "patience": 10,
        "momentum": 0.0, "weight_decay": 1e-5, "seed": 111, "store_name": "sts", "neighbours": 7,
    },
    key_map=(
        ("encoder.embedding.", "pair_encoder._text_field_embedder.token_embedder_words."),
        ("encoder.highway.", "pair_encoder._highway_layer._module._layers."),
        ("encoder.lstm.", "pair_encoder._phrase_layer._module."),
        ("head.", "sts-b_pred_layer."),
    ),
    fds_clip=(0.5, 2.0),
    fds_empty="fill",
    lds_reweight="inverse",
    target_scale=5.0,
    focal_beta=20.0,
    select=lambda settings: "mse",
    metrics=("mse", "mae", "gm_nonzero", "pearson", "spearman", "bmse"),
    table=("mse", "pearson"),
    checkpoint_hint="; word rows follow the vocabulary of all three splits (--data_dir), the other sizes "
    "follow --d_word, --d_hid and --n_layers_enc",
)  # fmt: skip
