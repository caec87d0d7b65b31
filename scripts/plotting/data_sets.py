"""The `train.py` of each data set, for scripts that read its runs: its `Task` and its flags."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from common import cli
from common.cli import ROOT
from common.errors import UserError
from common.images import task as age
from common.task import Task

TITLES = {"agedb": "AgeDB-DIR", "imdb_wiki": "IMDB-WIKI-DIR", "sts-b": "STS-B-DIR", "nyud2": "NYUD2-DIR"}


def task_of(dataset: str) -> Task:
    """Return the `Task` of this name."""
    return age.task(dataset) if dataset in age.SOURCES else script_of(dataset).TASK


def parser_of(dataset: str) -> cli.Parser:
    """Return the flags of its `train.py`."""
    if dataset in age.SOURCES:
        return age.parser(dataset, dataset, dataset.replace("-", "_"))
    return script_of(dataset).parser()


def script_of(dataset: str) -> ModuleType:
    """Return its `train.py`; raises UserError if there is none."""
    script = ROOT / f"{dataset}-dir" / "train.py"
    if not script.is_file():
        raise UserError(f"{script}: there is no such script, so nothing of {dataset} can be read")
    return load_module(script)


def load_module(path: Path) -> ModuleType:
    """Load a module of a data set's folder, which no import can name; it may import its neighbours."""
    if str(path) not in sys.modules:
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(str(path), path)
        sys.modules[str(path)] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[str(path)])
    return sys.modules[str(path)]
