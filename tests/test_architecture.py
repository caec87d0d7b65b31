"""Who may import whom, and who knows no name: the rooms of `common` stay rooms."""

import ast
import re
import subprocess
import sys

import pytest

from common.cli import ROOT
from common.method import all_methods
from common.task import load_task, task_names

ALONE = {"bins", "lds", "fds", "fds_maps", "fds_stream", "loss", "metrics", "relevance"}
LIGHT = {"cli", "flags", "report", "files", "errors", "environment", "settings"}
GROUND = ALONE | LIGHT
CONTRACTS = {"task", "method", "batch"}
MAY_IMPORT = {  # room: rooms that it may import; each may import itself
    "alone": ALONE,
    "light": LIGHT | {"metrics", "bins"},
    "contracts": GROUND | CONTRACTS | {"methods"},
    "datasets": GROUND | {"images.decode"},
    "images": GROUND | CONTRACTS | {"datasets", "methods"},
    "methods": GROUND | CONTRACTS,
    "training": GROUND | CONTRACTS,
}
FILES = sorted((ROOT / "common").rglob("*.py"))


def module(path):
    """`images.split` for common/images/split.py."""
    parts = path.relative_to(ROOT / "common").with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def room(name):
    if "." in name or name in MAY_IMPORT:
        return name.split(".")[0]
    return "alone" if name in ALONE else "light" if name in LIGHT else "contracts"


def imported(path):
    """Every module of `common` that a file imports when it runs; what is only for types is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node) for branch in ast.walk(tree) if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }  # fmt: skip
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "common":
            inside = node.module.partition(".")[2]
            names |= {".".join(filter(None, (inside, alias.name))) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("common.")
            }
    return names - {""}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_room_imports_only_what_it_may(path):
    mine = room(module(path)) if module(path) else "light"
    allowed = MAY_IMPORT[mine]
    for name in imported(path):
        if room(name) == mine:
            continue
        assert any(name == other or name.startswith(f"{other}.") for other in allowed), f"{path}: {name}"


def test_images_and_training_do_not_know_each_other():
    for path in FILES:
        names = imported(path)
        if module(path).startswith("images"):
            assert not any(name.startswith("training") for name in names), path
        if module(path).startswith("training"):
            assert not any(name.startswith("images") for name in names), path


@pytest.mark.parametrize(
    "path", sorted((ROOT / "common" / "training").glob("*.py")), ids=lambda path: path.stem
)
def test_the_training_knows_no_method_and_no_data_set(path):
    text = path.read_text(encoding="utf-8")
    words = {method.name() for method in all_methods()} | {part for m in all_methods() for part in (m.label,)}
    words |= set(task_names()) | {load_task(name).title for name in task_names()}
    words |= {"lds", "fds", "focal", "retrain_fc", "smogn", "faces", "depth"}
    for word in words:
        assert not re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE), f"{path.name} names {word}"


@pytest.mark.parametrize("name", sorted(LIGHT - {"settings"}) + ["bins", "metrics", "relevance", "settings"])
def test_light_modules_load_neither_torch_nor_pandas(name):
    code = f"import sys, common.{name}; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_data_set_folder_has_one_shape():
    for name in task_names():
        files = {path.name for path in (ROOT / f"{name}-dir").iterdir()}
        assert {"train.py", "README.md"} <= files, name
        assert sum(file.endswith("_task.py") for file in files) == 1, name
        header = (ROOT / f"{name}-dir" / "train.py").read_text(encoding="utf-8")
        assert f'load_task("{name}")' in header


def test_a_name_without_a_folder_is_refused():
    with pytest.raises(Exception, match="there is no such data set; there are agedb"):
        load_task("celeba")
