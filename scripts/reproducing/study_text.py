"""The study as Markdown for readers, and as CSV: differences, claims, errors by label."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from reproducing import overview, sensitivity
from reproducing.claims import samples_of
from reproducing.effects import Effect, Judged
from reproducing.study import ENSEMBLE, RESAMPLES, Group, groups, one_of_each, ranks
from reproducing.table_text import DASH, markdown_table, signed

from common import cli
from common.metrics import METRICS
from common.report import HEADINGS

WIDTH = 25  # bins of the error by label, where labels are no whole numbers
COUNTED = {"holds": "hold", "does not hold": "do not hold", "undecided": "are undecided"}  # of several
GLANCED = ("all", "many", "few")  # shots of the first table
ALSO = ("bmae", "bmse", "sera", "nll", "miscalibration")  # of results, where they are


def contents() -> dict[Path, str]:
    """Return the study's files, and the READMEs that show an overview of several data sets."""
    found = groups()
    files = {
        "study.md": markdown(found, groups(apart=True)),
        "study.csv": effects_csv(found),
        "claims.csv": claims_csv(found),
        "errors.csv": errors_csv(found),
    }
    marked = {path: path.read_text(encoding="utf-8") for path in sorted(cli.ROOT.glob("*-dir/README.md"))}
    return {
        **{cli.ROOT / "results" / name: text for name, text in files.items()},
        **{
            path: overview.updated(text, found)
            for path, text in marked.items()
            if overview.MARKED.search(text)
        },
    }


