"""The study: differences, Holm's levels, claims, ranks and the ensemble, on small recorded results."""

import json
import shutil

import numpy as np
import pytest
import study as command
from conftest import ROOT
from recorded import FAST, NAME, UNSEEN, drawn_labels, record, write_recorded
from reporting.page import page
from reproducing.effects import holm, p_value
from reproducing.recipes import read_tables
from reproducing.study import ENSEMBLE, RESAMPLES, groups, ranks
from reproducing.study_text import bins_of, claims_csv, effects_csv, errors, markdown

from common import cli
from common.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def table(tmp_path, monkeypatch):
    return write_recorded(tmp_path, monkeypatch)


def of(group, row, metric="mae", shot="all"):
    return next(x for x in group.effects if (x.row, x.metric, x.shot) == (row, metric, shot))


def test_each_row_is_compared_with_its_base_row(table):
    (group,) = groups()
    assert {x.row: x.base for x in group.effects} == {
        "INV": "Vanilla",
        "INV + LDS": "INV",
        ENSEMBLE: "Vanilla",
    }
    lds = of(group, "INV + LDS")
    recorded = [
        json.loads(table.cell(row, s).result.read_text()) for row in ("INV + LDS", "INV") for s in (0, 1)
    ]
    values = [result["shots"]["all"]["mae"] for result in recorded]
    assert lds.difference == pytest.approx(np.mean(values[:2]) - np.mean(values[2:]), rel=1e-6)
    assert lds.low < lds.difference < lds.high < 0 and lds.word == "better"
    assert lds.smallest == (lds.high - lds.low) / 2
    assert of(group, "INV").word == "undecided"
    assert group.minutes("INV") == 1.5 and group.minutes(ENSEMBLE) is None


def test_the_ensemble_is_the_mean_of_two_rows_under_the_same_seed(table):
    (group,) = groups()
    for seed in (0, 1):
        pair = [group.frames[row][seed]["prediction"] for row in ("Vanilla", "INV")]
        assert group.frames[ENSEMBLE][seed]["prediction"].tolist() == ((pair[0] + pair[1]) / 2).tolist()
    assert of(group, ENSEMBLE).word == "better"  # independent noise of the same size


def test_claims_are_judged_and_those_made_elsewhere_are_carried_over(table):
    (group,) = groups()
    lds, inv = group.judged()
    assert (lds.word, inv.word) == ("holds", "undecided")
    assert lds.carried and lds.paper is None
    assert lds.low < of(group, "INV + LDS").low  # at Holm's level the interval is wider
    assert "A paper, Table 1 (carried over)" in markdown([group])
    assert claims_csv([group]).count("\n") == 3


def test_tables_of_one_budget_are_one_group_and_a_claim_is_that_of_its_first_table(tmp_path, monkeypatch):
    more = """
[study-t]
like = "t"
about = "more rows"
seeds = [0, 1]
rows = "s"
claims = "c"
[t-fast]
like = "t"
about = "fast"
more = "--lr 9"
seeds = [0, 1]
rows = "s"
only = ["Vanilla, longer"]
[rows.s]
"INV" = { of = "t", flags = "--reweight inverse" }
"Vanilla" = { flags = "" }
"Vanilla, longer" = { flags = "--x 2" }
[[claims.c]]
says = "Longer is better"
on = ["t"]
pairs = [["Vanilla, longer", "Vanilla"]]
shots = ["all"]
"""
    table = write_recorded(tmp_path, monkeypatch, more)
    labels = drawn_labels()  # those of the others
    for name in ("study-t-small", "t-fast-small"):
        for cell in (read_tables()[name].cell("Vanilla, longer", seed) for seed in (0, 1)):
            record(cell, labels, labels + 1)
    pooled, fast = groups()
    assert [x.name for x in pooled.tables] == [table.name, "study-t-small"] and fast.name == "t-fast-small"
    assert pooled.base("Vanilla, longer") == "Vanilla" and pooled.of["Vanilla"] == table
    assert [(c.better, of.name) for c, of in pooled.claims()] == [
        ("INV + LDS", table.name), ("INV", table.name), ("Vanilla, longer", "study-t-small")
    ]  # fmt: skip
    carried = {x.claim.better: x.carried for x in pooled.judged()}
    assert carried["INV"] and not carried["Vanilla, longer"]  # study-t is t, which the claim names
    assert of(pooled, "Vanilla, longer").base == "Vanilla"


def test_a_table_apart_takes_no_part_in_the_study_but_stands_on_the_page(tmp_path, monkeypatch):
    table = write_recorded(tmp_path, monkeypatch, FAST)
    labels = drawn_labels()
    for seed in (0, 1):
        record(read_tables()["t-fast-small"].cell("INV (fast)", seed), labels, labels + 1)
    assert [group.name for group in groups()] == [table.name]
    assert "INV (fast)" not in markdown(groups())
    shutil.copy(ROOT / "data" / "histograms.json", tmp_path / "data")  # for the page's charts
    (fast,) = groups(apart=True)
    assert of(fast, "INV (fast)").base == "INV"
    assert "INV (fast)" in page()


