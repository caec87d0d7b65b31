"""One run on two processes beside one, on the same cores, or on a GPU each where there are two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from epochs import agedb
from measure import ROOT, Row, Sizes, Times


def processes(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of an AgeDB epoch with LDS and FDS on two processes, each with half the threads, beside one."""
    place, gpus = agedb(folder, sizes), torch.cuda.device_count()
    flags = (
        f"--data_dir {place} --dataset bench --model {sizes.model} --img_size {sizes.img_size} --epoch 1 "
        f"--batch_size {sizes.batch} --lds --fds --device {'cuda' if gpus > 1 else 'cpu'}"
    )
    times = Times({"1": [], "2": []})
    for _ in range(sizes.rounds):
        for number in times:
            times[number].append(seconds_of(flags.split(), int(number)))
    return [times.row("h", "AgeDB epoch: 2 processes x one", "2", "1")]


def seconds_of(flags: list[str], number: int) -> float:
    """Return the seconds of training that a run on so many processes logs; starting them is not among these."""
    threads = str(max(torch.get_num_threads() // number, 1))
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}"]
    with tempfile.TemporaryDirectory() as store:
        command = [*launch, str(ROOT / "agedb-dir" / "train.py"), *flags, "--store_root", store]
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
        (log,) = Path(store).glob("*/metrics.jsonl")
        return float(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["seconds"])
