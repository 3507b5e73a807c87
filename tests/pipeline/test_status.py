import shutil
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.artifacts import Writer
from pipeline.status import show_age, show_bytes
from tests.pipeline.conftest import Shell


def table(text: str) -> dict[str, tuple[str, str]]:
    """State and reason of every stage."""
    lines = text.splitlines()
    column = lines[1].index("why")
    return {line.split()[0]: (line.split()[1], line[column:].strip()) for line in lines[2:] if not line.startswith(" ")}


@pytest.fixture
def made(shell: Shell, chain_file: Path) -> Path:
    assert shell("run", "--config", chain_file).code == 0
    return Path("outputs/demo")


def test_done(shell: Shell, chain_file: Path, made: Path) -> None:
    answer = shell("status", "--config", chain_file)
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "outputs/demo"
    assert table(answer.out) == {name: ("done", "") for name in ("grind-pigment", "paint", "hang")}
    assert "strength 0.5" in answer.out


def test_without_a_file_stages_are_judged_by_their_own_settings(shell: Shell, made: Path) -> None:
    assert {state for state, _ in table(shell("status", "--run", "demo").out).values()} == {"done"}
    assert shell("grind-pigment", "--run", "demo", "--parts", 1).code == 0
    assert table(shell("status", "--run", "demo").out) == {
        "grind-pigment": ("done", ""),
        "paint": ("stale", "input pigment changed: made again"),
        "hang": ("stale", "input picture will change: paint runs again"),
    }


def test_an_input_from_elsewhere_is_remembered(shell: Shell, made: Path) -> None:
    shutil.move(made / "grind-pigment", "stock")
    assert shell("paint", "--run", "other", "--pigment", "stock").code == 0
    assert table(shell("status", "--run", "other").out) == {"paint": ("done", "")}
    shutil.move("stock", "lost")
    assert table(shell("status", "--run", "other").out)["paint"][0] == "stale"


def test_stale_unfinished_missing_broken(shell: Shell, chain_file: Path, made: Path) -> None:
    (made / "hang" / "room.bin").unlink()
    found = table(shell("status", "--config", chain_file).out)
    assert found["hang"] == ("broken", "output file room.bin missing")
    shutil.rmtree(made / "hang")
    assert table(shell("status", "--config", chain_file).out)["hang"] == ("missing", "not made yet")
    (made / "paint" / "run.json").rename(made / "paint" / "progress.json")
    found = table(shell("status", "--config", chain_file).out)
    assert found["paint"] == ("unfinished", "unfinished: continuing")
    Writer(made / "paint").reached("3 of 8 strokes")
    found = table(shell("status", "--config", chain_file).out)
    assert found["paint"] == ("unfinished", "unfinished: continuing after 3 of 8 strokes")
    (made / "grind-pigment" / "run.json").write_text("{", "utf-8")
    found = table(shell("status", "--config", chain_file).out)
    assert found["grind-pigment"] == ("broken", "run.json is damaged")


def test_unfinished_stage_is_judged_by_the_settings_it_was_begun_with(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--parts", 1).code == 0
    folder = Path("outputs/demo/grind-pigment")
    (folder / "run.json").rename(folder / "progress.json")
    assert table(shell("status", "--run", "demo").out)["grind-pigment"] == ("unfinished", "unfinished: continuing")


def test_a_folder_that_is_being_written(shell: Shell, chain_file: Path, made: Path) -> None:
    with manifest.locked(made / "paint"):
        assert table(shell("status", "--config", chain_file).out)["paint"] == ("unfinished", "a run is writing it")


def test_edits_by_hand_are_shown(shell: Shell, chain_file: Path, made: Path) -> None:
    (made / "paint" / "picture.txt").write_text("signed", "utf-8")
    found = table(shell("status", "--config", chain_file).out)
    assert found["paint"] == ("done", "edited by hand: picture.txt")
    assert found["hang"] == ("stale", "input picture changed: picture.txt edited by hand")


def test_status_writes_nothing(shell: Shell, chain_file: Path, made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert shell("status", "--config", chain_file, "--verify").code == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_no_run_yet(shell: Shell) -> None:
    answer = shell("status")
    assert answer.code == 2
    assert "outputs/default holds no run yet: `python cli.py run --config FILE` makes one." in answer.err


def test_sizes_and_ages() -> None:
    assert [show_bytes(n) for n in (0, 999, 1500, 123_456, 5 * 10**9, 2 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 kB",
        "5.0 GB",
        "2.0 TB",
    ]
    assert [show_age(s) for s in (None, -1.0, 59.0, 60.0, 7200.0, 180_000.0)] == [
        "",
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "2 d",
    ]
