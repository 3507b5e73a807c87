"""Peak memory of training and using a Style Interpreter on 16 labelled images of StyleGAN2's published size.

    python -m benchmarks.interpreter_memory [--sizes 256 512] [--steps 5]

The generator has the published channel plan (512 channels up to 64 px, then 256, 128, 64) and random weights; labels
are random too: memory depends on neither. Each size runs in a process of its own, which makes the 16 images and their
feature maps, trains ten members on parts and keypoints for a few steps (memory does not grow with them), and labels one
image. Its peak (VmHWM) holds everything: Python, torch, the generator.

DatasetGAN's released code needs D numbers a pixel of every labelled image in half precision and again in single: that
sum stands beside ours. GB are 10^9 bytes. The last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import torch

from benchmarks.interpreter import memory_kib
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.labels.presets import PRESETS
from ganfoundry.labels.synthesis import images_and_table

IMAGES, CLASSES, KEYPOINTS = 16, 12, 24
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}


def probe(resolution: int, steps: int) -> None:
    """Print the peak memory in bytes of this process, which trains and labels, and the numbers D of a pixel."""
    torch.manual_seed(0)
    channels = {side: width for side, width in CHANNELS.items() if side <= resolution}
    synthesis = Generator(GeneratorConfig(resolution=resolution, channels=channels)).eval().synthesis
    random = np.random.default_rng(0)
    blocks = random.integers(0, CLASSES, (IMAGES, 8, 8), np.uint8)
    labels = blocks.repeat(resolution // 8, 1).repeat(resolution // 8, 2)
    keypoints = random.uniform(0, 1, (IMAGES, KEYPOINTS, 3)).astype(np.float32)
    keypoints *= np.array([resolution, resolution, 1], np.float32)
    w = torch.randn(IMAGES, synthesis.config.w_dim)
    preset = PRESETS["ours"]
    preset = replace(preset, training=replace(preset.training, steps=steps))
    _, table = images_and_table(synthesis, w, preset.layers(synthesis))
    interpreter = preset.fit(table, labels, CLASSES, keypoints=keypoints)
    interpreter.predict(table.features(0))
    print(memory_kib("VmHWM") * 1024, interpreter.config.channels)


def main() -> None:
    """Measure all sizes, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], choices=sorted(CHANNELS)[4:])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.probe:
        probe(arguments.sizes[0], arguments.steps)
        return
    figures: dict[str, float] = {"images": IMAGES}
    print(f"{'size':>5} {'D':>6} {'peak GB':>8} {'all pixels, published, GB':>26}")
    for size in arguments.sizes:
        command = [sys.executable, "-m", "benchmarks.interpreter_memory", "--probe", "--sizes", str(size)]
        command += ["--steps", str(arguments.steps)]
        peak, channels = map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
        published = IMAGES * size**2 * channels * 6
        print(f"{size:5} {channels:6} {peak / 1e9:8.2f} {published / 1e9:26.1f}", flush=True)
        figures |= {f"peak_gb_{size}": round(peak / 1e9, 3), f"published_gb_{size}": round(published / 1e9, 1)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
