"""scripts/tables.py: results as Markdown, to the last digit, and READMEs that agree with them."""

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
import tables
from recorded import FAST, UNSEEN, drawn_labels, record, write_recorded
from reproducing import claims, recipes, results
from reproducing.predictions import parse
from reproducing.recipes import Claim, Table, find_table, read_tables
from reproducing.table_numbers import numbers, paper_number, published, rows_of
from reproducing.table_text import PROTOCOLS, as_csv, escaped, latex, markdown

from common import cli
from common.errors import UserError
from common.files import read_json

PROG = "scripts/tables.py"
ROOT = cli.ROOT
N = {"all": 1000, "many": 718, "medium": 266, "few": 16}
ROWS = {
    "Vanilla": {"flags": "", "paper": "VANILLA"},
    "Not run": {"flags": "--loss l1", "paper": "INV"},
    "INV + LDS": {"flags": "--reweight inverse --lds", "paper": "INV + LDS"},
    "Ours": {"flags": "--fds"},
}
TABLE = Table(
    name="t", title="A made-up table", script="sts-b-dir/train.py", flags="--d_hid 6\n  --lr 1", seeds=(0, 1),
    metrics={"mse": "MSE", "pearson": "Pearson(%)"}, rows=ROWS, dataset="STS-B-DIR", papers=(3, 10),
)  # fmt: skip
STANDIN = "sts-b at scale 0.3, seed 0: made up"
SLUGS = {"Vanilla": "vanilla", "INV + LDS": "inv-lds", "Ours": "ours", "Not run": "not-run"}

# The values of all, many, medium and few for each row, seed and metric.
VALUES = {
    "Vanilla": [
        {"mse": (1.0, 0.9, 1.25, None), "pearson": (0.7, 0.65, 0.5, None)},
        {"mse": (1.2, 0.9, 1.25, 2.0), "pearson": (0.72, 0.7501, 0.5, 0.9)},
    ],
    "INV + LDS": [
        {"mse": (0.9994, 0.91, 1.1, None), "pearson": (0.7105, 0.6, None, None)},
        {"mse": (1.0004, 0.95, 1.3, None), "pearson": (0.7125, 0.8, None, None)},
    ],
}
EXPECTED = """\
A made-up table: mean ± standard deviation over 2 seeds; best in bold. Test samples: \
All 1,000, Many 718, Medium 266, Few 16.

In brackets: ours less the paper's.

| MSE ↓     |               All |              Many |            Medium |       Few \
|      paper All |     paper Many |   paper Medium |      paper Few |
| --------- | ----------------: | ----------------: | ----------------: | --------: \
| -------------: | -------------: | -------------: | -------------: |
| Vanilla   |     1.100 ± 0.141 | **0.900 ± 0.000** |     1.250 ± 0.000 | **2.000** \
| 0.974 (+0.126) | 0.851 (+0.049) | 1.520 (−0.270) | 0.984 (+1.016) |
| INV + LDS | **1.000 ± 0.001** |     0.930 ± 0.028 | **1.200 ± 0.141** |         – \
| 0.914 (+0.086) | 0.819 (+0.111) | 1.319 (−0.119) |          0.955 |

| Pearson ↑ |               All |              Many |            Medium |       Few \
|      paper All |     paper Many |   paper Medium |      paper Few |
| --------- | ----------------: | ----------------: | ----------------: | --------: \
| -------------: | -------------: | -------------: | -------------: |
| Vanilla   |     0.710 ± 0.014 | **0.700 ± 0.071** | **0.500 ± 0.000** | **0.900** \
| 0.742 (−0.032) | 0.720 (−0.020) | 0.627 (−0.127) | 0.752 (+0.148) |
| INV + LDS | **0.712 ± 0.001** |     0.700 ± 0.141 |                 – |         – \
| 0.756 (−0.044) | 0.734 (−0.034) |          0.638 |          0.762 |

`python scripts/reproduce.py --table t` runs, for each seed, with the row's flags:

```
$ python sts-b-dir/train.py --d_hid 6 --lr 1
Vanilla:
INV + LDS: --reweight inverse --lds
```
"""
# A line per row, metric and shot: to the last digit what a calculator of 50 digits gives, rounded once.
LINES = """\
t,Vanilla,mse,all,1000,2,1.1,0.14142135623730948,0.974,0.1260000000000001,False
t,Vanilla,mse,few,16,1,2.0,,0.984,1.016,True
t,INV + LDS,mse,few,16,0,,,0.955,,False
t,INV + LDS,pearson,all,1000,2,0.7115,0.0014142135623730963,0.756,-0.044499999999999984,True
""".splitlines()


