"""Recipes: rows of the paper's tables as `train.py` commands, and the places of their results."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from toml_files import reading_toml

from common.cli import ROOT
from common.errors import UserError
from common.files import read_json

RECIPES = ROOT / "data" / "recipes.toml"


@dataclass(frozen=True)
class Cell:
    """One run of a table: a row under a seed."""

    table: str
    row: str
    seed: int
    script: str
    flags: str  # `{Row}` stands for the best checkpoint of `first`
    folder: str = "results"
    first: Cell | None = None  # the run whose checkpoint this one starts from

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"{self.row}, seed {self.seed}"

    @property
    def result(self) -> Path:
        """The path of its recorded `metrics.json`."""
        return ROOT / self.folder / self.table / f"{_slug(self.row)}.seed{self.seed}.json"

    @property
    def predictions(self) -> Path:
        """The path of its table's recorded predictions."""
        return self.result.with_name("predictions.csv.gz")

    @property
    def store_root(self) -> str:
        """Its own folder of runs, relative to the repository; rows with RRT differ in no other name."""
        return f"checkpoint/{self.table}/{_slug(self.row)}"

    @property
    def log(self) -> Path:
        """The path of its output under a sweep."""
        return ROOT / self.store_root / f"seed{self.seed}.log"

    @property
    def identity(self) -> str:
        """The script and flags, which results record; with the seed they determine the run."""
        return " ".join(f"python {self.script} {self.flags}".split())

    def command(self) -> list[str]:
        """Return the command without the interpreter, for the repository's root."""
        flags = self.flags
        if self.first is not None:
            checkpoint = (read_json(self.first.result) or {}).get("checkpoint", "CKPT")
            flags = flags.replace(f"{{{self.first.row}}}", shlex.quote(checkpoint))
        places = ["--store_root", self.store_root, "--metrics_json", str(self.result.relative_to(ROOT))]
        return [self.script, *shlex.split(flags), "--seed", str(self.seed), *places]


@dataclass(frozen=True)
class Claim:
    """A conclusion of a paper: on this metric and shot, one row is better than another."""

    says: str
    better: str
    than: str
    metric: str
    shot: str
    source: str = ""  # with page or table
    on: tuple[str, ...] = ()  # its data sets


@dataclass(frozen=True)
class Table:
    """A table of `recipes.toml` at one scale: its rows, and the metrics to print."""

    name: str  # of its folder in results/
    title: str
    script: str
    flags: str
    seeds: tuple[int, ...]
    metrics: dict[str, str]  # name in metrics.json -> name in published.csv
    rows: dict[str, dict[str, Any]]  # row -> flags, and its name in published.csv
    dataset: str | None = None  # name in published.csv, where the paper has these rows
    papers: tuple[int, ...] = ()  # the paper's tables with these rows, the main one first
    source: str = ""
    folder: str = "results"  # of the results, below the repository; "checkpoint" keeps them out of git
    groups: tuple[str, ...] = ("all", "many", "medium", "few")
    setup: tuple[str, ...] = ()  # commands that make its data, where that takes nothing but time
    claims: tuple[Claim, ...] = ()
    key: str = ""  # its name in recipes.toml
    scale: str = ""
    protocol: str = ""  # "one" for all rows, of each its "own"; "apart" from the study; its "sensitivity"
    published: tuple[str, ...] = ()  # sources in later_published.csv, by their beginning, the first preferred

    def cell(self, row: str, seed: int) -> Cell:
        """Return the run of a row under a seed; a row `of` another table is that table's run."""
        own = self.rows[row]["flags"]
        named = re.search(r"\{(.+?)\}", own)
        first = self.cell(named.group(1), seed) if named else None
        table = self.rows[row].get("of", self.key) + self.name.removeprefix(self.key)
        return Cell(table, row, seed, self.script, f"{self.flags} {own}", self.folder, first)

    def cells(self, seeds: tuple[int, ...] | None = None) -> Iterator[Cell]:
        """Yield every run, seed by seed."""
        for seed in seeds or self.seeds:
            for row in self.rows:
                yield self.cell(row, seed)


def read_tables(path: Path = RECIPES) -> dict[str, Table]:
    """Read every table at each of its scales, by full name; raises UserError if the file is damaged."""
    with reading_toml(path) as content:
        rows, claims = content.pop("rows", {}), content.pop("claims", {})
        named = dict(_tables(content))
        tables = [
            _table(key, scale, {**table, **values}, rows, claims)
            for key, table in named.items()
            for scale, values in _scales(named, table).items()
        ]
    return {table.name: table for table in tables}


