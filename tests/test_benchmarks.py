"""Each benchmark runs at a tiny size, so that none can rot; how fast anything is, no test says."""

import dataclasses
import json
import logging
import math
import sys

import pytest
import tiny_faces  # noqa: F401 - registers resnet_tiny
from conftest import ROOT
from tiny_depth import tiny_nyud2

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench
import measure

TINY = measure.Sizes(
    images=8, batch=4, model="resnet_tiny", img_size=32, rooms=4, depth_size=24, steps=2, samples=300,
    channels=8, rows=16, rounds=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def log_again():
    """The command silences the log of its whole process, which other tests share."""
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted(bench.PARTS))
def test_a_part_gives_its_rows(part, tmp_path, monkeypatch):
    if part == "a":  # slow without bf16 instructions, but it runs; an LSTM does not
        monkeypatch.setattr("common.training.compute.bf16_obstacle", lambda device: None)
    monkeypatch.setattr("epochs.ROOT", tmp_path)  # without the real data
    sizes = TINY
    if part == "c":
        tiny_nyud2(tmp_path / "nyud2-0.0002", train=4, test=4)
        sizes = dataclasses.replace(TINY, model="resnet18")
    if part == "h":  # real processes, which know no tiny model
        sizes = dataclasses.replace(TINY, model="resnet18")
    rows = bench.PARTS[part](tmp_path, sizes)
    assert rows or part == "g"
    for row in rows:
        assert row.part == part
        assert row.what in bench.line(row)
        assert all(math.isfinite(value) and value > 0 for value in (row.here, row.other, row.ratio))


def test_the_command_writes_its_table(tmp_path, monkeypatch, capsys):
    row = measure.Row("d", "one thing: x another", 1.0, 2.5, 2.5, 3.0)
    monkeypatch.setattr(bench, "PARTS", {"d": lambda folder, sizes: [row]})
    assert bench.main(["--out", str(tmp_path / "bench.json"), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "bf16: " in printed
    assert "one thing: x another" in printed
    assert "2.50  >= 3  short of it" in printed
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["rows"][0]["ratio"] == 2.5


def test_works_are_timed_in_turn():
    calls = []
    times = measure.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == list("ababab")  # the first of each is not counted
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    given = measure.Times(ours=[1.0, 2.0, 4.0], loop=[3.0, 2.0, 8.0])
    row = given.row("a", "x", "ours", "loop", wanted=2)
    assert (row.here, row.other, row.ratio, row.good) == (2.0, 3.0, 2.0, True)