def write_result(root, row, seed, metrics, **more):
    """The result of a run, where reproduce.py keeps it."""
    shots = {
        group: {"n": N[group]} | {metric: values[i] for metric, values in metrics.items()}
        for i, group in enumerate(N)
    }
    path = root / "results" / "t" / f"{SLUGS[row]}.seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"command": TABLE.cell(row, seed).identity, "dataset": "sts-b", "checkpoint": "x", "shots": shots}
    path.write_text(json.dumps(told | more))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder for results; the paper's numbers stay those of this repository."""
    for module in (recipes, results):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def fill(root, **more):
    for row, seeds in VALUES.items():
        for seed, metrics in enumerate(seeds):
            write_result(root, row, seed, metrics, **more)


# One table


def test_markdown_to_the_last_digit(root):
    fill(root)
    assert markdown(TABLE) == EXPECTED


def test_csv_to_the_last_digit(root):
    fill(root)
    head, *lines = as_csv(TABLE).splitlines()
    assert head == "table,row,metric,shot,n,seeds,mean,sd,paper,difference,best"
    assert len(lines) == 2 * 2 * 4  # rows, metrics, shots
    assert set(LINES) <= set(lines)


def test_latex_has_the_same_numbers(root):
    fill(root)
    text = latex(TABLE)
    assert text.startswith(
        "\\begin{table*}\n\\caption{A made-up table: mean $\\pm$ standard deviation over 2 seeds"
    )
    assert "\\begin{tabular}{lrrrrrrrr}\n" in text
    assert (
        "Vanilla & 1.100 $\\pm$ 0.141 & \\textbf{0.900 $\\pm$ 0.000} & 1.250 $\\pm$ 0.000 & \\textbf{2.000} "
        "& 0.974 (+0.126) & 0.851 (+0.049) & 1.520 ($-$0.270) & 0.984 (+1.016) \\\\\n"
    ) in text
    assert text.count("\\midrule") == 3 and text.endswith("\\bottomrule\n\\end{tabular}\n\\end{table*}\n")
    assert "%" not in text and "↓" not in text


def test_what_latex_would_take_for_a_command_is_escaped():
    assert escaped("a_b & 5 % {x} $y #1 ~ ^ \\ ± − –") == (
        r"a\_b \& 5 \% \{x\} \$y \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} $\pm$ $-$ --"
    )


def test_a_stand_in_is_told_before_any_number_and_not_set_beside_the_papers(root):
    fill(root, standin=STANDIN)
    text = markdown(TABLE)
    caption, note, table = text.split("\n\n", 2)
    assert caption == EXPECTED.split("\n\n")[0]
    assert note == f"**Stand-in, not the real data** ({STANDIN})."
    assert table.startswith("| MSE ↓     |               All |") and "paper" not in table
    assert {number.paper for number in numbers(TABLE, rows_of(TABLE))} == {None}


def test_results_that_were_selected_on_the_test_set_say_so(root):
    fill(root, selected_on="test")
    assert "\n\nThe best epoch is chosen on the test set, as in the paper.\n\n" in markdown(TABLE)


def test_a_row_that_the_paper_has_not_has_dashes_and_a_single_seed_no_deviation(root):
    fill(root)
    write_result(root, "Ours", 1, {"mse": (0.5, 0.5, 0.5, 0.5), "pearson": (0.1, 0.1, 0.1, 0.1)})
    text = re.sub(" +", " ", markdown(TABLE))
    assert "| Ours | **0.500** | **0.500** | **0.500** | **0.500** | – | – | – | – |\n" in text
    assert "| Ours | 0.100 | 0.100 | 0.100 | 0.100 | – | – | – | – |\n" in text
    assert "over 1 to 2 seeds" in text
    assert "Not run" not in text


def test_results_of_other_seeds_do_not_count(root):
    fill(root)
    write_result(root, "Vanilla", 2, {"mse": (9, 9, 9, 9), "pearson": (0, 0, 0, 0)})
    assert markdown(TABLE) == EXPECTED


def test_a_table_that_is_not_the_papers_has_no_columns_of_it(root):
    fill(root)
    own = Table(**{**vars(TABLE), "papers": (), "dataset": None})
    text = re.sub(" +", " ", markdown(own))
    assert "| MSE ↓ | All | Many | Medium | Few |\n" in text
    assert "| Vanilla | 1.100 ± 0.141 | **0.900 ± 0.000** | 1.250 ± 0.000 | **2.000** |\n" in text
    assert "paper" not in text


