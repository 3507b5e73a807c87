import sys
from dataclasses import dataclass

import pytest

from pipeline.artifacts import Gan, Labels, ViewSet, Writer
from pipeline.config import param
from pipeline.executor import SerialExecutor
from pipeline.stage import Context, Stage, stage_command
from tests.pipeline.toys import Frame, Pigment, grind_command, paint_command


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options."""

    count: int = param(1, "Count.")


def run(config: "Config", gan: "Gan", labels: "Labels | None", *, out: "Writer[ViewSet]", ctx: "Context") -> None:
    """Do one thing.

    Then another,
    on two lines.

    Parameters
    ----------
    config
        Not part of the help page.
    """
    seen.append((config, gan, labels, out, ctx))


seen: list[tuple[object, ...]] = []


def test_inputs_and_output_follow_from_the_annotations() -> None:
    stage = stage_command("make-it", Config, run).stage
    assert [(item.name, item.artifact, item.optional) for item in stage.inputs] == [
        ("gan", Gan, False),
        ("labels", Labels, True),
    ]
    assert stage.output is ViewSet
    assert [key.name for key in stage.parameters] == ["count"]
    assert stage.prefix == "GANFOUNDRY_MAKE_IT_"
    paint = paint_command.stage
    assert [(item.option, item.artifact, item.optional) for item in paint.inputs] == [
        ("--pigment", Pigment, False),
        ("--frame", Frame, True),
    ]


def test_every_parameter_gets_what_its_annotation_says(tmp_path: object) -> None:
    stage = stage_command("make-it", Config, run).stage
    config, gan = Config(count=3), Gan("somewhere")
    out: Writer[ViewSet] = Writer(str(tmp_path))
    context = Context()
    stage.call(config, {"gan": gan, "labels": None}, out, context)
    assert seen == [(config, gan, None, out, context)]


def test_the_help_texts_come_from_the_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "make-it: make it,\nand well.\n\nMore about it.\n\n    an indented\n    block\n"
    monkeypatch.setattr(sys.modules[__name__], "__doc__", text)
    stage = stage_command("make-it", Config, run).stage
    assert stage.title == "make it, and well."
    assert stage.description == (
        "More about it.",
        "\b\n    an indented\n    block",
        "Do one thing.",
        "Then another, on two lines.",
    )
    assert grind_command.stage.description[-1] == "Grind every part that is not there yet."


def test_a_function_without_an_output_is_a_programming_error() -> None:
    def lost(config: Config) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match=r"lost: run\(\) has no parameter annotated Writer"):
        _ = Stage("lost", Config, lost).output


def test_a_context_by_hand_is_serial_and_lazy() -> None:
    done: list[int] = []
    context = Context(executor=SerialExecutor())
    results = context.executor.map(done.append, [1, 2, 3], "append")
    assert done == []
    assert next(results) == (0, None)
    assert done == [1]
    assert [position for position, _ in results] == [1, 2]
    context.executor.close()
