"""The size of the project: CONTRIBUTING.md quotes it, and limits hold it."""

import count_lines
import pytest

from common.errors import UserError

pytestmark = pytest.mark.slow

SOURCE = '''"""A module.

Of two paragraphs.
"""

import math  # a comment


def area(radius):
    """Return an area."""
    # Why.
    return (
        math.pi
        * radius**2
    )


TEXT = """a string
is code"""
'''


def test_blanks_comments_and_docstrings_are_no_code():
    assert count_lines.code_lines(SOURCE) == len(["import", "def", "return (", "pi", "r", ")", "TEXT", "is"])


def test_a_function_is_measured_from_def_to_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(count_lines.cli, "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(SOURCE)
    assert list(count_lines.functions(tmp_path / "module.py")) == [(7, "module.py:area")]


def test_what_is_too_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(count_lines.cli, "ROOT", tmp_path)
    (tmp_path / "common").mkdir()
    for name, function, module in (("short", 40, 250), ("long", 41, 251)):
        text = f"def {name}():\n" + "    pass\n" * (function - 1) + "\n" * (module - function)
        (tmp_path / "common" / f"{name}.py").write_text(text)
    assert count_lines.long_functions() == ["common/long.py:long"]
    assert count_lines.long_modules() == ["common/long.py"]


def test_resampling_and_later_methods_are_not_of_the_core():
    core = {
        str(p.relative_to(count_lines.cli.ROOT))
        for p in count_lines.files("common")
        if count_lines.is_core(p)
    }
    assert {"common/fds.py", "common/methods/smoothing.py"} <= core
    assert "common/methods/resample.py" not in core


def test_counts_are_written_between_their_marks():
    old = "# Guide\n<!-- counts -->\n```\n  1  old\n```\n<!-- end -->\nMore.\n"
    new = count_lines.quoting(old, "  2  new\n")
    assert new == old.replace("  1  old", "  2  new")
    with pytest.raises(UserError, match="0 places"):
        count_lines.quoting("# Guide\n", "  2  new\n")


@pytest.mark.slow
def test_contributing_quotes_the_counts():
    guide = count_lines.GUIDE.read_text(encoding="utf-8")
    assert guide == count_lines.quoting(guide, count_lines.counts_text()), (
        "run python scripts/count_lines.py --update"
    )


@pytest.fixture(scope="module")
def counted():
    return count_lines.counts()


LIMITS = {
    "functions over 40 lines in common and the data sets' folders": 0,
    "longest function there, in lines": 40,
    "modules over 250 lines, all source": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("label", LIMITS)
def test_the_counts_keep_their_limits(counted, label):
    long = count_lines.long_functions() + count_lines.long_modules()
    assert counted[label] <= LIMITS[label], long


def test_every_limit_is_of_a_count(counted):
    assert LIMITS.keys() <= counted.keys()