def test_rows_under_protocols_of_their_own_are_not_ranked_and_name_their_sources(root):
    rows = {
        "Vanilla": {"flags": "", "paper": "RankSim"},
        "INV + LDS": ROWS["INV + LDS"] | {"paper": "RRT+RankSim"},
    }
    own = Table(**{**vars(TABLE), "rows": rows, "protocol": "own", "published": ("RankSim", "SRL paper")})
    fill(root)
    text = re.sub(" +", " ", markdown(own))
    caption, note, *_ = text.split("\n\n")
    assert "bold" not in caption
    assert note == PROTOCOLS["own"][0]
    assert "**" not in text.removeprefix(caption).replace(note, "")
    assert ",True" not in as_csv(own)
    assert "| 1.100 ± 0.141 | 0.900 ± 0.000 | 1.250 ± 0.000 | 2.000 | 0.889 (+0.211) |" in text
    assert "| 0.865 (+0.135) | – | – | 0.670 |" in text
    assert (
        '\n\n"Paper" is what others published: Vanilla: SRL paper (CVPR 2025; arXiv 2503.00876v1) Table 4 ('
        in text
    )
    assert (
        ". INV + LDS: RankSim repository 9e1c862; sts-b-dir/README.md:142 (RankSim: bs 16 lr 2.5e-4" in text
    )


