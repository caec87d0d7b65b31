"""Paths: the data-set folders have hyphens, so their modules are put on the path for the tests."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # reference material beside the checkout; a user does not have it
for folder in (*sorted(ROOT.glob("*-dir")), ROOT / "scripts"):
    sys.path.insert(0, str(folder))

# A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A person's run looks for new counterexamples; CI repeats the same cases, so that only a change fails it.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "search")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that two processes end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(__file__).parent / "golden"
