"""`livespt reproduce`: what it lists runs, and what it prints is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from livespt.cli import main
from livespt.reproduce import Outcome, ReproduceError, Row, experiments, reproduce
from livespt_sim import beads
from livespt_sim.linden2017 import Cell
from livespt_sim.papers import precision, still

KEYS = ["what", "paper", "theirs_here", "ours", "seconds"]


def test_every_experiment_says_what_it_is():
    known = experiments()
    assert {f"linden-fig{k}" for k in (2, 3, 4, 5, 6, 7)} <= known.keys()
    assert all(says.endswith(".") and len(says) > 20 for says in known.values())


def test_the_list_is_printed_for_people_and_machines(capsys):
    assert main(["reproduce", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == experiments()
    assert main(["reproduce"]) == 0
    assert re.search("linden-fig3 +Linden 2017, figure 3", capsys.readouterr().out)


@pytest.mark.parametrize(
    "name, figure, said",
    [
        ("linden-fig22", None, "no experiment 'linden-fig22'.*did you mean 'linden-fig"),
        ("linden-fig2", "f.bmp", "f.bmp: expected a .png"),
        ("linden-fig2", "none/f.png", "none/f.png: expected a .png"),
    ],
)
def test_a_wrong_name_or_place_is_refused_before_anything_runs(name, figure, said):
    with pytest.raises(ReproduceError, match=said):
        reproduce(name, figure=Path(figure) if figure else None)


def test_rows_notes_and_figure_come_back(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("livespt.reproduce.find", lambda name: small)
    place = tmp_path / "f.png"
    assert main(["reproduce", "linden-fig2", "--quick", "--json", "--figure", str(place)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [list(row) for row in answer["rows"]] == [KEYS] * 3
    assert (answer["quick"], answer["seed"], answer["figure"]) == (True, 1, str(place))
    assert place.read_bytes().startswith(b"\x89PNG")
    # bright, short: the paper finds both right within 10 %
    assert answer["rows"][1]["theirs_here"] == pytest.approx(1, abs=0.1)
    assert answer["rows"][1]["ours"] == pytest.approx(1, abs=0.1)


def small(quick: bool, seed: int) -> Outcome:
    """One cell of figure 2."""
    pytest.importorskip("psfmodels")
    return precision._compare([Cell(1, 1.0, 600)], "symmetric", "mle", 400, seed)


def test_drift_goes_out_with_the_truth_between_bright_blocks():
    lit = np.flatnonzero(np.arange(210) % beads.PERIOD < beads.N_BRIGHT)
    when = np.arange(10, 200)
    path = np.arange(210)[:, None] * [0.001, -0.002] + [0.3, 0.1]
    assert still.interpolated(path[lit], lit, when) == pytest.approx(path[when])


def test_all_estimators_are_right_on_bright_beads_and_priors_on_dim_ones():
    """Seed 1, 270 frames: eight seeds gave .95 to 1.03 bright; dim .59 to .80, .62 to .84 and
    .87 to 1.02 by formula, Laplace and priors.
    """
    pytest.importorskip("psfmodels")
    rng, through = np.random.default_rng(1), beads.optics()
    bright = still.judged(beads.film(500.0, 310, through, rng))
    assert all(v.sd_over_rmse == pytest.approx(1, abs=0.1) for v in bright.verdicts.values())
    assert bright.truth_nm < 0.2 * bright.verdicts[still.MAP].rmse_nm
    dim = still.judged(beads.film(40.0, 310, through, rng)).verdicts
    assert dim[still.CRLB].sd_over_rmse < dim[still.LAPLACE].sd_over_rmse < 0.85
    assert dim[still.MAP].sd_over_rmse == pytest.approx(1, abs=0.15)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(experiments()))
def test_quick_experiments_take_less_than_a_minute(name):
    answer = reproduce(name, quick=True)
    assert answer["rows"]
    assert answer["seconds"] < 60
    assert all(isinstance(Row(**row), Row) for row in answer["rows"])