def test_a_stage_without_a_head_has_no_line(root):
    fill(root)
    path = write_result(root, "Ours", 0, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shots": {}}))
    assert markdown(TABLE) == EXPECTED
    assert results.state(TABLE.cell("Ours", 0)) == "recorded"


def test_a_number_of_the_main_table_is_taken_before_that_of_the_appendix(root):
    for table, found in (((3, 10), 0.907), ((10, 3), 0.907), ((), None), ((1,), None)):
        own = Table(
            **{**vars(TABLE), "papers": table, "rows": {"R": {"flags": "", "paper": "INV + LDS + FDS"}}}
        )
        assert paper_number(own, "R", "mse", "all") == found
    kernels = {"flags": "", "paper": "VANILLA + LDS", "variant": "kernel=LAPLACIAN"}
    own = Table(**{**vars(TABLE), "papers": (14,), "rows": {"R": kernels}})
    published = pd.read_csv(ROOT / "data" / "published.csv")
    chosen = published[(published["table"] == 14) & (published["variant"] == kernels["variant"])]
    chosen = chosen[(chosen["method"] == "VANILLA + LDS") & (chosen["metric"] == "Pearson(%)")]
    assert paper_number(own, "R", "pearson", "few") == chosen[chosen["shot"] == "few"]["value"].item() / 100


def test_claims_come_with_their_verdicts(root, monkeypatch):
    fill(root)
    claim = Claim("LDS helps", "INV + LDS", "Vanilla", "mse", "many")
    claimed = Table(**{**vars(TABLE), "claims": (claim, Claim("LDS helps", "Ours", "Vanilla", "mse", "all"))})
    text = re.sub(" +", " ", markdown(claimed))
    assert "| The paper's claim | difference of | on | paper | ours | 95 % interval | verdict |\n" in text
    line = "| LDS helps | INV + LDS and Vanilla | MSE, Many | −0.032 | +0.030 | – | no predictions |\n"
    assert line in text and "Ours and" not in text
    monkeypatch.setattr(claims, "interval", lambda *_: (0.01, 0.0504))
    text = re.sub(" +", " ", markdown(claimed))
    assert line.replace("– | no predictions", "+0.010 to +0.050 | does not hold") in text
    assert "bootstrap over test samples (the same for both rows) and seeds; 2,000 resamples" in text


@pytest.mark.parametrize("content", ["", '{"shots": {"all"', "\x00\x00", "{}"])
def test_a_broken_result_is_named(root, content):
    fill(root)
    path = root / "results" / "t" / "inv-lds.seed1.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        markdown(TABLE)
    assert str(caught.value) == f"{path}: is cut short; run scripts/reproduce.py again"


def test_a_result_that_does_not_say_its_command_makes_no_table(root):
    """It may be of another configuration."""
    fill(root)
    path = root / "results" / "t" / "vanilla.seed0.json"
    path.write_text(path.read_text().replace('"command"', '"comment"'))
    with pytest.raises(UserError, match=r"vanilla\.seed0\.json: does not say which command made it; run "):
        markdown(TABLE)


def test_a_result_of_another_configuration_makes_no_table(root):
    fill(root)
    path = write_result(
        root, "Vanilla", 1, VALUES["Vanilla"][1], command="python sts-b-dir/train.py --d_hid 7 --lr 1"
    )
    with pytest.raises(UserError) as caught:
        markdown(TABLE)
    assert str(caught.value) == (
        f"{path}: is of another configuration (7 there, 6 here); move it away, or mend the recipe"
    )


def test_a_table_without_results_says_how_to_get_them(root):
    with pytest.raises(UserError, match=r"results/t: has no result; run scripts/reproduce.py --table t"):
        markdown(TABLE)


def test_results_on_different_data_make_no_table(root):
    """A row that was trained on a stand-in that has been drawn anew is no neighbour of the others."""
    fill(root, standin=STANDIN)
    for change in ({"standin": "another"}, {}):
        path = write_result(root, "INV + LDS", 1, VALUES["INV + LDS"][1], **change)
        with pytest.raises(UserError, match="inv-lds") as caught:
            markdown(TABLE)
        assert str(path) in str(caught.value)


def test_no_two_numbers_of_the_paper_claim_the_same_place():
    kept = pd.read_csv(ROOT / "data" / "published.csv")
    kept = kept[kept["kind"] == "value"]
    assert len(published()) == len(kept) > 2500
    assert published()[3, "STS-B-DIR", "INV + LDS + FDS", "", "MSE", "all"] == 0.907


# READMEs, and the files in results/


@pytest.fixture
def repository(root, monkeypatch):
    """Two READMEs, the second with table `t-x`, results, and the recipe."""
    (root / "data").mkdir()
    (root / "data" / "recipes.toml").write_text(
        '[t]\nscript = "x-dir/train.py"\nseeds = [0]\nmetrics = { mse = "MSE" }\nrows = "r"\n'
        '[t.scales.x]\ntitle = "T"\nflags = "--lr 1"\n[rows.r]\nVanilla = { flags = "" }\n'
    )
    monkeypatch.setattr(cli, "ROOT", root)
    monkeypatch.setattr(read_tables, "__defaults__", (root / "data" / "recipes.toml",))
    (root / "README.md").write_text("# No table here\n")
    (root / "x-dir").mkdir()
    (root / "x-dir" / "README.md").write_text("before\n<!-- table t-x -->\nold\n<!-- end -->\nafter – ü\n")
    rewrite(root, 1.0)
    return root


def rewrite(root, value):
    """The one result of `t-x`."""
    path = root / "results" / "t-x" / "vanilla.seed0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    shots = {group: {"n": n, "mse": value} for group, n in N.items()}
    told = {"command": "python x-dir/train.py --lr 1", "checkpoint": "x", "shots": shots}
    path.write_text(json.dumps(told))


def call(*argv):
    return cli.run_command(PROG, lambda: tables.main(argv))


FILES = ["results/t-x.md", "results/t-x.csv", "results/t-x.tex"]


def test_tables_go_between_their_markers_and_nothing_else_changes(repository, capsys):
    readme = repository / "x-dir" / "README.md"
    assert call() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: written" for name in [*FILES, "x-dir/README.md"]
    ]
    text = readme.read_text()
    assert text.startswith("before\n<!-- table t-x -->\nT: one seed; best in bold.")
    assert "\n| Vanilla | **1.000** | **1.000** | **1.000** | **1.000** |\n" in text
    assert text.endswith("```\n<!-- end -->\nafter – ü\n")
    assert "\nold\n" not in text
    assert (repository / "README.md").read_text() == "# No table here\n"
    assert (repository / "results" / "t-x.md").read_text() in text
    assert call() == 0  # nothing left to do
    assert capsys.readouterr().out == ""
    assert readme.read_text() == text


@pytest.mark.parametrize("name", [*FILES, "x-dir/README.md"])
def test_check_fails_and_writes_nothing_until_every_file_agrees(repository, name, capsys):
    assert call() == 0
    path = repository / name
    path.write_text(path.read_text().replace("1.0", "1.1"))
    before = path.read_bytes()
    assert call("--check") == 1
    error = capsys.readouterr().err
    assert error == f"{PROG}: error: {path}: differs from the results; run python scripts/tables.py\n"
    assert path.read_bytes() == before
    path.unlink() if name in FILES else path.write_text("<!-- table t-x -->\n<!-- end -->\n")
    assert call("--check") == 1
    assert call() == 0
    assert call("--check") == 0
    rewrite(repository, 1.001)
    assert call("--check") == 1


