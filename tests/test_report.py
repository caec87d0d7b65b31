"""What a person reads: the shot table to the last character, and progress on a terminal and on a pipe."""

import io
import logging
import sys

import pytest

from common.report import Progress, log, shot_text

TABLE = {
    "all": {"n": 1234, "mse": 1.23456, "pearson": 0.5},
    "many": {"n": 1230, "mse": 1.0, "pearson": None},
    "medium": {"n": 4, "mse": 12.5, "pearson": -1.0},
    "few": {"n": 0, "mse": None, "pearson": None},
}


def test_shot_table():
    assert shot_text(TABLE, ("mse", "pearson")).splitlines() == [
        "                     All      Many    Medium       Few",
        "  n                1,234     1,230         4         0",
        "  MSE ↓            1.235     1.000    12.500         –",
        "  Pearson ↑        0.500         –    -1.000         –",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_shows_rate_and_loss(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(10, "pair", "training", start=4) as progress:
        progress.bar.mininterval = 0
        progress.advance(3, "loss 0.1250")
        progress.advance(3)
        progress.bar.refresh()
    shown = screen.getvalue()
    assert "training:" in shown and "10/10" in shown and "pair/s, loss 0.1250]" in shown
    assert "4/10" in shown  # a resumed run starts where it was


@pytest.fixture
def lines(monkeypatch):
    """What is logged; a handler of its own, because what other tests leave at the logger does not count."""
    handler, found = logging.Handler(), []
    handler.emit = lambda record: found.append(record.getMessage())
    monkeypatch.setattr(log, "handlers", [handler])
    level = log.level
    log.setLevel(logging.INFO)
    yield found
    log.setLevel(level)


def test_on_a_pipe_lines_come_now_and_then(lines):
    with Progress(10, "pair", "training", every=0) as progress:
        progress.advance(3, "loss 0.1250")
        progress.advance(3)
    first, second = lines
    assert first.startswith("training: 3/10 (30 %), ") and first.endswith(" pair/s  loss 0.1250")
    assert second.startswith("training: 6/10 (60 %), ") and second.endswith("loss 0.1250")


def test_a_quick_thing_on_a_pipe_says_nothing(lines, capsys):
    with Progress(10, "pair", "training", every=3600) as progress:
        progress.advance(10)
    assert not lines
    assert capsys.readouterr().err == ""
