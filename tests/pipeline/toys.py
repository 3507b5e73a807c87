"""A small chain for the tests of the machinery: pigment -> picture -> room.

`python -m tests.pipeline.toys ARGUMENTS` is its command line; TOY_DEED makes a stage misbehave.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifacts import Artifact, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.registry import Registry, run_command_line
from pipeline.stage import Context, stage_command


class Pigment(Artifact):
    """Powder: part-*.bin."""

    kind = "pigment"
    title = "a pigment"
    made_by = ("grind-pigment",)
    payload = ("part-0.bin",)


class Frame(Artifact):
    """A frame: frame.txt."""

    kind = "frame"
    title = "a frame"
    payload = ("frame.txt",)


class Picture(Artifact):
    """A picture: picture.txt."""

    kind = "picture"
    title = "a picture"
    made_by = ("paint",)
    main = "picture.txt"


class Room(Artifact):
    """A room: room.bin."""

    kind = "room"
    title = "a room"
    made_by = ("hang",)


@dataclass(frozen=True, kw_only=True)
class GrindConfig:
    """Options of the mill."""

    parts: int = param(3, "Parts to grind.", min=1, max=99)
    hue: Literal["red", "blue"] = param("red", "Colour of the stone.")
    sieve: Path | None = param(None, "A file whose content shapes the grain.")
    seed: int = param(0, "Seed.")


def grind_part(task: tuple[str, int, str]) -> int:
    """Write one part, unless it is there; a line in .ground says that it was made."""
    folder, index, hue = task
    path = Path(folder) / f"part-{index}.bin"
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(f"{hue}-{index};".encode() * 100)
    temporary.replace(path)
    with (Path(folder) / ".ground").open("a", encoding="utf-8") as file:
        file.write(f"{index}\n")
    return 1


def grind(config: GrindConfig, out: Writer[Pigment], ctx: Context) -> None:
    """Grind every part that is not there yet."""
    deed = os.environ.get("TOY_DEED", "")
    if deed == "crash":
        raise ZeroDivisionError("the mill is\nbroken")
    if deed == "refuse":
        raise UserError("stone.png is not a stone: give another.")
    if deed == "memory":
        raise MemoryError
    missing = [i for i in range(config.parts) if not (out.path / f"part-{i}.bin").exists() or ctx.verify]
    tasks = [(str(out.path), index, config.hue) for index in missing]
    for _ in ctx.executor.map(grind_part, tasks, "grinding"):
        ctx.log("ground")
    if deed == "fill":
        (out.path / "big.bin").write_bytes(bytes(10_000_000))
    out.figure("parts", config.parts)


@dataclass(frozen=True, kw_only=True)
class PaintConfig:
    """Options of the brush."""

    strength: float = param(0.7, "Share of pigment.", min=0.0, max=1.0)
    layers: tuple[int, ...] = param((4, 8), "Layers painted.", min=1)
    wet: bool = param(True, "Whether the next layer starts before the last is dry.")


def paint(config: PaintConfig, pigment: "Pigment", frame: "Frame | None", out: "Writer[Picture]", ctx: Context) -> None:
    """Mix and paint."""
    parts = sum(1 for name in pigment.record["files"])
    framed = "framed" if frame else "bare"
    with ctx.progress("painting", len(config.layers)) as bar:
        for layer in config.layers:
            ctx.tracker.log(layer, {"strength": config.strength})
            bar.advance()
    (out.path / "picture.txt").write_text(f"{parts} parts, {framed}, strength {config.strength}", "utf-8")
    out.figure("strength", config.strength)


@dataclass(frozen=True, kw_only=True)
class HangConfig:
    """Options of the wall."""

    height: float = param(1.5, "Height above the floor in metres.", min=0)


def hang(config: HangConfig, picture: Picture, out: Writer[Room], ctx: Context) -> None:
    """Hang it."""
    (out.path / "room.bin").write_bytes(f"{config.height} {picture.fingerprint}".encode())


grind_command = stage_command("grind-pigment", GrindConfig, grind, example="python cli.py grind-pigment --parts 5")
paint_command = stage_command("paint", PaintConfig, paint)
hang_command = stage_command("hang", HangConfig, hang)
CHAIN = ("grind-pigment", "paint", "hang")


class Toys(Registry):
    """The registry of this module: commands are attributes instead of modules."""

    def _load(self, name: str) -> object:  # type: ignore[override]
        if name in ("run", "status"):
            return super()._load(name)
        return {"grind-pigment": grind_command, "paint": paint_command, "hang": hang_command}[name]


def toys() -> Registry:
    """A fresh registry."""
    entries = {name: ("tests.pipeline.toys", f"Help line of {name}.") for name in CHAIN}
    entries |= {"run": ("stages.run", "Run the chain."), "status": ("stages.status", "Show the run.")}
    return Toys(entries, name="toys", help="Toys.")


if __name__ == "__main__":
    sys.exit(run_command_line(toys(), sys.argv[1:], "python cli.py"))
