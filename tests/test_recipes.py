"""The rows of data/recipes.toml are commands that their train.py takes, and they are the paper's rows."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import make_standin
import numpy as np
import pandas as pd
import prepare
import pytest
from preparing.variants import variant_of
from reproducing import recipes
from reproducing.recipes import find_table, read_tables
from reproducing.table_numbers import later_number, later_published, paper_number, published

from common import cli
from common.errors import UserError
from common.method import methods_of
from common.metrics import METRICS
from common.settings import Training
from common.task import load_task
from common.training.command import run_name, settings_of

pytestmark = pytest.mark.slow

ROOT = cli.ROOT
TABLES = read_tables()
CELLS = [cell for table in TABLES.values() for cell in table.cells((7,))]
LDS_REWEIGHT = {
    "agedb-dir": "sqrt_inv",
    "imdb-wiki-dir": "sqrt_inv",
    "utkface-dir": "sqrt_inv",
}  # elsewhere inverse
KERNELS = {"Gaussian": "gaussian", "triangular": "triang", "Laplacian": "laplace"}
SCHEMES = {"SQINV": "sqrt_inv", "INV": "inverse", "RRT": "inverse"}


def parsed(cell, command=None):
    """Every flag of a cell by name, as its own train.py reads them, and the name that it gives the run."""
    script, *argv = command or cell.command()
    task = load_task(script.removesuffix("-dir/train.py"))
    settings = settings_of(task, script, task.title, argv)
    return SimpleNamespace(**settings.values()), run_name(task, settings)


# Every row is a command


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.table}: {cell.row}")
def test_every_recipe_is_a_command_that_its_script_takes(cell):
    args, _ = parsed(cell)
    assert args.seed == 7
    assert args.store_root == Path(cell.store_root)
    assert ROOT / args.metrics_json == cell.result
    assert not args.evaluate
    assert not args.overwrite


def test_a_flag_that_no_script_has_would_be_noticed(capsys):
    for name in ("sts-b-small", "agedb-standin", "nyud2-standin"):
        cell = next(TABLES[name].cells())
        with pytest.raises(SystemExit):
            parsed(cell, [*cell.command(), "--lsd"])
        assert "unknown argument --lsd (did you mean --lds?)" in capsys.readouterr().err


@pytest.mark.slow
def test_no_two_cells_share_a_run_directory_a_log_or_a_result():
    cells = {
        cell for table in TABLES.values() for cell in table.cells()
    }  # a table may take a cell of another
    assert len({cell.result for cell in cells}) == len(cells)
    assert len({cell.log for cell in cells}) == len(cells)
    assert len({(cell.store_root, parsed(cell)[1]) for cell in cells}) == len(cells)


def test_no_two_rows_of_a_table_are_the_same_run():
    for table in TABLES.values():
        identities = [cell.identity for cell in table.cells((0,))]
        assert len(set(identities)) == len(identities), table.name


@pytest.mark.slow
def test_rows_are_what_their_names_say():
    for cell in CELLS:
        if TABLES[cell.table].protocol == "own":  # a method's own second stage is no RRT
            continue
        args, _ = parsed(cell)
        words = re.split(r"[ ,+]+", cell.row)
        assert args.lds is ("LDS" in words), cell
        assert args.fds is ("FDS" in words), cell
        assert args.retrain_fc is ("RRT" in words), cell
        assert (args.fds_variant == "released") is ("(released)" in words), cell
        assert (args.fds_pass == "online") is ("(online)" in words), cell
        assert args.fast is bool({"(fast)", "(bf16)"} & set(words)), cell
        assert (args.amp == "bf16") is ("(bf16)" in words), cell
        assert args.loss.startswith("focal") is ("Focal-R" in words), cell
        assert vars(args).get("resample") == {"SMOTER": "smoter", "SMOGN": "smogn"}.get(words[0]), cell
        lds = "none" if "LDS" not in words else LDS_REWEIGHT.get(Path(cell.script).parent.name, "inverse")
        assert args.reweight == SCHEMES.get(words[0], lds), cell
        kernel = KERNELS.get(words[-1], "gaussian")
        assert (args.lds_kernel if args.lds else args.fds_kernel) == kernel, cell
        if size := re.search(r"(\d+)/(\d+)$", cell.row):
            used = (args.lds_ks, args.lds_sigma) if args.lds else (args.fds_ks, args.fds_sigma)
            assert used == tuple(map(int, size.groups())), cell


def test_a_second_stage_starts_from_the_row_that_it_names_with_fds_where_it_has_fds():
    found = [cell for cell in CELLS if cell.first and not TABLES[cell.table].protocol]
    assert {cell.row for cell in found} == {"RRT", "RRT + LDS", "RRT + FDS", "RRT + LDS + FDS"}
    for cell in found:
        assert cell.first.row == ("Vanilla + FDS" if "FDS" in cell.row else "Vanilla")
        assert (cell.first.table, cell.first.seed) == (cell.table, cell.seed)
        assert (
            parsed(cell)[0].pretrained == "CKPT"
            or Path(parsed(cell)[0].pretrained).name == "ckpt.best.pth.tar"
        )


def test_on_age_rrt_is_30_epochs_at_a_tenth_of_the_rate():
    """The paper's second stage (docs/differences.md, RRT 3)."""
    for name in ("agedb-paper", "imdb-wiki-paper"):
        args, _ = parsed(TABLES[name].cell("RRT", 0))
        assert (args.epoch, args.lr, args.reweight) == (30, 1e-4, "inverse")
        assert (parsed(TABLES[name].cell("Vanilla", 0))[0].epoch) == 90


