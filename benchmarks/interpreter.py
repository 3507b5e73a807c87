"""The Style Interpreter's factorised form against the published concatenated form, same weights, one thread.

    python -m benchmarks.interpreter [--sizes 128 256] [--repeats 3]

Ten members (D -> 128 -> 32 -> 12) label one image from the feature maps of StyleGAN's published channel plan (512
channels up to 32 px, then 256, 128, 64; two maps a resolution: D = 4,864 at 128 px and 4,992 at 256 px). Both forms
go all the way to labels and Jensen-Shannon uncertainty. The concatenated form allocates its D-channel tensor once and
runs the members one after the other, so its peak is as low as that form allows. Peak memory is measured in a process
of its own, above what it holds before the prediction (libraries, weights, feature maps at their own resolution).

speedup_fp32 and speedup_bf16 are both against the concatenated form in float32. The last line is one JSON object; over
several sizes it holds the worst of each figure.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ganfoundry.labels.factorised import concatenated, project
from ganfoundry.labels.interpreter import InterpreterConfig, StyleInterpreter
from ganfoundry.labels.member_networks import initial_parameters
from ganfoundry.labels.uncertainty import divergence, entropy

MEMBERS, CLASSES = 10, 12
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32}
FORMS = ("concatenated", "factorised", "factorised-bf16")


def make_maps(resolution: int) -> dict[str, Tensor]:
    """Two random feature maps (1, C, r, r) for every resolution of the plan."""
    random = torch.Generator().manual_seed(0)
    sides = [side for side in CHANNELS if side <= resolution]
    return {
        f"b{side}.conv{k}": torch.randn(1, CHANNELS[side], side, side, generator=random)
        for side in sides
        for k in range(2)
    }


def make_interpreter(maps: dict[str, Tensor], resolution: int) -> StyleInterpreter:
    """Interpreter with random weights."""
    layers = tuple((name, feature.shape[1]) for name, feature in maps.items())
    config = InterpreterConfig(CLASSES, layers, resolution, MEMBERS, (128, 32))
    random = torch.Generator().manual_seed(1)
    weights, biases = initial_parameters(config.widths, MEMBERS, random)
    weights[-1] *= 10
    return StyleInterpreter(config, weights, [0.1 * torch.randn(b.shape, generator=random) for b in biases])


@torch.inference_mode()
def predict_concatenated(interpreter: StyleInterpreter, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean probabilities (C, R, R), labels (R, R) and uncertainty (R, R), in the published way."""
    resolution = interpreter.config.resolution
    tall = concatenated([feature[0] for feature in maps.values()], resolution).flatten(1)
    mean, disorder = torch.zeros(CLASSES, tall.shape[1]), torch.zeros(tall.shape[1])
    for member in range(MEMBERS):
        value = tall
        for index, (weight, bias) in enumerate(zip(interpreter.weights, interpreter.biases, strict=True)):
            value = torch.addmm(bias[member, :, None], weight[member], value.relu_() if index else value)
        probability = value.softmax(0)
        mean += probability
        disorder += entropy(probability, 0)
    mean /= MEMBERS
    uncertainty = divergence(mean, disorder / MEMBERS, 0)
    shape = (resolution, resolution)
    return mean.view(CLASSES, *shape), mean.argmax(0).view(shape), uncertainty.view(shape)


def predict(form: str, interpreter: StyleInterpreter, maps: dict[str, Tensor]) -> object:
    """Label one image in one of `FORMS`."""
    if form == "concatenated":
        return predict_concatenated(interpreter, maps)
    return interpreter.predict(maps, dtype=torch.bfloat16 if form.endswith("bf16") else torch.float32)


def largest_difference(interpreter: StyleInterpreter, maps: dict[str, Tensor]) -> float:
    """Largest difference of the two forms in the first layer, the probabilities and the uncertainty."""
    mean, _, uncertainty = predict_concatenated(interpreter, maps)
    ours = interpreter.predict(maps, probabilities=True)
    assert ours.probabilities is not None
    worst = max(
        float((ours.probabilities[0] - mean).abs().max()), float((ours.uncertainty[0] - uncertainty).abs().max())
    )
    del mean, uncertainty, ours
    features, resolution = [feature[0] for feature in maps.values()], interpreter.config.resolution
    tall = concatenated(features, resolution).flatten(1)
    for weight, bias in zip(interpreter.weights[0], interpreter.biases[0], strict=True):
        first = project(features, weight, bias, resolution).flatten(1)
        worst = max(worst, float((first - torch.addmm(bias[:, None], weight, tall)).abs().max()))
    return worst


def best_seconds(function: Callable[[], object], repeats: int) -> float:
    """Shortest of a few runs, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def memory_kib(name: str) -> int:
    """A line of /proc/self/status in KiB: VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def probe(form: str, resolution: int) -> None:
    """Print the peak memory in KiB that one prediction adds to this process."""
    small = make_maps(16)
    predict(form, make_interpreter(small, 16), small)  # loads the libraries' kernels
    maps = make_maps(resolution)
    interpreter = make_interpreter(maps, resolution)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_kib("VmRSS")
    predict(form, interpreter, maps)
    print(memory_kib("VmHWM") - before)


def peak_mib(form: str, resolution: int) -> float:
    """Peak of :func:`probe` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.interpreter", "--probe", form, "--sizes", str(resolution)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def measure(resolution: int, repeats: int) -> dict[str, float]:
    """Figures of one size; prints its table."""
    maps = make_maps(resolution)
    interpreter = make_interpreter(maps, resolution)
    difference = largest_difference(interpreter, maps)
    seconds = {form: best_seconds(partial(predict, form, interpreter, maps), repeats) for form in FORMS}
    peak = {form: peak_mib(form, resolution) for form in FORMS}
    channels = interpreter.config.widths[0]
    print(f"\n{resolution} px, D = {channels:,}, {MEMBERS} members; largest difference {difference:.1e}")
    print(f"{'form':18} {'seconds':>8} {'speedup':>8} {'peak MiB':>9} {'ratio':>6}")
    for form in FORMS:
        faster, smaller = seconds["concatenated"] / seconds[form], peak["concatenated"] / peak[form]
        print(f"{form:18} {seconds[form]:8.3f} {faster:8.1f} {peak[form]:9.1f} {smaller:6.1f}")
    return {
        "max_abs_diff": difference,
        "speedup_fp32": seconds["concatenated"] / seconds["factorised"],
        "speedup_bf16": seconds["concatenated"] / seconds["factorised-bf16"],
        "peak_rss_ratio": peak["concatenated"] / peak["factorised"],
    }


def main() -> None:
    """Measure all sizes, print a table of each and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], choices=sorted(CHANNELS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--probe", choices=FORMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.probe:
        probe(arguments.probe, arguments.sizes[0])
        return
    figures = {size: measure(size, arguments.repeats) for size in arguments.sizes}
    worst = {
        name: (max if name == "max_abs_diff" else min)(f[name] for f in figures.values())
        for name in next(iter(figures.values()))
    }
    print(json.dumps({name: float(f"{value:.3g}") for name, value in worst.items()} | {"sizes": arguments.sizes}))


if __name__ == "__main__":
    main()
