"""Speed of one full training step against a plain implementation of the same networks, in the same run.

    python -m benchmarks.train_gan [--resolutions 64,128] [--batch 8] [--repeats 3]

A full step is the generator's and the discriminator's phase plus R1 over its interval. The plain step
(`benchmarks/_plain_stylegan2.py`: grouped convolutions, float32, default memory layout, unfused Adam) has
the same weights, draws and losses; the largest difference of its images, over their largest value, is printed. Then,
for the first resolution, a table of the trainer's choices. `batch` images belong to one process of one thread. Times
are CPU time of the process, so that other work on the machine does not count (of two processes: of the slower one, and
the images of both); forms take turns, medians count. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks._plain_stylegan2 import ContiguousDiscriminator, PlainDiscriminator, PlainSynthesis
from ganfoundry.gan.config import small_channels
from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_distributed import Group, run_processes
from ganfoundry.gan.train_state import TrainingState
from ganfoundry.gan.train_step import (
    PATH,
    Step,
    draw_fakes,
    map_fakes,
    path_length_phase,
    process_rows,
    r1_phase,
    training_step,
)

PLAIN = "plain: grouped convolutions, fp32, contiguous"


@dataclass(frozen=True)
class Form:
    """One way to take a step: recipe, and what is done to the networks."""

    name: str
    config: TrainingConfig
    arrange: Callable[[TrainingState], None] = lambda _: None


def recipe(resolution: int, batch: int, **options: Any) -> TrainingConfig:
    """Recipe of the shipped generators at a resolution."""
    channels = ",".join(map(str, small_channels(resolution).values()))
    return TrainingConfig(
        resolution=resolution,
        batch=batch,
        generator_channels=channels,
        discriminator_channels=channels,
        **options,
    )


def make_plain(state: TrainingState) -> None:
    """Give a state's networks the plain arithmetic; the weights stay."""
    state.generator.synthesis.__class__ = PlainSynthesis
    state.discriminator.__class__ = PlainDiscriminator
    for adam in (state.generator_adam, state.discriminator_adam):
        adam.param_groups[0].update(fused=False, foreach=False)


def make_contiguous(state: TrainingState) -> None:
    """Give a state's discriminator the default memory layout."""
    state.discriminator.__class__ = ContiguousDiscriminator


class Runner:
    """Takes steps of one form and keeps their CPU times."""

    def __init__(self, form: Form) -> None:
        self.state = TrainingState(form.config, torch.device("cpu"))
        form.arrange(self.state)
        self.step = Step(self.state, Group(), process_rows(form.config.batch, 0, 1))
        side, random = form.config.resolution, torch.Generator().manual_seed(0)
        self.reals = torch.rand(form.config.batch, 3, side, side, generator=random) * 2 - 1
        self.seconds: dict[str, list[float]] = {}

    def turn(self) -> None:
        """Take one step, and each regulariser once."""
        config = self.state.config
        self._time("step", self._lazy_free_step)
        if config.penalised:
            self._time("r1", lambda: r1_phase(self.step, self.reals))
        if config.path_weight:
            self._time("path", lambda: path_length_phase(self.step))

    def _lazy_free_step(self) -> None:
        self.state.step = 1  # no regulariser is due
        training_step(self.state, self.reals, Group())

    def _time(self, name: str, call: Callable[[], object]) -> None:
        began = time.process_time()
        call()
        self.seconds.setdefault(name, []).append(time.process_time() - began)

    def images_per_second(self) -> float:
        """Images a CPU second of a full step, from medians; the first turn warms up."""
        config = self.state.config
        medians = {name: statistics.median(values[1:]) for name, values in self.seconds.items()}
        lazy = medians.get("r1", 0.0) / max(config.r1_interval, 1) + medians.get("path", 0.0) / config.path_interval
        return config.batch / (medians["step"] + lazy)


def images_of(state: TrainingState) -> Tensor:
    """Images that a state's generator makes of fixed draws."""
    step = Step(state, Group(), torch.arange(state.config.batch))
    with torch.no_grad():
        fakes = draw_fakes(state.config, state.generator, step.rows, step.random(PATH))
        ws = map_fakes(state.generator, fakes)
        images: Tensor = state.generator.synthesis(ws, noise=fakes.noise, dtype=torch.float32)
        return images


