"""scripts/tables.py: results as Markdown, to the last digit, and READMEs that agree with them."""

import json

import pandas as pd
import pytest
import tables

from common import cli, recipes
from common.errors import UserError
from common.recipes import Table, read_tables

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
    metrics={"mse": "MSE", "pearson": "Pearson(%)"}, rows=ROWS, dataset="STS-B-DIR", paper_table=3,
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

| MSE ↓ | All | Many | Medium | Few | paper All | paper Many | paper Medium | paper Few |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| Vanilla | 1.100 ± 0.141 | **0.900 ± 0.000** | 1.250 ± 0.000 | **2.000** | 0.974 | 0.851 | 1.520 | 0.984 |
| INV + LDS | **1.000 ± 0.001** | 0.930 ± 0.028 | **1.200 ± 0.141** | – | 0.914 | 0.819 | 1.319 | 0.955 |

| Pearson ↑ | All | Many | Medium | Few | paper All | paper Many | paper Medium | paper Few |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| Vanilla | 0.710 ± 0.014 | **0.700 ± 0.071** | **0.500 ± 0.000** | **0.900** \
| 0.742 | 0.720 | 0.627 | 0.752 |
| INV + LDS | **0.712 ± 0.001** | 0.700 ± 0.141 | – | – | 0.756 | 0.734 | 0.638 | 0.762 |

`python scripts/reproduce.py --table t` runs, for each seed:

```
Vanilla:                      python sts-b-dir/train.py --d_hid 6 --lr 1
INV + LDS:                    python sts-b-dir/train.py --d_hid 6 --lr 1 --reweight inverse --lds
```
"""


def write_result(root, row, seed, metrics, **more):
    """The metrics.json of a run, where reproduce.py puts it."""
    shots = {
        group: {"n": N[group]} | {metric: values[i] for metric, values in metrics.items()}
        for i, group in enumerate(N)
    }
    path = root / "results" / "t" / f"{SLUGS[row]}.seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset": "sts-b", "shots": shots, **more}))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder for results; the paper's numbers stay those of this repository."""
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    return tmp_path


def fill(root, **more):
    for row, seeds in VALUES.items():
        for seed, metrics in enumerate(seeds):
            write_result(root, row, seed, metrics, **more)


# One table


def test_markdown_to_the_last_digit(root):
    fill(root)
    assert tables.markdown(TABLE) == EXPECTED


def test_a_stand_in_is_told_before_any_number(root):
    fill(root, standin=STANDIN)
    head, tail = EXPECTED.split("\n\n| MSE", 1)
    note = f"**Stand-in, not the real data** ({STANDIN})."
    assert tables.markdown(TABLE) == f"{head}\n\n{note}\n\n| MSE{tail}"


def test_a_row_that_the_paper_has_not_has_dashes_and_a_single_seed_no_deviation(root):
    fill(root)
    write_result(root, "Ours", 1, {"mse": (0.5, 0.5, 0.5, 0.5), "pearson": (0.1, 0.1, 0.1, 0.1)})
    text = tables.markdown(TABLE)
    assert "| Ours | **0.500** | **0.500** | **0.500** | **0.500** | – | – | – | – |\n" in text
    assert "| Ours | 0.100 | 0.100 | 0.100 | 0.100 | – | – | – | – |\n" in text
    assert "over 1 to 2 seeds" in text
    assert "Not run" not in text


def test_results_of_other_seeds_do_not_count(root):
    fill(root)
    write_result(root, "Vanilla", 2, {"mse": (9, 9, 9, 9), "pearson": (0, 0, 0, 0)})
    assert tables.markdown(TABLE) == EXPECTED


def test_a_table_that_is_not_the_papers_has_no_columns_of_it(root):
    fill(root)
    own = Table(**{**vars(TABLE), "paper_table": None, "dataset": None})
    lines = tables.markdown(own).splitlines()
    assert "| MSE ↓ | All | Many | Medium | Few |" in lines
    assert "| Vanilla | 1.100 ± 0.141 | **0.900 ± 0.000** | 1.250 ± 0.000 | **2.000** |" in lines
    assert "paper" not in "\n".join(lines)


@pytest.mark.parametrize("content", ["", '{"shots": {"all"', "\x00\x00"])
def test_a_broken_result_is_named(root, content):
    fill(root)
    path = root / "results" / "t" / "inv-lds.seed1.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        tables.markdown(TABLE)
    assert str(caught.value).startswith(f"{path}: is cut short; delete it and run scripts/reproduce.py")


