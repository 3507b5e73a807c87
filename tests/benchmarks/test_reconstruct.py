"""The benchmark of reconstruct on a toy network: its table adds up and its last line is JSON."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import reconstruct
from tests.ganfoundry.shape.carhelp import toy_network


def test_steps_files_and_axles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = toy_network(tmp_path / "network")
    options = ["--network", str(network), "--images", "2", "--repeats", "1", "--keep", str(tmp_path / "files")]
    monkeypatch.setattr(sys, "argv", ["reconstruct", *options])
    reconstruct.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    steps = found["ms"]["1"]
    assert found["ms_per_image"] == pytest.approx(sum(steps[name] for name in ("find", "read", "rig", "glb")), abs=0.2)
    assert steps["check"] < 1  # no detector is known for the toy's generator
    assert found["rigged"] == 1.0
    assert 0 < found["axle_error"] < 0.2
    sizes = [path.stat().st_size for path in (tmp_path / "files").glob("*.glb")]
    assert found["kb_most"] == round(max(sizes) / 1000, 1)
    assert found["validator_errors"] in (0, None)


def test_without_a_network_it_says_what_to_give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["reconstruct"])
    monkeypatch.setattr(reconstruct.weights, "names", lambda: [])
    reconstruct.main()
    first, last = capsys.readouterr().out.splitlines()
    assert "give --network FOLDER" in first
    assert json.loads(last) == {"ms_per_image": None}
