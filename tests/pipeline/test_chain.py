import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.chain import select
from pipeline.errors import UserError
from tests.pipeline.conftest import Shell

CHAIN = ("a", "b", "c", "d")


def test_selection() -> None:
    assert select(CHAIN, (), None, None) == CHAIN
    assert select(CHAIN, (), "b", "c") == ("b", "c")
    assert select(CHAIN, ("d", "b"), None, None) == ("b", "d")
    assert select(CHAIN, ("b",), "b", None) == ("b",)
    for only, first, last, message in [
        (("x",), None, None, r'stage "x" is not part of the chain \(a, b, c, d\)'),
        ((), "d", "a", "no stage of the chain is selected"),
        (("a",), "b", None, "no stage of the chain is selected"),
    ]:
        with pytest.raises(UserError, match=message):
            select(CHAIN, only, first, last)
    with pytest.raises(UserError, match="nothing to run: give --config"):
        select((), (), None, None)


def test_a_chain_runs_in_order_and_ends_with_a_table_and_paths(shell: Shell, chain_file: Path) -> None:
    answer = shell("run", "--config", chain_file)
    assert answer.code == 0
    headings = [line for line in answer.err.splitlines() if line.startswith("[")]
    assert headings == [
        "[1/3] grind-pigment: not made yet",
        "[2/3] paint: not made yet",
        "[3/3] hang: not made yet",
    ]
    rows = [line.split() for line in answer.out.splitlines()]
    assert rows[0] == ["stage", "what", "seconds", "why", "figures"]
    assert rows[1][:2] == ["grind-pigment", "ran"]
    assert rows[1][-2:] == ["parts", "3"]
    assert ["paint", "outputs/demo/paint/picture.txt"] in rows
    assert ["hang", "outputs/demo/hang"] in rows


def test_the_second_time_everything_is_done(shell: Shell, chain_file: Path) -> None:
    assert shell("run", "--config", chain_file).code == 0
    answer = shell("run", "--config", chain_file)
    assert [line.split()[1] for line in answer.out.splitlines()[1:4]] == ["skipped"] * 3
    assert answer.out.count("skipped") == 3
    assert "strength 0.5" in answer.out  # figures of skipped stages are shown too


def test_only_what_depends_on_a_change_runs_again(
    shell: Shell, chain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell("run", "--config", chain_file).code == 0
    monkeypatch.setenv("GANFOUNDRY_PAINT_STRENGTH", "0.9")
    answer = shell("run", "--config", chain_file)
    assert [line.split()[1] for line in answer.out.splitlines()[1:4]] == ["skipped", "ran", "ran"]
    assert "[2/3] paint: strength: 0.5 -> 0.9" in answer.err
    assert "[3/3] hang: input picture changed: made again" in answer.err


def test_part_of_a_chain(shell: Shell, chain_file: Path) -> None:
    assert shell("run", "--config", chain_file, "--until", "paint").code == 0
    assert not Path("outputs/demo/hang").exists()
    answer = shell("run", "--config", chain_file, "--from", "hang", "--run", "other")
    assert answer.code == 2
    assert "hang needs a picture (picture) and outputs/other has none" in answer.err
    assert shell("run", "--config", chain_file, "--only", "hang").code == 0


def test_nothing_starts_when_anything_is_wrong(shell: Shell, chain_file: Path, tmp_path: Path) -> None:
    good = chain_file.read_text("utf-8")
    for extra, message in [
        ("[hang]\nheight = -1\n", "height = -1 (toys.toml [hang]) is out of range: allowed is 0 or more."),
        ("[hang]\nheigth = 1\n", 'unknown key "heigth" in toys.toml [hang]: did you mean height?'),
        ('[hang]\npicture = "nowhere"\n', "picture (toys.toml [hang]): nowhere: no such folder"),
    ]:
        chain_file.write_text(good + extra, "utf-8")
        answer = shell("run", "--config", "toys.toml")
        assert answer.code == 2
        assert message in answer.err
        assert not (tmp_path / "outputs").exists()
    chain_file.write_text('[run]\nstages = ["grind-pigment", "paintt"]\n', "utf-8")
    assert 'there is no stage "paintt": did you mean paint?' in shell("run", "--config", "toys.toml").err
    chain_file.write_text('[run]\nstages = ["status"]\n', "utf-8")
    assert "status is a command, not a stage" in shell("run", "--config", "toys.toml").err


def test_an_error_in_the_middle_shows_what_was_done(
    shell: Shell, chain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell("run", "--config", chain_file, "--until", "grind-pigment").code == 0
    precious = Path("outputs/demo/paint/precious.txt")

    def plant(*_: object) -> None:
        precious.parent.mkdir(exist_ok=True)
        precious.write_text("x", "utf-8")

    monkeypatch.setattr("pipeline.chain.plan_chain", plant)  # appears after the chain was planned
    answer = shell("run", "--config", chain_file)
    assert answer.code == 2
    assert "grind-pigment" in answer.out
    assert "skipped" in answer.out
    assert "holds files that paint did not write" in answer.err
    assert precious.exists()


def test_kill_and_interrupt_at_any_moment_then_the_same_bytes(
    shell: Shell, chain_file: Path, spawn: Callable[..., "subprocess.Popen[str]"]
) -> None:
    assert shell("run", "--config", chain_file, "--outputs", "whole").code == 0
    for trial, number in enumerate([signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL]):
        process = spawn("run", "--config", chain_file, "--outputs", "torn", TOY_SECONDS="0.05")
        time.sleep(0.25 + 0.05 * trial)
        process.send_signal(number)
        process.communicate(timeout=120)
    assert shell("run", "--config", chain_file, "--outputs", "torn").code == 0

    def payload(outputs: str) -> dict[str, bytes]:
        folder = Path(outputs)
        files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "run.json"}

    whole, torn = payload("whole"), payload("torn")
    for content in (whole, torn):
        content.pop("demo/paint/track/log.jsonl")  # holds times
    assert whole == torn