def test_an_unknown_marker_is_named(repository, capsys):
    (repository / "README.md").write_text("<!-- table sts -->\n<!-- end -->\n")
    assert call() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "marker `table sts`" in error and "data/recipes.toml" in error


def test_a_marker_may_name_one_metric_of_a_table(tmp_path, monkeypatch):
    write_recorded(tmp_path, monkeypatch)
    whole = tables.updated("<!-- table t-small -->\n<!-- end -->\n")
    text = tables.updated("<!-- table t-small mae -->\n<!-- end -->\n")
    for word in ("| MAE ↓ ", "| Vanilla", "Test samples: "):
        assert word in text and word in whole
    for word in ("| GM ↓ ", "claim", "$ python"):
        assert word not in text and word in whole
    assert tables.updated(text) == text
    with pytest.raises(UserError, match=r"marker `table t-small mse`: its metrics are mae, gm"):
        tables.updated("<!-- table t-small mse -->\n<!-- end -->\n")


def test_two_tables_of_a_readme_do_not_run_into_each_other(repository):
    block = "<!-- table t-x -->\n<!-- end -->\n"
    (repository / "README.md").write_text(f"{block}between\n{block}")
    assert call() == 0
    text = (repository / "README.md").read_text()
    assert text.count("| Vanilla |") == 2
    assert "<!-- end -->\nbetween\n<!-- table t-x -->\n" in text


@pytest.mark.slow
def test_the_readmes_and_the_tables_of_this_repository_are_up_to_date():
    assert cli.ROOT == ROOT
    assert tables.main(["--check"]) == 0


def test_every_result_of_this_repository_belongs_to_a_recipe():
    """None is left over of a row, a seed or a table that is no more, and each names its command."""
    cells = {cell.result: cell for table in read_tables().values() for cell in table.cells(tuple(range(10)))}
    found = sorted((ROOT / "results").glob("*/*.json"))
    assert found and set(found) <= cells.keys()
    for path in found:
        assert json.loads(path.read_text())["command"] == cells[path].identity
        assert str(ROOT) not in path.read_text()
    files = set((ROOT / "results").glob("*/*.csv.gz"))
    assert files <= {cell.predictions for cell in cells.values()}
    for file in files:
        columns = parse(gzip.decompress(file.read_bytes()).decode())
        assert {file.with_name(f"{name.partition('/')[0]}.json") for name in columns if "/" in name} <= set(
            found
        )


def test_a_table_tells_interpolated_from_extrapolated_labels(tmp_path, monkeypatch):
    table = write_recorded(tmp_path, monkeypatch, unseen=UNSEEN)
    text = markdown(table)
    assert "Test samples: All 60, Zero 8, Interp. 4, Extrap. 4." in text
    assert (
        text.count("|               All |              Zero |           Interp. |           Extrap. |") == 2
    )
    assert "| MAE, Interp. |" in text
    assert r"MAE $\downarrow$ & All & Zero & Interp. & Extrap. \\" in latex(table)
    assert [x.n for x in numbers(table, rows_of(table)) if (x.row, x.metric) == ("INV", "mae")] == [
        60,
        8,
        4,
        4,
    ]


MEASURED = {
    "machine": "A processor", "gpu": "no GPU", "quick": False, "minutes": 2.4,
    "rows": [
        {"part": "a", "what": "Epoch, fp32, online: x published way", "ratio": 2.506},
        {"part": "a", "what": "Epoch, bf16, online: x published way", "ratio": 6.1},
        {"part": "d", "what": "FDS smooth", "ratio": 1.2},
        {"part": "e", "what": "growth", "ratio": 1},
    ],
}  # fmt: skip


def test_ratios_of_the_benchmarks_go_between_their_markers(repository):
    (repository / "results").mkdir(exist_ok=True)
    (repository / "results" / "bench.json").write_text(json.dumps(MEASURED))
    written = tables.updated("A\n<!-- bench a d -->\nold\n<!-- end -->\nB\n")
    assert written.splitlines() == [
        "A",
        "<!-- bench a d -->",
        "| A processor; no GPU; 2 minutes | fp32 | bf16 |",
        "| ------------------------------ | ---: | ---: |",
        "| Epoch, online: x published way | 2.51 | 6.10 |",
        "| FDS smooth                     | 1.20 |    – |",
        "<!-- end -->",
        "B",
    ]
    assert tables.updated(written) == written


