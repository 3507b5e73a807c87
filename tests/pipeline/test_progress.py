import io
import sys

import pytest

from pipeline import progress
from pipeline.progress import Display
from pipeline.stage import Context


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_is_silent_also_nested(capsys: pytest.CaptureFixture[str]) -> None:
    context = Context()
    with context.progress("outer", 2) as outer:
        for _ in range(2):
            with context.progress("inner", 3) as inner:
                inner.advance(3)
            outer.advance()
    context.log("nothing")
    assert list(context.executor.map(abs, [-1, -2], "absolute")) == [(0, 1), (1, 2)]
    assert capsys.readouterr() == ("", "")


def test_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    display = Display()
    with display.bar("training", 2) as bar:
        bar.advance()
        display.log("half")
        bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "  training: 1/2 (0 s)",
        "half",
        "  training: 2/2 (0 s)",
        "  training: 2/2 (0 s)",
    ]


def test_few_lines_for_many_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with Display().bar("training", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert capsys.readouterr().err == "  training: 1000/1000 (0 s)\n"


def test_bars_on_a_terminal_nested_and_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    display = Display()
    with display.bar("outer", 2) as outer, display.bar("inner", 5) as inner:
        inner.advance(5)
        outer.advance(2)
        display.log("a [bracketed] message")
    with pytest.raises(ValueError, match="stop"), display.bar("again", 3):
        raise ValueError("stop")
    with display.bar("third", 1) as bar:
        bar.advance()
    text = terminal.getvalue()
    for word in ("outer", "inner", "again", "third", "2/2", "1/1", "a [bracketed] message"):
        assert word in text


def test_lines_tell_speed_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Display().bar("Training", 600_000) as bar:
        for count in (0, 100, 1600, 598_300):  # the start takes its time and does not count
            now[0] += 16.0
            bar.advance(count)
    assert capsys.readouterr().err.splitlines() == [
        "  Training: 0/600000 (16 s)",
        "  Training: 100/600000 (32 s)",
        "  Training: 1700/600000 (48 s, 100/s, 1 h 40 min left)",
        "  Training: 600000/600000 (64 s, 18,747/s)",
        "  Training: 600000/600000 (64 s, 18,747/s)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (100, "2 min"), (3599, "1 h 0 min"), (86_460, "24 h 1 min"), (0, "0 s")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert progress.show_duration(seconds) == text