def test_scales_differ_in_the_flags_that_all_rows_share():
    for key in {table.key for table in TABLES.values()}:
        by_scale = {table.scale: table for table in TABLES.values() if table.key == key}
        if {"paper", "small"} <= by_scale.keys():
            assert list(by_scale["paper"].rows) == list(by_scale["small"].rows)
            assert by_scale["paper"].flags != by_scale["small"].flags


def test_tables_have_titles_sources_seeds_and_a_script():
    for table in TABLES.values():
        assert (ROOT / table.script).is_file()
        assert len(set(table.seeds)) == len(table.seeds) > 0
        assert table.folder in ("results", "checkpoint")
        assert table.title and table.source
        for command in table.setup:
            assert (ROOT / "scripts" / command.split()[0]).is_file()


# The rows are the paper's


@pytest.mark.parametrize("paper", [1, 2, 3, 4])
def test_every_row_of_the_papers_main_tables_has_a_recipe(paper):
    numbers = pd.read_csv(ROOT / "data" / "published.csv")
    methods = set(numbers[(numbers["table"] == paper) & (numbers["kind"] == "value")]["method"])
    for scale in ("paper", "small"):
        table = find_table(str(paper), scale)
        assert {recipe["paper"] for recipe in table.rows.values()} >= methods
        assert set(numbers[numbers["table"] == paper]["metric"]) == set(table.metrics.values())


@pytest.mark.parametrize("paper", range(8, 18))
def test_so_has_every_row_of_its_appendix_whose_method_was_published(paper):
    numbers = pd.read_csv(ROOT / "data" / "published.csv").fillna({"variant": ""})
    numbers = numbers[(numbers["table"] == paper) & (numbers["kind"] == "value")]
    if paper == 12:  # SHHS-DIR: neither data nor code are public
        return
    wanted = set(zip(numbers["method"], numbers["variant"], strict=True)) - {("MIXUP", ""), ("M-MIXUP", "")}
    table = find_table(str(paper), "paper")
    have = {(recipe["paper"], recipe.get("variant", "")) for recipe in table.rows.values()}
    base = {"imdb-wiki": "SQINV", "agedb": "SQINV", "sts-b": "INV"}.get(table.key)
    # "VANILLA + LDS" is that row under another name: its numbers are the same.
    have |= {(f"VANILLA + {what}", "") for what in ("LDS", "LDS + FDS") if (f"{base} + {what}", "") in have}
    assert have >= wanted