def test_the_order_of_rows_at_another_setting_is_held_against_the_study(tmp_path, monkeypatch):
    more = """
[t-rate]
protocol = "sensitivity"
like = "t"
about = "another rate"
more = "--lr 9"
seeds = [0, 1]
rows = "r"
"""
    write_recorded(tmp_path, monkeypatch, more)
    rate, rng = read_tables()["t-rate-small"], np.random.default_rng(1)
    labels = drawn_labels()
    for cell in rate.cells():  # the order turned: LDS, which is better in the study, is worse here
        noise = {"Vanilla": 3, "INV": 2, "INV + LDS": 9}[cell.row]
        record(cell, labels, np.float32(labels + noise * rng.normal(size=60)))
    assert "Other learning rates" not in markdown(groups())
    text = markdown(groups(), groups(apart=True))
    (line,) = [line for line in text.splitlines() if line.startswith("| t-rate-small | All")]
    _, _, rows, correlation, decided, turned = (cell.strip() for cell in line.strip("|").split("|"))
    means = [[np.mean([json.loads(t.cell(row, s).result.read_text())["shots"]["all"]["mae"] for s in (0, 1)])
              for row in rate.rows] for t in (rate, read_tables()[NAME])]  # fmt: skip
    orders = [np.argsort(np.argsort(x)) for x in means]
    assert (rows, turned) == ("3", "INV + LDS") and decided.endswith(", 1")
    assert float(correlation) == pytest.approx(np.corrcoef(orders)[0, 1], abs=0.005)


def test_a_row_that_lacks_a_seed_is_left_out_and_named(table):
    table.cell("INV", 1).result.unlink()
    (group,) = groups()
    assert group.missing == {"INV": "lacks seed 1"}
    assert group.effects == [] and group.judged() == []
    text = markdown([group])
    assert "Left out of every comparison: INV lacks seed 1." in text
    assert "Not judged, for a row that lacks runs: INV + LDS and INV; INV and Vanilla (2 claims)." in text


def test_a_row_without_predictions_is_left_out_and_named(table):
    for cell in table.cells():
        cell.predictions.unlink(missing_ok=True)
    (group,) = groups()
    assert set(group.missing.values()) == {"has no predictions"}
    assert markdown([group]) and effects_csv([group]).count("\n") == 1


def test_a_result_of_another_protocol_is_refused(table):
    path = table.cell("INV", 1).result
    path.write_text(path.read_text().replace("--x 1", "--x 2"))
    with pytest.raises(UserError, match=r"inv\.seed1\.json: is of another configuration"):
        groups()


def test_stand_ins_take_no_part_and_are_named(table):
    for cell in table.cells():
        told = json.loads(cell.result.read_text())
        cell.result.write_text(json.dumps(told | {"standin": "drawn"}))
    text = markdown(groups())
    assert f"Stand-ins take no part: {NAME}." in text and "## A <small>" not in text


def test_the_page_begins_with_how_often_a_row_is_better_and_worse(table):
    text = markdown(groups())
    lines = [line.replace(" ", "") for line in text.partition("## At a glance")[2].splitlines()[2:8]]
    assert lines[0] == "|row|base|datasets|All:better,worse|Many:better,worse|Few:better,worse|"
    assert "|INV+LDS|INV|1|1,0|1,0|1,0|" in lines
    assert "At a glance" not in markdown([])


def test_ranks_put_the_base_weights_of_all_data_sets_together(table):
    (group,) = groups()
    found = ranks([group, group])  # the same data count once
    assert found["base weights + LDS"] == [1]
    assert sorted(found["base weights"] + found["Vanilla"]) == [2, 3]


def test_holm_goes_down_the_p_values_and_stops_at_the_first_that_fails():
    assert holm([0.04, 0.001, 0.02]) == [
        (pytest.approx(0.05), True), (pytest.approx(0.05 / 3), True), (pytest.approx(0.025), True)
    ]  # fmt: skip
    assert [passed for _, passed in holm([0.03, 0.001, 0.04])] == [False, True, False]
    assert holm([]) == []


def test_a_p_value_is_two_sided_and_never_0():
    assert p_value(np.ones(RESAMPLES)) == 2 / (RESAMPLES + 1)
    assert p_value(np.array([-1.0, 1, 1, 1])) == 0.5
    assert p_value(np.zeros(10)) == 1


def test_errors_by_label_are_those_of_all_test_samples(table):
    (group,) = groups()
    points = errors(group, "INV")
    assert sum(n for _, n, _ in points) == 60
    assert sum(n * e for _, n, e in points) / 60 == pytest.approx(group.drawn["INV", "mae", "all"][0])
    index, centres = bins_of(np.array([0.0, 0.05, 5]))
    assert index.tolist() == [0, 0, 24] and centres[[0, 24]].tolist() == pytest.approx([0.1, 4.9])


def test_the_command_prints_the_study_and_writes_it(table, capsys):
    assert command.main([]) == 0
    assert capsys.readouterr().out == (cli.ROOT / "results" / "study.md").read_text()
    assert {path.name for path in (cli.ROOT / "results").glob("*.*")} == {
        "study.md", "study.csv", "claims.csv", "errors.csv"
    }  # fmt: skip


def test_claims_on_zero_shot_labels_are_judged_and_a_subset_takes_no_rank(tmp_path, monkeypatch):
    table = write_recorded(tmp_path, monkeypatch, unseen=UNSEEN)
    (group,) = groups()
    assert {x.claim.shot for x in group.judged()} == {"all", "interpolation"}
    lds = of(group, "INV + LDS", shot="interpolation")
    assert lds.value == pytest.approx(
        np.mean(
            [
                json.loads(table.cell("INV + LDS", s).result.read_text())["shots"]["interpolation"]["mae"]
                for s in (0, 1)
            ]
        )
    )
    assert of(group, ENSEMBLE, shot="extrapolation").base == "Vanilla"
    assert ranks([group]) == {}
