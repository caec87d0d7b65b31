"""TOML files of the repository, which a user may edit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError


@contextmanager
def reading_toml(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the content of a TOML file to a block that interprets it.

    Raises UserError if the file cannot be read, or if the block meets a missing key or a wrong type.
    """
    try:
        yield tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it with git") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: is damaged ({reason}); correct it, or restore it with git") from error