@pytest.mark.parametrize(("paper", "base"), [(8, "SQINV"), (9, "SQINV"), (10, "INV")])
def test_vanilla_with_lds_is_indeed_the_base_scheme_with_lds(paper, base):
    mine = {key: value for key, value in published().items() if key[0] == paper}
    pairs = [(key, (*key[:2], key[2].replace(base, "VANILLA"), *key[3:])) for key in mine
             if key[2] in (f"{base} + LDS", f"{base} + LDS + FDS")]  # fmt: skip
    assert len(pairs) >= 24
    assert all(mine[a] == mine[b] for a, b in pairs)


def test_every_row_that_names_one_of_the_papers_finds_its_numbers():
    for table in TABLES.values():
        if table.protocol:  # tested below
            continue
        for row, recipe in table.rows.items():
            for metric in table.metrics:
                found = [paper_number(table, row, metric, shot) for shot in table.groups]
                assert all((number is None) is ("paper" not in recipe) for number in found), (table.name, row)


def published_later(row, claim, dataset):
    """What is published of a row on a data set, in the claim's own source first."""
    name = row.replace("BMC", "Balanced MSE").replace("Evidential", "DER").replace(" + ", "+")
    names = {name, name.removeprefix("SQINV+"), "LDS+FDS" if name == "SQINV+LDS+FDS" else name}
    metric = {"mae": "MAE", "mse": "MSE", "pearson": "Pearson"}[claim.metric]
    first = claim.source.partition(",")[0].replace("ConR", "OpenReview")
    found = [
        float(line["value"]) for line in sorted(later_published(), key=lambda x: not x["source"].startswith(first))
        if line["dataset"].removeprefix("UCI-DIR ").lower() == dataset.lower() and line["shot"] == claim.shot
        and line["metric"] == metric and line["method"] in names
    ]  # fmt: skip
    return found[0]


def test_every_claim_of_a_later_paper_holds_in_its_numbers_on_every_data_set_that_it_names():
    claims = {
        claim for table in TABLES.values() for claim in table.claims if not claim.source.startswith("Yang")
    }
    for claim in claims:
        for dataset in claim.on:
            better, than = (published_later(row, claim, dataset) for row in (claim.better, claim.than))
            assert (better > than) is METRICS[claim.metric].higher_is_better, (claim, dataset)
    assert len(claims) > 40
    every = [claim for table in TABLES.values() for claim in table.claims]
    assert all(claim.source and claim.on for claim in every)


def test_every_claim_holds_in_the_papers_own_numbers():
    """Else it would not be the paper's."""
    seen, checked, rest = 0, set(), set()
    for table in TABLES.values():
        for claim in table.claims:
            pair = [paper_number(table, row, claim.metric, claim.shot) for row in (claim.better, claim.than)]
            if None in pair:
                if table.dataset is not None and claim.source.startswith("Yang"):
                    rest.add(claim)
                continue
            higher = claim.metric in ("pearson", "delta1")
            assert (pair[0] > pair[1]) if higher else (pair[0] < pair[1]), (table.name, claim)
            checked.add(claim)
            seen += 1
    assert rest <= checked  # later tables do not name the paper's rows, but its own tables do
    assert seen > 50


def test_the_released_checkpoints_are_rows_of_the_tables():
    numbers = pd.read_csv(ROOT / "data" / "released_checkpoints.csv")
    assert len(numbers) == 48
    methods = {
        (dataset, method) for dataset, method in zip(numbers["dataset"], numbers["method"], strict=True)
    }
    known = {key[1:3] for key in published()}
    assert methods <= known