def test_a_table_without_results_says_how_to_get_them(root):
    with pytest.raises(UserError, match=r"results/t: has no result; run scripts/reproduce.py --table t"):
        tables.markdown(TABLE)


def test_results_on_different_data_make_no_table(root):
    """A row that was trained on a stand-in that has been drawn anew is no neighbour of the others."""
    fill(root, standin=STANDIN)
    path = write_result(root, "INV + LDS", 1, VALUES["INV + LDS"][1], standin="another")
    for change in ({"standin": "another"}, {}):
        path = write_result(root, "INV + LDS", 1, VALUES["INV + LDS"][1], **change)
        with pytest.raises(UserError, match="inv-lds") as caught:
            tables.markdown(TABLE)
        assert str(path) in str(caught.value)


def test_no_two_numbers_of_the_paper_claim_the_same_place():
    numbers = pd.read_csv(ROOT / "data" / "published.csv")
    kept = numbers[(numbers["kind"] == "value") & numbers["variant"].isna()]
    assert len(tables.published()) == len(kept) > 2000
    assert tables.published()[3, "STS-B-DIR", "INV + LDS + FDS", "MSE", "all"] == 0.907


def test_every_recipe_of_a_paper_table_finds_its_numbers():
    for table in read_tables().values():
        for row, recipe in table.rows.items():
            for metric in table.metrics:
                cells = [tables.paper_cell(table, row, metric, group) for group in N]
                assert all((cell == "–") is ("paper" not in recipe) for cell in cells), (table.name, row)


# READMEs


@pytest.fixture
def repository(root, monkeypatch):
    """Two READMEs, the second with table `t`, results, and the recipe."""
    (root / "data").mkdir()
    (root / "data" / "recipes.toml").write_text(
        '[t]\ntitle = "T"\nscript = "x-dir/train.py"\nflags = "--lr 1"\nseeds = [0]\n'
        'metrics = { mse = "MSE" }\nrows.Vanilla = { flags = "" }\n'
    )
    monkeypatch.setattr(cli, "ROOT", root)
    monkeypatch.setattr(read_tables, "__defaults__", (root / "data" / "recipes.toml",))
    (root / "README.md").write_text("# No table here\n")
    (root / "x-dir").mkdir()
    (root / "x-dir" / "README.md").write_text("before\n<!-- table t -->\nold\n<!-- end -->\nafter – ü\n")
    write_result(root, "Vanilla", 0, {"mse": (1.0, 2.0, 3.0, 4.0)})
    return root


def call(*argv):
    return cli.run_command(PROG, lambda: tables.main(argv))


def test_tables_go_between_their_markers_and_nothing_else_changes(repository, capsys):
    readme = repository / "x-dir" / "README.md"
    assert call() == 0
    assert capsys.readouterr().out == "x-dir/README.md: written\n"
    text = readme.read_text()
    assert text.startswith("before\n<!-- table t -->\nT: one seed; best in bold.")
    assert "\n| Vanilla | **1.000** | **2.000** | **3.000** | **4.000** |\n" in text
    assert text.endswith("```\n<!-- end -->\nafter – ü\n")
    assert "\nold\n" not in text
    assert (repository / "README.md").read_text() == "# No table here\n"
    assert call() == 0  # nothing left to do
    assert capsys.readouterr().out == ""
    assert readme.read_text() == text


def test_check_fails_and_writes_nothing_until_a_readme_agrees(repository, capsys):
    readme = repository / "x-dir" / "README.md"
    before = readme.read_text()
    assert call("--check") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{PROG}: error: {readme}: ")
    assert "python scripts/tables.py" in error
    assert readme.read_text() == before
    assert call() == 0
    assert call("--check") == 0
    write_result(repository, "Vanilla", 0, {"mse": (1.001, 2.0, 3.0, 4.0)})
    assert call("--check") == 1


def test_an_unknown_marker_is_named(repository, capsys):
    (repository / "README.md").write_text("<!-- table sts -->\n<!-- end -->\n")
    assert call() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "marker `table sts`" in error and "data/recipes.toml" in error


def test_two_tables_of_a_readme_do_not_run_into_each_other(repository):
    block = "<!-- table t -->\n<!-- end -->\n"
    (repository / "README.md").write_text(f"{block}between\n{block}")
    assert call() == 0
    text = (repository / "README.md").read_text()
    assert text.count("| Vanilla |") == 2
    assert "<!-- end -->\nbetween\n<!-- table t -->\n" in text


def test_the_readmes_of_this_repository_are_up_to_date():
    assert cli.ROOT == ROOT
    assert tables.main(["--check"]) == 0
