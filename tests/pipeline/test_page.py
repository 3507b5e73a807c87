"""--serve, --open and --port on the toy chain."""

from pathlib import Path

import click
import pytest

from pipeline import manifest
from pipeline.page import Serving
from pipeline.registry import Registry, run_command_line
from pipeline.stage import stage_command
from tests.pipeline.conftest import Answer
from tests.pipeline.toys import Frame, PaintConfig, Picture, Pigment, grind_command, paint

calls: list[tuple[Path, int | None, Path, Path | None, bool]] = []


def page(picture: Picture, serving: Serving, pigment: Pigment, frame: Frame | None) -> None:
    """A person who writes into the picture."""
    serving.say("open http://here/")
    held = manifest.is_being_written(picture.path)
    calls.append((picture.path, serving.port, pigment.path, None if frame is None else frame.path, held))
    text = (picture.path / "picture.txt").read_text("utf-8")
    if text == "break":
        raise ZeroDivisionError("the brush is broken")
    (picture.path / "picture.txt").write_text(text + " and a person", "utf-8")


paint_command = stage_command("paint", PaintConfig, paint, page=page)


class Toys(Registry):
    def _load(self, name: str) -> click.Command:
        return {"grind-pigment": grind_command, "paint": paint_command}[name]


@pytest.fixture
def shell(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    calls.clear()

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        registry = Toys({name: ("", name) for name in ("grind-pigment", "paint")}, name="toys")
        code = run_command_line(registry, [str(argument) for argument in arguments], "python cli.py")
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    assert call("grind-pigment").code == 0
    return call


def test_serve_runs_the_stage_and_opens_the_page_on_what_it_made(shell):
    answer = shell("paint", "--serve", "--port", "0")
    assert answer.code == 0
    assert "open http://here/" in answer.out
    folder = Path("outputs/default/paint")
    assert calls == [(folder, 0, Path("outputs/default/grind-pigment"), None, True)]
    assert not manifest.is_being_written(folder)


def test_what_the_person_did_is_kept_by_reruns(shell):
    shell("paint", "--serve")
    text = Path("outputs/default/paint/picture.txt")
    assert text.read_text().endswith("and a person")
    before = Picture.open(text.parent).fingerprint
    assert shell("paint", "--serve").code == 0  # done already: only the page is opened
    assert text.read_text().count("and a person") == 2
    assert Picture.open(text.parent).fingerprint != before  # so whatever reads it runs again
    refused = shell("paint", "--strength", "0.2", "--serve")
    assert refused.code == 2
    assert "edits by hand (picture.txt)" in refused.err
    assert len(calls) == 2
    assert shell("paint", "--strength", "0.2", "--force").code == 0
    assert "and a person" not in text.read_text()


def test_open_takes_any_folder_and_runs_nothing(shell):
    committed = Path("committed")
    committed.mkdir()
    (committed / "picture.txt").write_text("mine")
    frame = Path("frame")
    frame.mkdir()
    (frame / "frame.txt").write_text("gold")
    assert shell("paint", "--open", committed, "--frame", frame, "--port", "1234").code == 0
    assert (committed / "picture.txt").read_text() == "mine and a person"
    assert calls == [(committed, 1234, Path("outputs/default/grind-pigment"), frame, True)]
    assert not Path("outputs/default/paint").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--open", "missing"), "missing: no such folder"),
        (("--open", "outputs/default/grind-pigment"), "holds a pigment"),
        (("--serve", "--port", "x"), "expected a whole number"),
        (("--serve", "--port", "70000"), "expected a whole number"),
        (("--serve", "--pigment", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(shell, arguments, sentence):
    answer = shell("paint", *arguments)
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert calls == []


def test_a_page_that_breaks_leaves_its_traceback_in_the_folder(shell):
    shell("paint")
    Path("outputs/default/paint/picture.txt").write_text("break")
    answer = shell("paint", "--open", "outputs/default/paint")
    assert answer.code == 1
    assert "ZeroDivisionError: the brush is broken" in answer.err
    assert "ZeroDivisionError" in Path("outputs/default/paint/error.log").read_text()


def test_a_folder_in_use_is_named(shell):
    shell("paint")
    with manifest.locked(Path("outputs/default/paint")):
        answer = shell("paint", "--open", "outputs/default/paint")
    assert answer.code == 2
    assert "in use by another run" in answer.err
    assert calls == []


def test_only_stages_with_a_page_have_the_options(shell):
    assert "--serve" in shell("paint", "--help").out
    assert "--serve" not in shell("grind-pigment", "--help").out
