"""The settings that every data set shares: where a run reads and writes, and how it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.flags import POSITIVE, flag, part_of_name


@dataclass(frozen=True)
class Training:
    """Optimiser, schedule and stopping."""

    optimizer: str = flag("adam", "optimiser", choices=("adam", "sgd"))
    lr: float = flag(
        1e-3, "initial learning rate", "--lr", "--learning-rate", "--learning_rate", low=POSITIVE
    )
    batch_size: int = flag(256, "samples in a step", low=1)
    momentum: float = flag(0.9, "of SGD", low=0, high=1, when=lambda own: own.optimizer == "sgd")
    weight_decay: float = flag(1e-4, "of the optimiser", "--weight_decay", "--weight-decay", "--wd", low=0)
    schedule: tuple[int, ...] | None = flag((), "epochs at which lr drops tenfold", low=1, grows=True)
    max_grad_norm: float = flag(0.0, "clip the gradient's norm; 0: do not", low=0)
    patience: int = flag(0, "stop when a check is the worst of the last PATIENCE + 1; 0: never", low=0)
    print_freq: int = flag(10, "steps between looks at the loss", low=1, identity=False)
    pretrained: str = flag("", "checkpoint whose encoder to start from", metavar="CKPT")


@dataclass(frozen=True)
class Running:
    """The run: where it reads and writes, on which device, under which seed."""

    data_dir: Path | None = flag(None, "data folder (default: data/ of this repository)")
    store_root: Path = flag(Path("checkpoint"), "folder of all runs", identity=False)
    store_name: str = flag("", "put into the run's name", parse=part_of_name)
    seed: int = flag(0, "negative: a random one", "--seed", "--random_seed", low=-(2**63), high=2**63 - 1)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps", identity=False)
    gpu: int | None = flag(None, "published form of --device cuda:N", identity=False)
    cuda: int | None = flag(None, "published form of --device: a GPU, or -1 for the CPU", identity=False)
    evaluate: bool = flag(False, "evaluate a checkpoint on the test set, do not train", identity=False)
    resume: str | None = flag(
        None,
        "go on with this run (which the command does anyway); with CKPT: train on from that checkpoint, "
        "or with --evaluate test it",
        metavar="CKPT",
        identity=False,
        optional=True,
    )
    eval_model: str = flag("", "what --evaluate reads (default: this run's)", metavar="CKPT", identity=False)
    metrics_json: Path | None = flag(None, "write the test metrics here too", metavar="PATH", identity=False)
    predictions: Path | None = flag(
        None,
        "with --evaluate: write the predictions here, as predictions.csv has them",
        metavar="FILE",
        identity=False,
        when=lambda own: own.evaluate,
    )
    log_file: str = flag("training.log", "log file in the run directory", identity=False)
    overwrite: bool = flag(False, "start over where this run has been before", identity=False)
    config: Path | None = flag(
        None,
        "take the flags of a run from its args.json; the command line wins",
        metavar="FILE",
        identity=False,
    )

    @property
    def where(self) -> str:
        """The device that --device or one of its published forms names."""
        if self.gpu is not None:
            return f"cuda:{self.gpu}"
        if self.cuda is not None:
            return f"cuda:{self.cuda}" if self.cuda >= 0 else "cpu"
        return self.device
