"""Paths: the data-set folders have hyphens, so their modules are put on the path for the tests."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # reference material beside the checkout; a user does not have it
for folder in ("agedb-dir", "imdb-wiki-dir", "sts-b-dir", "nyud2-dir", "scripts"):
    sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(__file__).parent / "golden"
