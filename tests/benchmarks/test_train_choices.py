"""The benchmark of train-gan's choices, with the training replaced by a log of known distances."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import train_choices
from ganfoundry.errors import InputError
from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_log import append_line


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TrainingConfig]:
    """Recipes that were trained: a run's distances are 400, 300, 200, 100, and its seed, ten more when alternating."""
    seen: list[TrainingConfig] = []

    def train(config: TrainingConfig, images: Path, out: Path) -> None:
        seen.append(config)
        out.mkdir(parents=True)
        append_line(out, {"step": 1, "generator_loss": 1.0})
        for fd in (400, 300, 200, 100):
            append_line(out, {"step": 1, "fd": fd + config.seed + 10 * (config.update == "alternating")})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_choices, "train", train)
    monkeypatch.setattr(train_choices, "rendered", lambda resolution, count: Path("images.npy"))
    return seen


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["train_choices", "--jobs", "1", *arguments])
    train_choices.main()
    table: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return table


def test_rows_differ_in_one_option_and_are_averaged_over_seeds(
    trained: list[TrainingConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run(monkeypatch, capsys, "--rows", "alternating,simultaneous", "--seeds", "3")
    assert (table["alternating"]["fd"], table["simultaneous"]["fd"]) == (111, 101)
    assert table["simultaneous"]["fd_std"] == 1
    assert [(config.seed, config.update) for config in trained] == [
        (seed, update) for seed in range(3) for update in ("alternating", "simultaneous")
    ]
    again = run(monkeypatch, capsys, "--rows", "simultaneous", "--seeds", "3")
    assert again["simultaneous"]["fd"] == 101
    assert len(trained) == 6  # nothing was trained twice


def test_unknown_rows_are_refused(
    trained: list[TrainingConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no row 'adam'"):
        run(monkeypatch, capsys, "--rows", "adam")
    for row in train_choices.ROWS:  # every recipe is a valid one
        train_choices.recipe(row, 0, 1.0, 32, 100)
