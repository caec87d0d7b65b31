"""`pip install .` brings all of `common`, and it works from any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
from setuptools import find_packages

from common.cli import ROOT
from common.method import all_methods

FILES = ("pyproject.toml", "README.md", "LICENSE")
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "common").rglob("*.py"))
LISTED = """
import common.methods
from common.method import all_methods
print(common.__file__, *map(str, all_methods()), sep="\\n")
"""


def run(*argv, cwd):
    """Run a command that sees no repository; its standard output."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in argv], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_folder_of_common_is_a_package():
    found = find_packages(str(ROOT), include=["common", "common.*"])
    assert set(found) == {module.rpartition("/")[0].replace("/", ".") for module in MODULES}


@pytest.mark.slow
def test_an_installed_package_lists_its_methods_from_another_folder(tmp_path):
    source, built, elsewhere = (tmp_path / name for name in ("source", "built", "elsewhere"))
    elsewhere.mkdir()
    shutil.copytree(ROOT / "common", source / "common", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    # What pip would put into the environment; pip itself would fetch the newest setuptools first.
    run(
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "build",
        "--build-lib",
        built,
        cwd=source,
    )
    assert sorted(str(path.relative_to(built)) for path in built.rglob("*.*")) == MODULES

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=elsewhere)
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    shutil.copytree(built, site, dirs_exist_ok=True)
    # What the project depends on; an editable install that is there too is not followed from here.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    file, *methods = run(tmp_path / "venv" / "bin" / "python", "-c", LISTED, cwd=elsewhere).splitlines()
    assert file == str(site / "common" / "__init__.py")
    assert methods == [str(method) for method in all_methods()]