def test_published_data_are_those_of_the_paper():
    shared = ROOT.parent / "shared" / "paper"
    if not shared.is_dir():
        pytest.skip("the reference material is not here")
    for name in ("published.csv", "later_published.csv", "released_checkpoints.csv"):
        assert (ROOT / "data" / name).read_bytes() == (shared / name).read_bytes()


# Finding a table


@pytest.mark.parametrize(
    ("name", "scale", "full"),
    [
        ("2", "small", "agedb-standin"),
        ("9", "paper", "agedb-paper"),
        ("agedb", "demo", "agedb-demo"),
        ("agedb-standin", None, "agedb-standin"),
        ("3", "small", "sts-b-small"),
        ("17", "small", "sts-b-kernel-sizes-small"),
        ("6", "small", "zero-shot-standin"),
        ("utkface-zero", "small", "utkface-zero-small"),
        ("volume", "small", "volume-standin"),
    ],
)
def test_a_table_is_found_by_number_by_name_and_by_full_name(name, scale, full):
    assert find_table(name, scale).name == full


@pytest.mark.parametrize(
    ("name", "scale", "told"),
    [
        ("5", "paper", r"--table 5: there is no such table; there are imdb-wiki \(1, 8\), agedb \(2, 9\), "),
        ("nosuch", None, r"--table nosuch: there is no such table; there are imdb-wiki"),
        ("4", "demo", r"--table 4: has no --scale demo; it has paper, small"),
        ("agedb-standin", "paper", r"--table agedb-standin: there is no such table"),
    ],
)
def test_what_there_is_not_is_told(name, scale, told):
    with pytest.raises(UserError, match=told):
        find_table(name, scale)


# Writing rows out


def test_words_and_combinations_are_written_out(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[t]\nscript = "x"\nseeds = [3]\nmetrics = { mae = "MAE" }\nrows = "r"\n'
        '[t.scales.small]\ntitle = "T"\nflags = "--a"\nlast = "--z 9"\n'
        '[rows.r."K $k/$s"]\nflags = "--k $k --s $s $last"\nvariant = "k=$k"\n'
        'each = { k = [1, 2], s = ["u", "v"] }\n'
    )
    (table,) = read_tables(path).values()
    assert (table.name, table.key, table.scale, table.papers) == ("t-small", "t", "small", ())
    assert list(table.rows) == ["K 1/u", "K 1/v", "K 2/u", "K 2/v"]
    assert table.rows["K 2/u"] == {"flags": "--k 2 --s u --z 9", "variant": "k=2"}
    (cell,) = [cell for cell in table.cells() if cell.row == "K 2/u"]
    assert cell.seed == 3
    assert cell.identity == "python x --a --k 2 --s u --z 9"
    assert cell.store_root == "checkpoint/t-small/k-2-u"


def test_one_scale_of_a_table_that_is_like_another(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[t]\nscript = "x"\nseeds = [3]\nmetrics = { mae = "MAE" }\ndataset = "D"\nrows = "r"\nclaims = "c"\n'
        'papers = [1]\n[t.scales.paper]\ntitle = "P"\nflags = "--b"\n'
        '[t.scales.small]\nsuffix = "s"\ntitle = "T"\nflags = "--a"\n'
        '[u]\nlike = "t"\nabout = "kernels"\nseeds = [0]\nrows = "q"\n'
        '[rows.r]\nA = { flags = "" }\nB = { flags = "--b" }\n[rows.q]\nC = { flags = "--c" }\n'
        '[[claims.c]]\nsays = "S"\npairs = [["A", "B"], ["A", "missing"]]\nshots = ["all", "few"]\n'
    )
    tables = read_tables(path)
    assert set(tables) == {"t-s", "t-paper", "u-s", "u-paper"}
    u = tables["u-s"]
    assert (u.script, u.flags, u.title, u.dataset, u.seeds) == ("x", "--a", "T: kernels", "D", (0,))
    assert (list(u.rows), u.claims, u.papers) == (["C"], (), ())
    assert [(c.better, c.than, c.metric, c.shot) for c in tables["t-s"].claims] == [
        ("A", "B", "mae", "all"), ("A", "B", "mae", "few"),
    ]  # fmt: skip


