"""STS-B-DIR: how alike are two sentences, 0 to 5 (paper, section 4.2, Table 3).

    python sts-b-dir/train.py                                      Vanilla
    python sts-b-dir/train.py --reweight inverse                   INV
    python sts-b-dir/train.py --lds --fds                          LDS + FDS (inverse weights)
    python sts-b-dir/train.py --loss focal_mse                     Focal-R
    python sts-b-dir/train.py --retrain_fc --pretrained CKPT --reweight inverse              RRT

Paper, Table 3, test MSE and Pearson correlation (x 100) over all pairs: Vanilla 0.974 and 74.2, LDS + FDS
0.907 and 76.0. That is at the defaults here: GloVe 840B, 2 layers of 1,500 units, made for a GPU. A size for
a CPU, and its numbers, are in README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import torch
from sts_model import PairEncoder
from sts_resample import resample_pairs
from sts_text import Vocabulary, load_corpus, load_word_vectors

from common import cli
from common.bins import Bins
from common.metrics import Shots
from common.task import Data, Task, read_standin
from common.training.command import run

log = logging.getLogger("dir")
DATA = cli.ROOT / "data"


def parser() -> cli.Parser:
    """Every flag of the published script, under its name and with its default, and ours."""
    parser = cli.Parser(prog="sts-b-dir/train.py", description=__doc__.splitlines()[0])
    cli.add_imbalance_arguments(parser, bucket_num=50, bucket_start=0, neighbours=7)
    cli.add_training_arguments(
        parser,
        lr=1e-4,
        batch_size=128,
        loss="mse",
        huber_beta=0.3,
        max_grad_norm=5.0,
        patience=10,
        schedule=[],
        momentum=0.0,
        weight_decay=1e-5,
        print_freq=10,
    )
    cli.add_run_arguments(parser, seed=111, seed_flags=("--random_seed",))
    text = parser.add_argument_group("STS-B")
    text.add_argument("--task", choices=("sts-b",), default="sts-b", help="the only task there is")
    text.add_argument("--max_seq_len", type=cli.number(int, 1), default=40, help="tokens of a sentence")
    text.add_argument(
        "--max_word_v_size", type=cli.number(int, 1), default=30000, help="words of the vocabulary"
    )
    text.add_argument(
        "--word_embs_file",
        type=Path,
        default=DATA / "glove" / "glove.840B.300d.txt",
        help="word vectors in GloVe's text format",
    )
    text.add_argument(
        "--word_embs_lowercase",
        action="store_true",
        help="look a word that is not found up in lower case (for lower-case GloVe)",
    )
    text.add_argument("--d_word", type=cli.number(int, 1), default=300, help="dimension of the word vectors")
    text.add_argument(
        "--glove", type=int, choices=(0, 1), default=1, help="0: learn word vectors from scratch"
    )
    text.add_argument(
        "--train_words", type=int, choices=(0, 1), default=0, help="1: train the word vectors too"
    )
    text.add_argument("--d_hid", type=cli.number(int, 1), default=1500, help="LSTM units in each direction")
    text.add_argument("--n_layers_enc", type=cli.number(int, 1), default=2, help="LSTM layers")
    text.add_argument("--n_layers_highway", type=cli.number(int, 0), default=0, help="highway layers")
    text.add_argument(
        "--dropout", type=cli.number(float, 0, 1), default=0.2, help="on word vectors and LSTM outputs"
    )
    text.add_argument(
        "--dropout_embs", type=cli.number(float, 0, 1), default=0.2, help="no effect, as published"
    )
    text.add_argument("--val_interval", type=cli.number(int, 1), default=400, help="steps between checks")
    text.add_argument("--max_vals", type=cli.number(int, 1), default=100, help="checks at most")
    text.add_argument("--suffix", default="", help="last part of the run's name")
    text.add_argument("--log_file", default="training.log", help="log file in the run directory")
    text.add_argument(
        "--cuda", type=int, default=None, help="published form of --device: a GPU, or -1 for the CPU"
    )
    cli.add_own_run_arguments(parser, store_name="sts")
    return parser


def run_name(args: argparse.Namespace) -> str:
    """The published name of a run."""
    loss = f"huber_beta_{args.huber_beta}" if args.loss == "huber" else args.loss
    name = f"{args.store_name}{cli.method_name(args)}_{loss}_seed_{args.seed}_valint_{args.val_interval}"
    name += f"_patience_{args.patience}_{args.optimizer}_{args.lr}_{args.batch_size}"
    return name + (f"_{args.suffix}" if args.suffix else "")


def load(args: argparse.Namespace) -> Data:
    """Both sentences of each pair as tokens of one vocabulary over all splits, as published."""
    corpus = load_corpus(args.data_dir, args.max_seq_len, args.max_word_v_size)
    log.info("Vocabulary: %s entries", f"{len(corpus.vocabulary):,}")
    standin = read_standin(args.data_dir)
    bins = Bins.uniform(0, 5, 50)
    shots = Shots(bins, bins.counts(corpus.train.labels), standin.many_above or 100, standin.few_below or 30)
    # --bucket_num moves the bins of LDS and FDS, but not those of the shots, as published.
    bins = Bins.uniform(0, 5, args.bucket_num)
    training, vectors = corpus.train, None
    if args.resample and not args.evaluate:
        vectors = word_vectors(args, corpus.vocabulary)
        training = resample_pairs(args, training, shots, vectors)
    text = Text(corpus.vocabulary, vectors)
    return Data(training, corpus.val, corpus.test, bins, shots, standin=standin.note, extra=text)


class Text(NamedTuple):
    """What `build` reads: the vocabulary, and its word vectors where they are known already."""

    vocabulary: Vocabulary
    vectors: torch.Tensor | None


def word_vectors(args: argparse.Namespace, vocabulary: Vocabulary) -> torch.Tensor:
    """One row per word, float32 `(V, d_word)`: from the file, or random with `--glove 0`."""
    if not args.glove:
        return torch.nn.init.xavier_uniform_(torch.empty(len(vocabulary), args.d_word))
    vectors, found = load_word_vectors(
        args.word_embs_file, vocabulary, args.d_word, lowercase=args.word_embs_lowercase, seed=args.seed
    )
    log.info(
        "Word vectors: %s of %s words found in %s",
        f"{found:,}", f"{len(vocabulary) - 2:,}", args.word_embs_file,
    )  # fmt: skip
    return vectors


def build(args: argparse.Namespace, data: Data) -> PairEncoder:
    """The encoder; word vectors are read only where a checkpoint will not bring its own."""
    vocabulary, vectors = data.extra
    if args.evaluate or args.pretrained:
        vectors = torch.zeros(len(vocabulary), args.d_word)
    elif vectors is None:
        vectors = word_vectors(args, vocabulary)
    return PairEncoder(
        vectors,
        args.d_hid,
        args.n_layers_enc,
        args.dropout,
        train_words=bool(args.train_words) or not args.glove,
        n_highway=args.n_layers_highway,
    )


TASK = Task(
    name="sts-b",
    unit="pair",
    load=load,
    build=build,
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
    select="mse",
    metrics=("mse", "mae", "gm_nonzero", "pearson", "spearman"),
    table=("mse", "pearson"),
    checkpoint_hint="; word rows follow the vocabulary of all three splits (--data_dir), the other sizes "
    "follow --d_word, --d_hid and --n_layers_enc",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parser().parse_args(argv)
    cli.resolve(args, lds_reweight=TASK.lds_reweight)
    args.resume_from = ""
    args.data_dir = args.data_dir or DATA / "sts-b"
    if args.cuda is not None:
        args.device = f"cuda:{args.cuda}" if args.cuda >= 0 else "cpu"
    return run(TASK, args, run_name)


if __name__ == "__main__":
    sys.exit(cli.run_command("sts-b-dir/train.py", main))
