"""Ends with one line, on import, where this interpreter lacks what the commands need.

Scripts import it before anything else. It uses the standard library only, and runs under an older Python.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "PIL", "tqdm", "matplotlib", "nltk")


def problem() -> str:
    """Return what this interpreter lacks, or "" if the commands can run; imports no package."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a user may start a script with any Python
        return f"is Python {sys.version_info[0]}.{sys.version_info[1]}, and 3.11 or newer is needed"
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return f"has no {', '.join(missing)}" if missing else ""


def remedy() -> str:
    """Return how to start the command with the right interpreter."""
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix) != ROOT / ".venv":
        return f"run {python} {' '.join(sys.argv)}"
    return f"make the environment with `make .venv/ready` in {ROOT}, then run .venv/bin/python"


if "WORLD_SIZE" in os.environ:  # torchrun's: each process would warn that parameters may lack a gradient
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

if problem():
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if ROOT in script.parents else script.name
    print(f"{name}: error: {sys.executable} {problem()}; {remedy()}", file=sys.stderr)
    raise SystemExit(2)