def test_a_table_is_like_one_that_is_written_out_for_each_name(tmp_path):
    """It has that table's words and its own, flags after the scale's, rows of two sections, and runs of another."""
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[t]\nscript = "x"\nseeds = [3]\nmetrics = { mae = "MAE" }\nrows = "r"\n'
        '[t.scales.small]\ntitle = "T of $table"\nflags = "--csv $table --noise $noise"\n'
        '[t.each]\na-b = { noise = "2" }\nc = { noise = "3" }\n'
        '[u]\nlike = "t-$table"\nabout = "more"\nseeds = [0]\nmore = "--lr 9"\nof = "v-$table"\nrows = "q r"\n'
        'only = ["B", "C", "A"]\n[u.each]\na-b = { longer = "7" }\n'
        '[rows.r]\nA = { flags = "--n $noise" }\nB = { flags = "" }\n'
        '[rows.q]\nA = { flags = "" }\nC = { of = "$like", flags = "--long $longer" }\n'
    )
    tables = read_tables(path)
    assert set(tables) == {"t-a-b-small", "t-c-small", "u-a-b-small"}
    u = tables["u-a-b-small"]
    assert (u.title, u.flags) == ("T of a-b: more", "--csv a-b --noise 2 --lr 9")
    assert [u.rows[row]["flags"] for row in ("B", "C", "A")] == ["", "--long 7", "--n 2"]
    assert [cell.table for cell in u.cells()] == ["v-a-b-small", "t-a-b-small", "v-a-b-small"]
    assert [tables["t-c-small"].cell("A", 3).table, tables["t-c-small"].flags] == [
        "t-c-small",
        "--csv c --noise 3",
    ]


def test_a_word_that_no_scale_has_is_an_error(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[t]\nscript = "x"\nseeds = [3]\nmetrics = {}\nrows = "r"\n[t.scales.small]\n'
        'title = "T"\nflags = ""\n[rows.r]\nA = { flags = "$nosuch" }\n'
    )
    with pytest.raises(UserError, match="recipes.toml: is damaged .*nosuch"):
        read_tables(path)
    assert recipes.RECIPES.is_file()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[t]\nscript = \n", r"is damaged \(.*line 2"),
        ("[t]\nseeds = [0]\n", r"is damaged \('scales' is missing\)"),
        ("t = 3\n", r"is damaged \("),
        (b"\xff\xfe", r"is damaged \(.*utf-8"),
        (None, "cannot be read"),
    ],
)
def test_11_17_damaged_recipes_are_one_line(tmp_path, text, reason):
    path = tmp_path / "recipes.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"recipes\.toml: {reason}.*; .*restore it with git") as caught:
        read_tables(path)
    assert "\n" not in str(caught.value)


# Later methods


OLDER = {"criterion", "reweight", "smoothing", "rrt", "resample"}
NOT_THERE = {("conr", "sts-b"), ("vir", "nyud2")}  # without augmentation; on maps
LATER = [table for table in TABLES.values() if table.protocol]


def test_a_row_of_another_table_is_its_run():
    borrowed = [cell for table in LATER for cell in table.cells() if cell.table != table.name]
    assert {cell.row for cell in borrowed} >= {"Vanilla", "INV + LDS", "SQINV + LDS", "Vanilla + LDS"}
    for cell in borrowed:
        assert cell == TABLES[cell.table].cell(cell.row, cell.seed)


