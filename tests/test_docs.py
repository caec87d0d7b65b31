"""The pages of docs/ are true: their code runs in a copy of the repository, and what they name is there."""

import contextlib
import dataclasses
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image
from test_readme import leads_somewhere
from tiny_faces import load_train

from common.cli import ROOT
from common.method import Method, Needs
from common.task import Task

DOCS = ROOT / "docs"
METHOD, DATA, DIFFERENCES = (
    DOCS / f"{name}.md" for name in ("your-own-method", "your-own-data", "differences")
)
BLOCK = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = [*DOCS.glob("*.md"), *ROOT.glob("CONTRIBUTING.md")]
SOURCE = ("common", "*-dir", "scripts", "tests", "benchmarks")


def blocks(page):
    """`(language, file, text)` of each block of code, in order; `file` is what follows the language."""
    return BLOCK.findall(page.read_text("utf-8"))


def copy_of_the_repository(folder):
    """The repository without data, results and caches."""
    for path in [*ROOT.glob("*-dir"), *(ROOT / name for name in ("common", "scripts", "tests"))]:
        shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    shutil.copytree(ROOT / "data", folder / "data", ignore=lambda at, names: names if at != str(ROOT / "data")
                    else [name for name in names if (ROOT / "data" / name).is_dir()])  # fmt: skip
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def write(root, language, file, text):
    """Write a block to its file; a table's row goes below the table's name, which is there."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if language == "toml":
        name, _, row = text.partition("\n")
        before = path.read_text("utf-8")
        assert before.count(f"{name}\n") == 1
        text = before.replace(f"{name}\n", f"{name}\n{row}")
    path.write_text(text, encoding="utf-8")


def globbed(root, words):
    """The words of a command with patterns filled in, as a shell does."""
    return [str(path) for word in words for path in (sorted(root.glob(word)) if "*" in word else [word])]


def run(root, line):
    """Run a command of a page in the copy; its standard output."""
    python, *argv = shlex.split(line)
    assert python == "python", line
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *globbed(root, argv)], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_here(root, line):
    """Run a command of the repository's own code in this process: importing torch anew takes seconds."""
    _, script, *argv = shlex.split(line)
    if not (ROOT / script).exists():
        return run(root, line)
    folder, name = script.split("/")
    main = load_train(folder).main if name == "train.py" else importlib.import_module(name[:-3]).main
    with contextlib.chdir(root):
        assert main(globbed(root, argv)) == 0, line
    return ""


def play(page, root, more=lambda line: "", run_line=run):
    """Do all that a page says, in order; `{command: output}`, and the files it wrote."""
    told, files = {}, []
    for language, file, text in blocks(page):
        if file:
            write(root, language, file, text)
            files.append(file)
        else:
            told |= {line: run_line(root, f"{line} {more(line)}") for line in text.splitlines()}
    python = [file for file in files if file.endswith(".py")]
    for check in ("check", "format --check"):
        run(root, f"python -m ruff {check} --config pyproject.toml {' '.join(python)}")
    return told, files


def losses(run_dir):
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[0])["losses"]


@pytest.mark.slow
def test_a_method_is_one_file_and_one_row(tmp_path):
    root = copy_of_the_repository(tmp_path)
    before = (root / "data" / "recipes.toml").read_text("utf-8").splitlines()
    told, files = play(METHOD, root)
    assert files == ["common/methods/flat_norms.py", "data/recipes.toml", "parts.py"]
    assert "python parts.py" in told  # and it ran
    after = (root / "data" / "recipes.toml").read_text("utf-8").splitlines()
    assert len(after) == len(before) + 1
    assert [line for line in after if line not in before] == [blocks(METHOD)[3][2].splitlines()[1]]
    (trained,) = (root / "checkpoint").glob("*")
    assert "_sqrt_inv_flat_norms_0.1_" in trained.name
    assert set(losses(trained)) == {"l1", "flat_norms"}
    assert losses(trained)["flat_norms"] > 0
    tested, dry = (out for line, out in told.items() if "pytest" in line or "--dry-run" in line)
    assert re.search(r"\d+ passed", tested)
    assert int(re.search(r"(\d+) passed", tested)[1]) >= 9  # three tests on three shapes of data
    assert "--reweight sqrt_inv --flat_norms 0.1" in dry
    code = [line for line in blocks(METHOD)[0][2].splitlines() if line]
    assert len(code) <= 30


def write_rows(root, file, text):
    """More rows like those of the page's CSV, and the images that they name."""
    header, *rows = text.splitlines()
    rng, path = np.random.default_rng(0), root / file
    (path.parent / "cows").mkdir(parents=True, exist_ok=True)
    for number in range(40):
        if "path" in header:
            pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(path.parent / f"cows/{number}.png")
            row = f"cows/{number}.png,{rng.uniform(0, 1200):.1f},{number // 2}"
        else:
            row = f"{rng.integers(1, 9)},{rng.choice(['Ulm', 'Bern', ''])},{rng.uniform(90, 900):.0f}"
        rows.append(row)
    path.write_text("\n".join([header, *(row for row in rows if ".jpg" not in row)]))


