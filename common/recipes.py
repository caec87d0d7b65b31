"""Recipes: rows of the paper's tables as `train.py` commands, and where their results are kept."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.cli import ROOT
from common.errors import UserError
from common.rundir import read_json

RECIPES = ROOT / "data" / "recipes.toml"


@dataclass(frozen=True)
class Cell:
    """One run of a table: a row under a seed."""

    table: str
    row: str
    seed: int
    script: str
    flags: str  # `{Row}` stands for the best checkpoint of that row under the same seed
    folder: str = "results"

    @property
    def result(self) -> Path:
        """Where its `metrics.json` is kept."""
        return ROOT / self.folder / self.table / f"{_slug(self.row)}.seed{self.seed}.json"

    @property
    def store_root(self) -> str:
        """Its own folder of runs, relative to the repository: rows with RRT differ in no other name."""
        return f"checkpoint/{self.table}/{_slug(self.row)}"

    @property
    def needs(self) -> str | None:
        """The row whose checkpoint this one starts from."""
        found = re.search(r"\{(.+?)\}", self.flags)
        return found.group(1) if found else None

    def command(self) -> list[str]:
        """The command without the interpreter, to be run from the repository's root."""
        flags = self.flags
        if self.needs is not None:
            first = Cell(self.table, self.needs, self.seed, self.script, "", self.folder)
            result = read_json(first.result) or {}
            flags = flags.replace(f"{{{self.needs}}}", shlex.quote(result.get("checkpoint", "CKPT")))
        where = ["--store_root", self.store_root, "--metrics_json", str(self.result.relative_to(ROOT))]
        return [self.script, *shlex.split(flags), "--seed", str(self.seed), *where]


@dataclass(frozen=True)
class Table:
    """A table of `recipes.toml`: its rows, and what to print of them."""

    name: str
    title: str
    script: str
    flags: str
    seeds: tuple[int, ...]
    metrics: dict[str, str]  # name in metrics.json -> name in published.csv
    rows: dict[str, dict[str, Any]]
    dataset: str | None = None  # name in published.csv, where the paper has these rows
    paper_table: int | None = None
    folder: str = "results"  # of the results, below the repository; "checkpoint" keeps them out of git

    def cells(self, seeds: tuple[int, ...] | None = None) -> Iterator[Cell]:
        """Every run, seed by seed, so that a first stage comes before the row that needs it."""
        for seed in seeds or self.seeds:
            for row, recipe in self.rows.items():
                yield Cell(self.name, row, seed, self.script, f"{self.flags} {recipe['flags']}", self.folder)


def read_tables(path: Path = RECIPES) -> dict[str, Table]:
    """The tables by name."""
    with path.open("rb") as file:
        content = tomllib.load(file)
    return {
        name: Table(name=name, **{**table, "seeds": tuple(table["seeds"])}) for name, table in content.items()
    }


def find_table(name: str) -> Table:
    """The table of this name; raises UserError, with the names there are, if there is none."""
    tables = read_tables()
    if name not in tables:
        raise UserError(f"--table {name}: there is no such table; there are {', '.join(tables)}")
    return tables[name]


def _slug(row: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
