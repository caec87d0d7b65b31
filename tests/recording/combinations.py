"""The combinations that are recorded: for each a data set, the flags of its command, and how it is run.

FDS changes features from its third epoch on, so every run with it has four.
"""

from __future__ import annotations

from dataclasses import dataclass

FACES = (
    "--model resnet_tiny --img_size 16 --batch_size 16 --epoch 4 "
    "--many_above 3 --few_below 2 --lr 2e-4 --workers 1"
)
OWN = "--dataset own --target height --bin_width 4 --img_size 16"
PAIRS = "--d_word 8 --d_hid 6 --n_layers_enc 1 --batch_size 16 --val_interval 8 --max_vals 4 --lr 0.01"
DEPTH = (
    "--model resnet18 --pretrained_encoder none --img_size 24 --batch_size 4 --epochs 4 --lr 2e-4 --workers 1"
)


@dataclass(frozen=True)
class DataSet:
    """What all commands of a data set share: folder, flags, and the training losses it has a run for."""

    folder: str
    flags: str
    loss: str  # the default one, which Vanilla records


DATA_SETS = {
    "agedb": DataSet("agedb-dir", FACES, "l1"),
    "imdb-wiki": DataSet("imdb-wiki-dir", FACES, "l1"),
    "sts-b": DataSet("sts-b-dir", PAIRS, "mse"),
    "nyud2": DataSet("nyud2-dir", DEPTH, "mse"),
}
LOSSES = ("l1", "mse", "huber", "focal_l1", "focal_mse")


@dataclass(frozen=True)
class Combination:
    """One recorded run; `first` are the flags of a first stage, whose best checkpoint `{first}` stands for.

    `stop` is the signal that the run sends to itself at step `at`; the same command then ends it.
    """

    data: str
    flags: str
    first: str | None = None
    stop: str | None = None
    at: int = 0
    like: str | None = None  # the combination that it must equal bit for bit


COMMON = {
    "vanilla": "",
    "inv": "--reweight inverse",
    "sqinv": "--reweight sqrt_inv",
    "lds": "--lds",
    "lds_other": "--lds --lds_kernel laplace --lds_ks 9 --lds_sigma 1 --reweight {other}",
    "fds": "--fds",
    "fds_other": "--fds --fds_kernel triang --fds_ks 9 --fds_mmt 0.5 --start_update 1 --start_smooth 2",
    "lds_fds": "--lds --fds",
    "focal_lds_fds": "--loss focal_l1 --lds --fds",
    "sgd": "--optimizer sgd --lr 2e-4",
    "sgd_fds": "--optimizer sgd --lds --fds --lr 2e-4",
    "schedule": "--schedule 1 3",
    "seed": "--seed 5",
    "clipped": "--max_grad_norm 0.5",
}
NOT_ON_DEPTH = {
    "fds_released": "--fds --fds_variant released",
    "lds_fds_released": "--lds --fds --fds_variant released",
    "smoter": "--resample smoter",
    "smogn": "--resample smogn --neighbours 3",
    "smogn_lds_fds": "--resample smogn --lds --fds",
}
ONLY = {
    "agedb": {
        "sgd_other": "--optimizer sgd --momentum 0.5 --weight_decay 0.1 --lr 2e-4",
        "own_vanilla": OWN,
        "own_lds_fds": f"{OWN} --lds --fds",
        "own_fds_released": f"{OWN} --fds --fds_variant released --label_min 100 --label_max 200",
        "mse_fds": "--loss mse --fds --padding 2",
    },
    "imdb-wiki": {"own_fds": f"{OWN} --fds", "own_smogn": f"{OWN} --resample smogn"},
    "sts-b": {
        "words": "--train_words 1 --n_layers_highway 1 --n_layers_enc 2 --d_hid 4",
        "no_glove": "--glove 0 --fds",
        "patience": "--patience 1 --lr 0.1 --max_vals 12 --val_interval 3",
    },
    "nyud2": {
        "select_val": "--select val --val_fraction 0.2 --fds",
        "keep_invalid": "--keep_invalid --lds --fds",
    },
}


def of_data_set(data: str) -> dict[str, Combination]:
    """Return the combinations of a data set by name."""
    flags = COMMON | {f"loss_{loss}": f"--loss {loss}" for loss in LOSSES if loss != DATA_SETS[data].loss}
    flags |= {"loss_huber_beta": "--loss huber --huber_beta 0.1"} | ONLY[data]
    if data != "nyud2":
        flags |= NOT_ON_DEPTH
    other = "sqrt_inv" if data in ("sts-b", "nyud2") else "inverse"
    found = {name: Combination(data, text.replace("{other}", other)) for name, text in flags.items()}
    again = "--retrain_fc --pretrained {first} --reweight inverse"
    found["rrt"] = Combination(data, again, first="")
    found["rrt_lds_fds"] = Combination(data, f"{again} --lds --fds", first="--lds --fds")
    middle = {"sts-b": 19, "nyud2": 5}.get(data, 12)  # in the third epoch
    found["killed"] = Combination(data, "--lds --fds", stop="SIGKILL", at=middle, like=f"{data}/lds_fds")
    found["stopped"] = Combination(data, "--lds --fds", stop="SIGTERM", at=middle, like=f"{data}/lds_fds")
    if data != "nyud2":
        smogn = "--resample smogn --lds --fds"
        found["killed_smogn"] = Combination(
            data, smogn, stop="SIGKILL", at=middle, like=f"{data}/smogn_lds_fds"
        )
    return {f"{data}/{name}": combination for name, combination in found.items()}


COMBINATIONS = {name: one for data in DATA_SETS for name, one in of_data_set(data).items()}
