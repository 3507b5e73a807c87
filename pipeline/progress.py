"""Progress of a run: bars on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 15.0


class Bar(Protocol):
    """One piece of work whose size is known."""

    def advance(self, n: int = 1) -> None:
        """Say that n more units are done."""
        ...


class Display:
    """Shows the bars and messages of a run on stderr; bars may be nested."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._live: Progress | None = None
        self._depth = 0

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Bar]:
        """Bar for `total` units of work, for as long as the context lasts."""
        if self.quiet:
            yield _SilentBar()
        elif sys.stderr.isatty():
            with self._live_bar(label, total) as bar:
                yield bar
        else:
            lines = _LineBar(label, total)
            yield lines
            lines.close()

    def log(self, message: str) -> None:
        """One line of text, above the bars."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False)
        else:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    @contextmanager
    def _live_bar(self, label: str, total: int) -> Iterator[Bar]:
        progress = self._live or _rich_progress()
        self._live = progress
        if self._depth == 0:
            progress.start()
        self._depth += 1
        task = progress.add_task(label, total=total)
        try:
            yield _RichBar(progress, task)
        finally:
            self._depth -= 1
            if self._depth == 0:
                progress.stop()
                self._live = None
            else:
                progress.remove_task(task)


class _SilentBar:
    def advance(self, n: int = 1) -> None:
        """Nothing to show."""


class _RichBar:
    def __init__(self, progress: "Progress", task: int) -> None:
        from rich.progress import TaskID

        self._progress, self._task = progress, TaskID(task)

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)


class _LineBar:
    """Plain lines: one every few seconds, and one at the end."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._started = self._spoken = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the work got going, and what was done by then

    def advance(self, n: int = 1) -> None:
        self._done += n
        if self._first is None and n:
            self._first = (time.monotonic(), self._done)
        if time.monotonic() - self._spoken >= SECONDS_BETWEEN_LINES:
            self._spoken = time.monotonic()
            self._say()

    def close(self) -> None:
        self._say()

    def _say(self) -> None:
        now = time.monotonic()
        words = [f"{now - self._started:.0f} s"]
        began, before = self._first or (now, 0)
        if now - began >= 1 and self._done > before:
            speed = (self._done - before) / (now - began)
            words.append(show_speed(speed))
            if self._done < self._total:
                words.append(f"{show_duration((self._total - self._done) / speed)} left")
        sys.stderr.write(f"  {self._label}: {self._done}/{self._total} ({', '.join(words)})\n")
        sys.stderr.flush()


def show_speed(speed: float) -> str:
    """Units a second for reading, e.g. 96.4/s."""
    return f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.3g}/s"


def show_duration(seconds: float) -> str:
    """Duration for reading, e.g. 1 h 43 min."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes > 1 else f"{seconds:.0f} s"


def _rich_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(show_speed(speed) if speed else "", style="progress.data.speed")

    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
