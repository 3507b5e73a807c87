"""The table of the cuts: means over the seeds that gave codes, on a stand-in for the measurement."""

import json
import sys

import pytest

from benchmarks import view_cuts
from ganfoundry.errors import RunError


def test_means_are_over_the_seeds_that_gave_codes(monkeypatch, capsys):
    asked = []

    def measure(loaded, networks, cut, shapes, seed, options):
        asked.append((cut, shapes, seed))
        if cut == 2 or (shapes and seed == 5):
            raise RunError(f"no codes with cut {cut}")
        return dict.fromkeys(view_cuts.COLUMNS, 10.0 * cut + seed)

    monkeypatch.setattr(view_cuts, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["view_cuts", "--cuts", "2,3", "--seeds", "3", "--seed", "4"])
    view_cuts.main()
    table = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert asked == [(cut, shapes, seed) for cut in (2, 3) for shapes in (0, 3) for seed in (4, 5, 6)]
    assert table["2 any"] == {"found": 0, "error": "no codes with cut 2"}
    assert (table["3 any"]["found"], table["3 any"]["hue_kept"], table["3 any"]["hue_kept_spread"]) == (3, 35.0, 1.0)
    assert table["3 shapes"]["found"] == 2
    assert table["3 shapes"]["flip_share_spread"] == pytest.approx(2**0.5, abs=1e-4)


def test_one_seed_has_no_spread(monkeypatch, capsys):
    monkeypatch.setattr(view_cuts, "measure", lambda *_: dict.fromkeys(view_cuts.COLUMNS, 1.5))
    monkeypatch.setattr(sys, "argv", ["view_cuts", "--cuts", "3", "--seeds", "1"])
    view_cuts.main()
    printed = capsys.readouterr().out
    assert "±" not in printed
    table = json.loads(printed.splitlines()[-1], parse_constant=pytest.fail)  # NaN is no JSON
    assert table["3 any"]["hue_kept"] == 1.5
    assert "hue_kept_spread" not in table["3 any"]
