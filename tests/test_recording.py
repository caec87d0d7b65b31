"""Each recorded combination gives the committed names and numbers, and an interrupted run ends the same.

`python tests/recording/record.py --committed` writes the committed copy anew.
"""

import json

import pytest
from recording.combinations import COMBINATIONS
from recording.compare import differences
from recording.record import COMMITTED, digest_of_state, machine, record, write_data

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
OTHER_CPU = 1e-2  # rounding differs from the first step on, and training amplifies it (0.004 was seen)


@pytest.fixture(scope="module")
def committed():
    return json.loads(COMMITTED.read_text())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The record of a combination, made when it is first asked for."""
    root, done = tmp_path_factory.mktemp("recording"), {}
    data = write_data(root / "data")

    def get(name):
        if name not in done:
            done[name] = record(name, data, root / "runs")
        return done[name]

    return get


def first_check(run):
    """What does not hang on the rounding of later steps: names, steps and rates, and the first loss."""
    return {
        "names": [run["run"], run["files"], run["keys"]],
        "steps": [[line["step"], line["lr"]] for line in run["val"]],
        "loss": run["val"][0]["train_loss"],
    }


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_gives_what_was_recorded(name, recorded, committed):
    like, run = COMBINATIONS[name].like, recorded(name)
    if like is not None:
        assert differences(recorded(like), run) == []
        return
    expected = committed["runs"][name]
    if committed["machine"] == machine():
        assert differences(expected, run, tolerance=TOLERANCE) == []
    else:
        assert differences(first_check(expected), first_check(run), tolerance=OTHER_CPU) == []


def test_every_combination_is_committed(committed):
    assert set(committed["runs"]) == {name for name, one in COMBINATIONS.items() if one.like is None}


def test_every_combination_differs_from_every_other_one(committed):
    ends = {}
    for name, run in committed["runs"].items():
        ends.setdefault(json.dumps([run["val"], run["test"]["shots"]]), []).append(name)
    assert [names for names in ends.values() if len(names) > 1] == []


OLD = {"run": "a", "files": ["x"], "val": [{"loss": 2.0, "mae": None}], "weights": "1f"}


@pytest.mark.parametrize(
    ("change", "tolerance", "found"),
    [
        ({"gained": 1}, None, []),
        ({"weights": "2f"}, 1e-5, []),
        ({"weights": "2f"}, None, ["weights: was '1f', is '2f'"]),
        ({"files": ["x", "y"]}, 1e-5, ["files: was ['x'], is ['x', 'y']"]),
        ({"val": [{"loss": 2.00001, "mae": None}]}, 1e-5, []),
        ({"val": [{"loss": 2.00001, "mae": None}]}, None, ["val[0]/loss: was 2.0, is 2.00001"]),
        ({"val": [{"loss": 2.0001, "mae": 0.0}]}, 1e-5, 2),
        ({"val": [{"loss": float("nan"), "mae": None}]}, 1e-5, 1),
        ({"val": []}, 1e-5, 1),
    ],
)
def test_differences_are_found(change, tolerance, found):
    lines = differences(OLD, OLD | change, tolerance=tolerance)
    assert lines == found or len(lines) == found


def test_what_is_missing_is_a_difference():
    assert differences(OLD, {"run": "a"}) == [f"/{key}: is missing" for key in ("files", "val", "weights")]


def test_the_digest_sees_every_bit_and_name():
    import torch

    state = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    again = {"b": torch.ones(2, 2), "a": torch.zeros(3)}
    assert digest_of_state(state) == digest_of_state(again)
    others = [
        state | {"a": -torch.zeros(3)},
        state | {"a": torch.zeros(3, 1)},
        {"a": state["a"], "c": state["b"]},
    ]
    assert digest_of_state(state) not in map(digest_of_state, others)