def test_every_method_that_a_data_set_has_stands_alone_in_its_table():
    for table in LATER:
        if table.protocol == "one" and table.key not in STUDY:
            task = load_task(table.script.removesuffix("-dir/train.py"))
            asked = " ".join(recipe["flags"] for recipe in table.rows.values())
            for method in methods_of(task):
                left_out = method.name() in OLDER or (method.name(), task.name) in NOT_THERE
                assert left_out or method.option() in asked.split(), (table.name, method.option())


@pytest.mark.parametrize(
    "table", [table for table in LATER if table.protocol == "one"], ids=lambda table: table.name
)
def test_under_one_protocol_rows_differ_in_methods_only(table):
    protocol = [field.name for field in fields(Training) if field.name != "pretrained"]
    first, *others = (cell for cell in table.cells() if not cell.first)
    alike = parsed(first)[0]
    for other in others:
        own = parsed(other)[0]
        longer = {"schedule"} if other.row == "Vanilla, longer" else set()  # its own test has it
        assert all(getattr(alike, name) == getattr(own, name) for name in protocol if name not in longer)


def test_each_published_name_is_found_in_a_table():
    """A name may be in one source for some shots and data sets only."""
    for table in LATER:
        for row, recipe in table.rows.items():
            if "paper" in recipe and table.published:  # no one published numbers on UTKFace-DIR
                names = [(metric, shot) for metric in table.metrics for shot in table.groups]
                assert any(later_number(table, row, *name) for name in names), (table.name, row)


def test_published_correlations_are_fractions():
    table = TABLES["later-sts-b-own-paper"]
    assert paper_number(table, "RRT + RankSim", "pearson", "all") == 0.771
    assert paper_number(table, "SRL", "mse", "few") == 0.745


# The study

STUDY = {
    table.key: table for table in TABLES.values() if table.key.startswith("study-") and table.scale == "small"
}
BASES = {"study-sts-b": "sts-b", "study-utkface": "utkface", "study-nyud2": "nyud2-labelled"}
METHODS = {"Focal-R", "BMC", "RankSim", "DenseLoss", "Ordinal Entropy", "SRL", "Evidential", "UVOTE"}
WEIGHTED = {"Vanilla", "SQINV", "SQINV + LDS", "SQINV + FDS", "SQINV + LDS + FDS"}
ROWS = {
    "study-sts-b": {row.replace("SQINV", "INV") for row in WEIGHTED} | METHODS | {"Vanilla, longer"},
    "study-utkface": WEIGHTED | METHODS | {"ConR", "Vanilla, longer"},
    "study-nyud2": {
        "Vanilla",
        "Vanilla, longer",
        "Vanilla + LDS",
        "Vanilla + FDS",
        "Vanilla + LDS + FDS",
        "BMC",
        "RankSim",
        "ConR",
    },
}
ON_TABLES = WEIGHTED | METHODS | {"Vanilla, longer", "Boosting", "SQINV + LDS, boosting"}


def pooled(table):
    """The tables of its group, as the study makes it."""
    return [x for x in TABLES.values() if (x.script, x.flags.split()) == (table.script, table.flags.split())]


@pytest.mark.parametrize("table", STUDY.values(), ids=lambda table: table.key)
def test_a_group_of_the_study_has_the_rows_of_its_protocol(table):
    """docs/study.md; the sensitivity of the rate is a group of its own."""
    if "-rate-" in table.key:
        assert pooled(table) == [table] and not table.claims
        assert set(table.rows) == ON_TABLES - {"Vanilla, longer", "Boosting", "SQINV + LDS, boosting"} | {
            "INV"
        }
        return
    first, *_ = group = pooled(table)
    assert first.key == BASES.get(table.key, table.key.replace("study", "tabular"))
    assert len(table.seeds) == (3 if table.key in BASES else 5) == max(len(x.seeds) for x in group)
    assert {row for x in group for row in x.rows} >= ROWS.get(table.key, ON_TABLES)
    assert table.claims or table.key.removeprefix("study-") not in ("sts-b", "utkface", "abalone", "concrete")