def markdown(found: Sequence[Group], apart: Sequence[Group] = ()) -> str:
    """Format the study; stand-ins take no part, and are named. `apart` are the tables with another setting."""
    real = [group for group in found if not group.standin]
    standins = ", ".join(group.name for group in found if group.standin)
    judged = [verdict for group in real for verdict in group.judged()]
    counts = [f"{sum(x.word == word for x in judged)} {told}" for word, told in COUNTED.items()]
    claimed = sum(len(group.claims()) for group in real)
    sets = len(list(one_of_each(real)))
    cells = sum(len(cells) for group in real for cells in group.cells.values())
    lacking = sum(len(group.cells[row]) for group in real for row in group.missing)
    parts = [
        "# The study: what is each method worth?",
        f"By `python scripts/study.py` from {cells} recorded runs on {sets} data sets, as `docs/study.md` says. "
        f"{claimed} claims of papers, {len(judged)} of which have both rows: {', '.join(counts)}.",
        f"{lacking} of the runs are of rows that lack a seed and are compared with nothing. Many- and medium-shot "
        "labels: study.csv and the page of scripts/report.py.",
        f"Stand-ins take no part: {standins}." if standins else "",
        _at_a_glance(real),
        *(part for group in real for part in _group(group)),
        "## Mean ranks",
        _ranks(real),
        f"## Other learning rates\n\n{rates}" if (rates := sensitivity.markdown(real, apart)) else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _at_a_glance(real: Iterable[Group]) -> str:
    """Format on how many data sets each row is better or worse than its base row, by the main metric."""
    words: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for group in one_of_each(real):
        for x in group.effects:
            if x.metric == group.metrics[0] and x.shot in GLANCED:
                words.setdefault((x.row, x.base), {shot: Counter() for shot in GLANCED})[x.shot][x.word] += 1
    lines = [["row", "base", "data sets", *(f"{HEADINGS[shot]}: better, worse" for shot in GLANCED)]]
    for (row, base), found in words.items():
        counts = [f"{found[shot]['better']}, {found[shot]['worse']}" for shot in GLANCED]
        lines.append([row, base, str(found["all"].total()), *counts])
    return f"## At a glance\n\n{markdown_table(lines, left=2)}" if words else ""


def _group(group: Group) -> Iterator[str]:
    """Yield the parts of one data set."""
    yield f"## {group.tables[0].title}"
    drawn = f"{samples_of(group.tables[0])} and seeds ({RESAMPLES:,} draws)"
    yield (
        f"`{group.name}`, seeds {', '.join(map(str, group.seeds))}. Differences are row less base, with the 95 % "
        f"interval of a bootstrap over {drawn}. *Could show*: half of it."
    )
    left = "; ".join(f"{row} {reason}" for row, reason in group.missing.items())
    yield f"Left out of every comparison: {left}." if left else ""
    yield f"Not run: {'; '.join(group.not_run)}." if group.not_run else ""
    if "rmse" in group.metrics:
        yield "No ensemble: predictions are kept by bin, and means of those are no predictions."
    for metric in group.metrics if group.frames else ():
        yield markdown_table(_effect_lines(group, metric), left=2)
    yield _also(group)
    yield _claims(group)


def _effect_lines(group: Group, metric: str) -> list[list[str]]:
    name = METRICS[metric].heading
    lines = [["row", "base", name, "difference, all", "could show", "", "difference, few", "", "minutes"]]
    of = {(x.row, x.shot): x for x in group.effects if x.metric == metric}
    for row in group.frames:
        whole, few, minutes = of.get((row, "all")), of.get((row, "few")), group.minutes(row)
        if whole is None:
            value = group.drawn.get((row, metric, "all"))
            cells = [DASH, f"{value[0]:.3f}" if value else DASH, *[DASH] * 5]
        else:
            cells = [whole.base, f"{whole.value:.3f}", _range(whole), f"{whole.smallest:.3f}", whole.word]
            cells += [_range(few), few.word] if few else [DASH, DASH]
        lines.append([row, *cells, DASH if minutes is None else f"{minutes:.1f}"])
    return lines


def _range(effect: Effect | Judged) -> str:
    difference = effect.difference if isinstance(effect, Effect) else effect.ours
    return f"{signed(difference)} ({signed(effect.low)} to {signed(effect.high)})"


def _also(group: Group) -> str:
    """Format the metrics that results have and predictions alone do not give; empty without any."""
    values = {row: [group.recorded(row, metric, "all") for metric in ALSO] for row in group.cells}
    shown = [i for i, _ in enumerate(ALSO) if any(line[i] is not None for line in values.values())]
    if not shown:
        return ""
    lines = [["as recorded, all", *(METRICS[ALSO[i]].heading for i in shown)]]
    for row, line in values.items():
        seeds = len(group.cells[row])
        name = row if seeds == len(group.seeds) else f"{row} ({seeds} of {len(group.seeds)} seeds)"
        lines.append([name, *(DASH if line[i] is None else f"{line[i]:.3f}" for i in shown)])
    return markdown_table(lines)


def _claims(group: Group) -> str:
    judged = group.judged()
    lines = [["claim", "source", "difference of", "on", "paper", "ours, at Holm's level", "verdict"]]
    for x, before in zip(judged, [None, *judged], strict=False):
        claim = x.claim
        again = before is not None and before.claim.says == claim.says
        lines.append([
            "" if again else claim.says, claim.source + (" (carried over)" if x.carried else ""),
            f"{claim.better} and {claim.than}", f"{METRICS[claim.metric].heading}, {HEADINGS[claim.shot]}",
            DASH if x.paper is None else signed(x.paper), _range(x), x.word,
        ])  # fmt: skip
    done = {x.claim for x in judged}
    absent = [claim for claim, _ in group.claims() if claim not in done]
    pairs = dict.fromkeys(f"{claim.better} and {claim.than}" for claim in absent)
    left = (
        f"Not judged, for a row that lacks runs: {'; '.join(pairs)} ({len(absent)} claims)." if pairs else ""
    )
    table = markdown_table(lines, left=4) if judged else ""
    return "\n\n".join(part for part in (table, left) if part)


def _ranks(real: Sequence[Group]) -> str:
    found = sorted(ranks(list(real)).items(), key=lambda item: (float(np.mean(item[1])), item[0]))
    lines = [["row", "mean rank", "data sets"]]
    return markdown_table([*lines, *([row, f"{np.mean(x):.2f}", str(len(x))] for row, x in found)])


# CSV


def effects_csv(found: Iterable[Group]) -> str:
    """Format every difference from a base row."""
    head = ["table", "row", "base", "metric", "shot", "value", "difference", "low", "high", "verdict"]
    lines = [
        [group.name, x.row, x.base, x.metric, x.shot, x.value, x.difference, x.low, x.high, x.word]
        for group in found for x in group.effects
    ]  # fmt: skip
    return _csv([head, *lines])


def claims_csv(found: Iterable[Group]) -> str:
    """Format every claim that could be judged."""
    head = ["table", "claim", "source", "carried over", "better", "than", "metric", "shot", "ours", "paper"]
    lines = [
        [group.name, x.claim.says, x.claim.source, x.carried, x.claim.better, x.claim.than, x.claim.metric,
         x.claim.shot, x.ours, x.paper, x.low, x.high, x.word]
        for group in found for x in group.judged()
    ]  # fmt: skip
    return _csv([[*head, "low", "high", "verdict"], *lines])


def errors_csv(found: Iterable[Group]) -> str:
    """Format the mean absolute error of each row by label, which the page draws."""
    lines = [
        [group.name, row, label, n, error]
        for group in found for row in group.frames if row != ENSEMBLE
        for label, n, error in errors(group, row)
    ]  # fmt: skip
    return _csv([["table", "row", "label", "n", "error"], *lines])


def errors(group: Group, row: str) -> list[tuple[float, int, float]]:
    """Return label, test samples and mean absolute error over seeds, by whole label or by bin."""
    first = group.frames[row][0]
    if "n" in first:  # depth, by bin
        tested = first["n"].to_numpy() > 0
        error = np.mean([frame["mae"].to_numpy()[tested] for frame in group.frames[row]], axis=0)
        return list(
            zip(*(first[x].to_numpy()[tested].tolist() for x in ("label", "n")), error.tolist(), strict=True)
        )
    labels = first["label"].to_numpy()
    error = np.mean([(f["prediction"] - f["label"]).abs().to_numpy() for f in group.frames[row]], axis=0)
    index, centres = bins_of(labels)
    n = np.bincount(index, minlength=len(centres))
    mean = np.bincount(index, error, minlength=len(centres)) / np.maximum(n, 1)
    return [(float(centres[i]), int(n[i]), float(mean[i])) for i in np.flatnonzero(n)]


def bins_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each label and the bins' centres: whole numbers, or `WIDTH` bins of equal width."""
    low, high = labels.min(), labels.max()
    if (labels == np.round(labels)).all() and high - low < 150:
        return (labels - low).astype(int), np.arange(low, high + 1)
    width = (high - low) / WIDTH or 1
    return np.minimum(((labels - low) / width).astype(int), WIDTH - 1), low + width * (np.arange(WIDTH) + 0.5)


def _csv(lines: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    rounded = [[f"{x:.6g}" if isinstance(x, float) else x for x in line] for line in lines]
    csv.writer(file, lineterminator="\n").writerows(rounded)  # further digits depend on the machine
    return file.getvalue()
