"""Commands answer at once, under the right interpreter, with the `common` beside them."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py") if "__main__" in path.read_text())
COMMANDS = [*(f"scripts/{name}" for name in SCRIPTS), *sorted(
    str(path.relative_to(ROOT)) for name in ("train.py", "test.py") for path in ROOT.glob(f"*-dir/{name}")
)]  # fmt: skip
PROBE = """
import importlib, runpy, sys
heavy = {"torch", "pandas", "scipy", "matplotlib", "torchvision", "scipy.stats"}
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rpartition("/")[0])
for name in ("cli", "environment", "errors", "files", "metrics", "report"):
    importlib.import_module(f"common.{name}")  # what scripts start with
before = heavy & sys.modules.keys()
sys.argv[0] = script
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print("LOADED", sorted((heavy & sys.modules.keys()) - before), file=sys.stderr)
"""


def run(*argv, root=ROOT, python=(sys.executable,), **env):
    """The finished process of a command."""
    return subprocess.run(
        [*python, *argv], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)} | env
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_11_13_help_loads_nothing_heavy(name):
    ended = run("-c", PROBE, str(ROOT / "scripts" / name), "--help")
    assert ended.returncode == 0
    assert "usage: " in ended.stdout
    assert ended.stderr.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.endswith("train.py")])
def test_the_flags_of_a_data_set_need_torch_and_not_what_doubles_the_wait(command):
    ended = run("-c", PROBE, str(ROOT / command), "--help")
    assert ended.returncode == 0
    loaded = ended.stderr.splitlines()[-1]
    assert "'torch'" in loaded
    assert "torchvision" not in loaded and "scipy.stats" not in loaded


@pytest.mark.parametrize("name", ["download.py", "reproduce.py"])
def test_11_13_lists_load_nothing_heavy(name):
    ended = run("-c", PROBE, str(ROOT / "scripts" / name), "--list")
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("command", COMMANDS)
def test_11_11_a_wrong_interpreter_is_told_in_one_line(command):
    ended = run(command, "--help", python=(sys.executable, "-S"), root="")  # -S: no installed package
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"{command}: error: {sys.executable} has no torch, ")
    assert ended.stderr.count("\n") == 1
    assert ".venv" in ended.stderr


@pytest.mark.parametrize("venv", [True, False])
def test_11_11_the_interpreter_to_use_is_named(tmp_path, venv):
    shutil.copytree(ROOT / "common", tmp_path / "common")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "download.py", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    if venv:
        python.parent.mkdir(parents=True)
        python.touch()
    ended = run(str(tmp_path / "scripts" / "download.py"), "--list", python=(sys.executable, "-S"), root="")
    assert ended.returncode == 2
    wanted = f"; run {python} {tmp_path / 'scripts' / 'download.py'} --list\n" if venv else "make .venv/ready"
    assert wanted in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_11_12_a_second_clone_runs_its_own_code(tmp_path, command):
    """Also where another one is installed, or comes first in PYTHONPATH."""
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    (tmp_path / "common" / "environment.py").write_text("print('the second'); raise SystemExit(0)")
    copy = tmp_path / command
    copy.parent.mkdir()
    shutil.copy(ROOT / command, copy)
    assert run(str(copy)).stdout == "the second\n"