def test_the_study_has_nine_tables_and_two_at_two_rates():
    rates = {key: table.flags.split()[-1] for key, table in STUDY.items() if "-rate-" in key}
    assert rates == {
        f"study-rate-{lr}-{name}": lr for lr in ("1e-3", "9e-3") for name in ("abalone", "concrete")
    }
    assert len(STUDY) == 3 + 9 + 4


def test_a_row_that_another_table_has_is_its_run_in_the_study_too():
    """No cell is run twice: one that has the flags of an older table's cell is that cell."""
    older = {
        cell.identity: cell
        for table in TABLES.values()
        if table.key not in STUDY
        and table.protocol != "apart"  # whose reference runs beside what it is held to
        for cell in table.cells((0,))
    }
    for table in STUDY.values():
        for cell in table.cells((0,)):
            assert older.get(cell.identity, cell) == cell


def budget(args):
    """Checks or epochs, by what the data set counts in, and those after which the rate falls."""
    own = vars(args)
    found = next(own[name] for name in ("max_vals", "epochs", "epoch") if name in own)
    return found, own["schedule"] or []


def test_the_longer_row_has_a_budget_for_each_table():
    """Its rate falls at the fractions of the budget at which Vanilla's does, to the nearest epoch."""
    expected = {"study-sts-b": 14, "study-utkface": 8, "study-nyud2": 5}
    for table in TABLES.values():
        if "Vanilla, longer" in table.rows:
            longer, falls = budget(parsed(table.cell("Vanilla, longer", 0))[0])
            checks, own_falls = budget(parsed(table.cell("Vanilla", 0))[0])
            assert longer >= checks, table.name
            assert np.abs(np.array(falls) - np.array(own_falls) * longer / checks).max(initial=0) <= 0.5
            if table.scale == "small":
                assert checks == expected.get(table.key, 10), table.name


# Zero-shot subsets


def test_zero_shot_rows_are_trained_as_the_whole_data_sets_small_ones_are():
    zero, whole = TABLES["utkface-zero-small"], TABLES["utkface-small"]
    flags = zero.flags.replace("--dataset utkface_drop_1-5_20-26_45-54_75-116 ", "")
    assert flags.split() == whole.flags.split()
    assert (list(zero.rows), zero.seeds) == (list(TABLES["zero-shot-standin"].rows), (0, 1, 2))


# Data that are made


class Parsed(Exception):
    """The command line was read to its end."""


def test_the_commands_that_make_data_are_commands(monkeypatch):
    """Each is one that its script takes, and makes the folder or the CSV that the flags then name."""
    real = cli.Parser.parse_args

    def parse_args(self, args=None, namespace=None):
        parsed = real(self, args, namespace)
        if len(args) > 1:  # prepare.py's first parser reads the name only
            raise Parsed(parsed)
        return parsed

    monkeypatch.setattr(cli.Parser, "parse_args", parse_args)
    for table in TABLES.values():
        for command in table.setup:
            script, name, *flags = shlex.split(command)
            with pytest.raises(Parsed) as caught:
                {"make_standin.py": make_standin, "prepare.py": prepare}[script].main([name, *flags])
            (args,) = caught.value.args
            if script == "make_standin.py":
                places = f"--data_dir {args.out} ", f"--csv {args.out}/volumes.csv "
                assert any(place in f"{table.flags} " for place in places)
            else:
                stem, variant = name.replace("-", "_"), variant_of(args)
                assert bool(variant) is ("zero" in table.groups)
                assert bool(variant) is not bool(args.persons)
                wanted = f"{stem}_apart.csv" if args.persons else variant.file_name(f"{stem}.csv")
                assert f"--dataset {wanted.removesuffix('.csv')} " in f"{table.flags} "
                assert str(args.data_dir).endswith(table.flags.split()[1])
        drawn = any("make_standin" in command for command in table.setup)
        assert ("data/standin" in table.flags) is drawn