@pytest.mark.parametrize("content", [None, MEASURED | {"quick": True}], ids=["none", "a short look"])
def test_ratios_that_no_whole_benchmark_printed_are_refused(repository, content):
    (repository / "results").mkdir(exist_ok=True)
    if content:
        (repository / "results" / "bench.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results/bench\.json: is no whole measurement; run make bench"):
        tables.updated("<!-- bench a -->\n<!-- end -->\n")


def test_what_a_setting_changes_stands_beside_the_spread_of_seeds(tmp_path, monkeypatch):
    table, labels = write_recorded(tmp_path, monkeypatch, FAST), drawn_labels()
    for seed in (0, 1):
        record(find_table("t-fast-small").cell("INV (fast)", seed), labels, labels + 1)
    maes = [read_json(table.cell("INV", seed).result)["shots"]["all"]["mae"] for seed in (0, 1)]
    difference, spread = f"−{np.mean(maes) - 1:.3f}", np.std(maes, ddof=1)
    written = tables.updated("<!-- agreement t-fast-small -->\n<!-- end -->\n")
    assert written.splitlines()[1:-1] == [
        "| less the same without the flag (± over seeds) |        t-fast-small, MAE |",
        "| --------------------------------------------- | -----------------------: |",
        f"| INV (fast)                                    | {difference} (± {spread:.3f}), better |",
    ]
    assert tables.updated(written) == written


def test_a_marker_of_settings_that_names_no_table_says_which(repository):
    with pytest.raises(
        UserError, match=r"^marker `agreement nosuch`: there is no such table in data/recipes"
    ):
        tables.updated("<!-- agreement nosuch -->\n<!-- end -->\n")


# What the probe of FDS found


PROBED = """\
run,metric,dim,seed,reader,split,part,n,raw,true bin,random bin,predicted bin
"""


def write_probed(folder, *rows, seeds=(0, 1)):
    """docs/fds/t-small.csv: an error of 1000 for raw test features of the head, smaller ones elsewhere."""
    lines = [
        f"{row},mae,3,{seed},{reader},{split},{part},{60 if split == 'test' else 1200},"
        f"{value + seed},{value / 4},{value * 2},{value}\n"
        for row in rows for seed in seeds for part in ("all", "emptiest")
        for (reader, split), value in {
            ("head", "train"): 0.04, ("head", "test"): 1000.0, ("ridge", "train"): 2.0, ("ridge", "test"): 3.0
        }.items()
    ]  # fmt: skip
    (folder / "docs" / "fds").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "fds" / "t-small.csv").write_text(PROBED + "".join(lines))


def marked(kind):
    text = tables.updated(f"before\n<!-- probe {kind} t-small -->\nold\n<!-- end -->\nafter\n")
    assert text.startswith("before\n<!-- probe ") and text.endswith("<!-- end -->\nafter\n")
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[0] == "|"]


def test_the_probe_of_fds_is_shown_as_means_over_seeds(tmp_path, monkeypatch):
    write_recorded(tmp_path, monkeypatch)
    write_probed(tmp_path, "INV + LDS")
    head, _, *lines = marked("readers")
    assert head == ["reader", "rows", "raw", "true bin", "random bin", "predicted bin"]
    assert lines[0] == ["the run's head", "training", "0.54", "0.01", "0.08", "0.04"]
    assert lines[1] == ["the run's head", "test", "1,000", "250", "2,000", "1,000"]
    assert [line[1] for line in lines] == ["training", "test", "other half of training", "test"]
    head, _, line = marked("settings")
    assert line == ["t-small", "nothing", "0.54", "0.01", "1,000", "250", "3.5", "0.75"]
    head, _, line = marked("data")
    recorded = np.mean([read_json(cell.result)["shots"]["all"]["mae"] for cell in find_table("t-small").cells()
                        if cell.row == "INV + LDS"])  # fmt: skip
    assert line[:4] == ["t-small", "MAE", "1,200, 60", "3"]
    assert line[4:] == [f"{recorded:.4g}", "1,000", "98 %", "75 %", "3.5", "0.75"]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda folder: None, "is not there; run scripts/probe_fds.py --table t-small"),
        (lambda folder: write_probed(folder, "No row"), "has other rows than t-small"),
    ],
)
def test_a_probe_that_is_missing_or_of_another_table_is_refused(tmp_path, monkeypatch, write, reason):
    write_recorded(tmp_path, monkeypatch)
    write(tmp_path)
    with pytest.raises(UserError, match=reason):
        marked("readers")