@pytest.mark.slow
def test_a_data_set_is_one_folder_or_a_table_of_images(tmp_path, monkeypatch):
    root = copy_of_the_repository(tmp_path)
    real = write

    def with_rows(root, language, file, text):
        (write_rows if language == "csv" else partial(real, language=language))(root, file=file, text=text)

    monkeypatch.setitem(globals(), "write", with_rows)
    small = {
        "agedb-dir/train.py": "--model resnet18 --img_size 32 --batch_size 16 --epoch 1 --device cpu",
        "tabular-dir/train.py": "--val_interval 5 --max_vals 1 --device cpu",
        "volume-dir/train.py": "--epoch 1 --device cpu",
    }
    told, files = play(DATA, root, lambda line: small.get(line.split()[1], ""), run_here)
    pictures = {path.name for path in (root / "my_data").glob("*.png")}
    assert pictures == {"cows.png", "houses.png", "heads.png"}
    folders = {file.partition("/")[0] for file in files}
    assert folders == {"my_data", "data", "vectors-dir"}
    runs = {
        path.name: json.loads((path / "metrics.json").read_text()) for path in (root / "checkpoint").glob("*")
    }
    assert sorted(result["dataset"] for result in runs.values()) == [
        "agedb",
        "tabular",
        "vectors",
        "vectors",
        "volume",
    ]
    (smoothed,) = (name for name in runs if "_fds_" in name)
    assert smoothed.startswith("vectors_lds_gau_5_2_fds_gau_5_2_0_1_0.9_")
    assert all(result["shots"]["all"]["mae"] is not None for result in runs.values())


def names_in_table(page, heading):
    """The names in the first column of the table below a heading (of a column)."""
    table = page.read_text("utf-8").partition(f"| {heading} | ")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)", cell)]


def test_every_hook_and_every_need_is_named():
    hooks = {"prepare", "build", "head", "setup", "features", "losses", "end_of_epoch", "complete", "wanted"}
    assert set(names_in_table(METHOD, "hook")) == hooks
    assert all(callable(getattr(Method, hook)) for hook in hooks)
    own = {name for name, value in vars(Method).items() if inspect.isfunction(value) and name[0] != "_"}
    assert own - hooks == {"run_name", "legend", "describe"}
    assert names_in_table(METHOD, "field") == [field.name for field in dataclasses.fields(Needs)]
    assert set(names_in_table(METHOD, "attribute")) <= {*vars(Method), *Method.__annotations__}


def test_every_field_of_a_task_that_the_page_names_is_there():
    named = names_in_table(DATA, "field")
    assert len(named) > 10
    assert set(named) <= {field.name for field in dataclasses.fields(Task)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(BLOCK.sub("", page.read_text("utf-8"))):
        assert re.match(r"\w+:", target) or leads_somewhere(page, target), target


# What the code cites


def sources():
    return [path for folder in SOURCE for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]


def codes():
    """The codes of the table of docs/differences.md."""
    return re.findall(r"^\| ([A-Z]\w+ \d+) \|", DIFFERENCES.read_text("utf-8"), re.MULTILINE)


def test_every_difference_has_a_section_and_a_row():
    sections = re.findall(r"^\*\*(\w+ \d+)\.\*\*", DIFFERENCES.read_text("utf-8"), re.MULTILINE)
    assert sections == codes()
    assert len(set(sections)) == len(sections)


def test_every_code_that_is_cited_is_there():
    cited = {
        (code, path.name)
        for path in sources()
        for code in re.findall(rf"[(,] ?((?:{'|'.join({code.split()[0] for code in codes()})}) \d+)\)",
                               path.read_text("utf-8"))
    }  # fmt: skip
    assert len(cited) > 5
    assert not [(code, name) for code, name in cited if code not in codes()]


def test_nothing_cites_what_a_user_does_not_have():
    gone = re.compile(r"\bFACTS\b|\bDESIGN\b|\bMETHODS_[AB]\b")
    texts = [*sources(), *ROOT.glob("*.md"), *ROOT.glob("*/*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    assert not [
        path for path in texts if gone.search(path.read_text("utf-8")) and path.name != "test_docs.py"
    ]


def test_flags_in_the_table_of_differences_are_flags():
    rows = re.findall(r"^\| \w+ \d+ \|.*\| ([^|]*) \|$", DIFFERENCES.read_text("utf-8"), re.MULTILINE)
    named = {flag for row in rows for flag in re.findall(r"`(--\w+)`", row)}
    text = "\n".join(path.read_text("utf-8") for path in ROOT.glob("*-dir/*_task.py"))
    text += "\n".join(path.read_text("utf-8") for path in (ROOT / "common").rglob("*.py"))
    assert len(named) > 15
    for flag in named:
        assert re.search(rf"^ +{flag[2:]}: |\"{flag}\"", text, re.MULTILINE), flag