def _tables(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tables; one with `each` once for every name there, with its words in titles, flags and `like`."""
    for key, table in content.items():
        if "each" not in table:
            yield key, table
        for name, words in table.get("each", {}).items():
            words = {"table": name, **words}
            scales = {x: words | y | _filled(y, words) for x, y in table.get("scales", {}).items()}
            yield f"{key}-{name}", {**table, **words, **_filled(table, words), "scales": scales}


def _filled(values: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, str]:
    """Return the title, the flags and `like`, as far as they are there, with their `$words` filled in."""
    return {x: Template(values[x]).substitute(words) for x in ("title", "flags", "like") if x in values}


def _scales(tables: Mapping[str, Any], table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scales of a table; one `like` another takes its scales, script, data and metrics."""
    if "like" not in table:
        return table["scales"]
    model = tables[table["like"]]
    shared = {name: model[name] for name in ("script", "dataset", "metrics") if name in model.keys() - table}
    own = table.get("scales", {})
    return {
        scale: {**shared, **values, "title": f"{values['title']}: {table['about']}", **own.get(scale, {})}
        for scale, values in model["scales"].items()
        if scale in ("paper", "small")
    }


def _table(
    key: str, scale: str, values: dict[str, Any], rows: dict[str, Any], claims: dict[str, Any]
) -> Table:
    """Return one table at one scale, its rows expanded."""
    metrics, own = values["metrics"], dict(_expanded(_named(values, rows), values))
    return Table(
        name=f"{key}-{values.get('suffix', scale)}",
        title=values["title"],
        script=values["script"],
        flags=f"{values['flags']} {values.get('more', '')}".rstrip(),
        seeds=tuple(values["seeds"]),
        metrics=metrics,
        rows=own,
        dataset=values.get("dataset"),
        papers=tuple(values.get("papers", ())),
        source=values.get("source", ""),
        folder=values.get("folder", "results"),
        groups=tuple(values.get("groups", Table.groups)),
        setup=tuple(values.get("setup", ())),
        claims=tuple(_claims(claims.get(values.get("claims", ""), []), metrics, own)),
        key=key,
        scale=scale,
        protocol=values.get("protocol", ""),
        published=tuple(values.get("published", ())),
    )


def _named(values: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """Return the recipes of a table's rows: of each section that it names, as far as `only` says."""
    found = {row: recipe for section in values["rows"].split() for row, recipe in rows[section].items()}
    of = {"of": values["of"]} if "of" in values else {}
    return {row: of | found[row] for row in values.get("only", found)}


def _expanded(rows: dict[str, Any], scale: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows with their `$words` filled in; a row with `each` once for every combination."""
    words = {word: value for word, value in scale.items() if isinstance(value, str)}
    for row, recipe in rows.items():
        each = recipe.get("each", {})
        for values in itertools.product(*each.values()):
            filled = words | dict(zip(each, map(str, values), strict=True))
            texts = {name: text for name, text in recipe.items() if name != "each"}
            yield (
                Template(row).substitute(filled),
                {name: Template(text).substitute(filled) for name, text in texts.items()},
            )


def _claims(claims: list[Any], metrics: Mapping[str, str], rows: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield the claims one by one, as far as the table has their rows."""
    for claim in claims:
        for (better, than), metric, shot in itertools.product(
            claim["pairs"], claim.get("metrics", list(metrics)[:1]), claim["shots"]
        ):
            if better in rows and than in rows:
                says, source, on = claim["says"], claim.get("source", ""), tuple(claim.get("on", ()))
                yield Claim(says, better, than, metric, shot, source, on)


def find_table(name: str, scale: str | None = None) -> Table:
    """Return the table of a full name, or of a name or number in the paper at this scale.

    Raises UserError, which lists the tables, if there is none.
    """
    tables = read_tables()
    if name in tables and scale in (None, tables[name].scale):
        return tables[name]
    same = [table for table in tables.values() if table.key == name or name in map(str, table.papers)]
    if not same:
        known = dict.fromkeys(
            f"{table.key} ({', '.join(map(str, table.papers))})" if table.papers else table.key
            for table in tables.values()
        )
        raise UserError(f"--table {name}: there is no such table; there are {', '.join(known)}")
    scales = {table.scale: table for table in same}
    if scale in scales:
        return scales[scale]
    raise UserError(f"--table {name}: has no --scale {scale}; it has {', '.join(scales)}")


def _slug(row: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