def difference(config: TrainingConfig) -> float:
    """Largest difference between our images and the plain ones over their largest value, in float32, with noise."""
    found = []
    for arrange in (lambda _: None, make_plain):
        state = TrainingState(config, torch.device("cpu"))
        for name in state.generator.synthesis.noise_names:
            state.generator.synthesis.get_parameter(f"{name}.noise_strength").data.fill_(0.1)
        arrange(state)
        found.append(images_of(state))
    return float((found[0] - found[1]).abs().max() / found[1].abs().max())


def measure(forms: list[Form], repeats: int) -> dict[str, float]:
    """Images a CPU second of each form; they take turns."""
    runners = {form.name: Runner(form) for form in forms}
    for _ in range(repeats + 1):
        for runner in runners.values():
            runner.turn()
    return {name: runner.images_per_second() for name, runner in runners.items()}


def two_processes(config: TrainingConfig, repeats: int) -> float:
    """Images a CPU second of two processes that share twice the batch, all-reduce included."""
    found: list[int] = []
    run_processes(_shared_steps, (config, repeats), 2, threading.Event(), found.append)
    return 2 * config.batch / (found[-1] / 1e6)


def _shared_steps(group: Group, _: object, report: Callable[[int], None], config: TrainingConfig, repeats: int) -> None:
    """Body of one process: reports the microseconds of the slower process a step, R1 amortised."""
    whole = recipe(config.resolution, 2 * config.batch, processes=2)
    state = TrainingState(whole, torch.device("cpu"))
    reals = torch.zeros(config.batch, 3, config.resolution, config.resolution)
    step = Step(state, group, process_rows(whole.batch, group.rank, group.size))
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        for times, call in (
            (seconds[0], lambda: training_step(state, reals, group)),
            (seconds[1], lambda: r1_phase(step, reals)),
        ):
            state.step, began = 1, time.process_time()
            call()
            times.append(time.process_time() - began)
    own = torch.tensor([statistics.median(times[1:]) for times in seconds])
    slower = group.mean_(torch.where(torch.arange(2)[:, None] == group.rank, own, 0.0)).amax(dim=0) * group.size
    if group.rank == 0:
        report(int((slower[0] + slower[1] / whole.r1_interval) * 1e6))


def choices(resolution: int, batch: int) -> list[Form]:
    """Forms of the table: the default recipe, and it with one thing changed."""
    forms = [
        Form("default: bf16, channels_last, alternating", recipe(resolution, batch)),
        Form("fp32", recipe(resolution, batch, precision="fp32")),
        Form("discriminator contiguous", recipe(resolution, batch), make_contiguous),
        Form("path length penalty on", recipe(resolution, batch, path_weight=2.0)),
        Form("R1 in bf16", recipe(resolution, batch, r1_precision="bf16")),
        Form("simultaneous update", recipe(resolution, batch, update="simultaneous")),
        Form("both of these", recipe(resolution, batch, update="simultaneous", r1_precision="bf16")),
    ]
    if importlib.util.find_spec("efficientnet_lite_pytorch") is not None:
        forms.append(Form("projected discriminator", recipe(resolution, batch, discriminator="projected")))
    return forms


def main() -> None:
    """Measure, print tables, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolutions", default="64,128")
    parser.add_argument("--batch", type=int, default=8, help="images of one process")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = [int(word) for word in arguments.resolutions.split(",")]
    figures: dict[str, float] = {}
    print(f"one thread, {arguments.batch} images a process, images a CPU second of a full step")
    print("   px     ours    plain   ratio   difference of images")
    for side in sides:
        config = recipe(side, arguments.batch)
        plain = Form(PLAIN, recipe(side, arguments.batch, precision="fp32"), make_plain)
        speed = measure([Form("ours", config), plain], arguments.repeats)
        ratio, gap = speed["ours"] / speed[PLAIN], difference(config)
        print(f"{side:5} {speed['ours']:8.1f} {speed[PLAIN]:8.1f} {ratio:7.2f}   {gap:.1e}", flush=True)
        figures |= {f"speedup_{side}": round(ratio, 2), f"images_per_s_{side}": round(speed["ours"], 1)}
        figures["image_difference"] = max(figures.get("image_difference", 0.0), gap)
    print(f"\nchoices at {sides[0]} px")
    table = measure(choices(sides[0], arguments.batch), arguments.repeats)
    table["two processes"] = two_processes(recipe(sides[0], arguments.batch), arguments.repeats)
    reference = next(iter(table.values()))
    for name, speed_ in table.items():
        print(f"{name:44} {speed_:8.1f} {speed_ / reference:7.2f}")
    figures["simultaneous"] = round(table["simultaneous update"] / reference, 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
