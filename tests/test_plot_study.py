"""scripts/plot.py study: the differences of results/study.csv, in per cent of the base row."""

import pytest
from drawn import call, drawn

from common import cli

HEAD = "table,row,base,metric,shot,value,difference,low,high,verdict\n"


@pytest.fixture
def figures(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    return drawn(monkeypatch)


def test_a_lower_error_is_to_the_right_in_per_cent_of_the_base(tmp_path, figures):
    (tmp_path / "results" / "study.csv").write_text(
        HEAD
        + "a,LDS,Vanilla,mae,all,9,-1,-2,-0.5,better\n"
        + "a,LDS,Vanilla,mae,few,22,2,-1,3,undecided\n"
        + "a,LDS,Vanilla,gm,all,1,-9,-9,-9,better\n"
        + "b,LDS,Vanilla,pearson,all,0.6,0.1,0.05,0.2,better\n"
        + "b,FDS,Vanilla,pearson,all,0.4,-0.1,-0.2,-0.05,worse\n"
        + "drawn-standin,LDS,Vanilla,mae,all,1,9,9,9,worse\n"
        + "a-zero,LDS,Vanilla,mae,all,1,9,9,9,worse\n"  # other labels of data that are there already
        + "a-zero,LDS,Vanilla,mae,interpolation,1,9,9,9,worse\n"
    )
    assert call("study", "--out", tmp_path / "study.png") == 0
    whole, few = figures[0].axes
    names = [label.get_text() for label in whole.get_yticklabels()]
    assert names == ["FDS against Vanilla (1)", "LDS against Vanilla (2)"]
    points = sorted(line.get_xdata()[0] for line in whole.lines if line.get_marker() == "o")
    assert points == pytest.approx([-20, 10, 20])
    (point,) = (line.get_xdata()[0] for line in few.lines if line.get_marker() == "o")
    assert point == pytest.approx(-10)


def test_without_a_study_the_way_is_told(tmp_path, figures, capsys):
    assert call("study", "--out", tmp_path / "study.png") == 2
    assert "run python scripts/study.py" in capsys.readouterr().err
