"""Speed of the generator against a plain grouped-convolution form of the same network, in the same run.

    python -m benchmarks.generator [--sizes 64 128 256] [--batch 16] [--repeats 3] [--dtype float32]

The grouped form builds one modulated weight per sample and convolves with `groups=batch`, as StyleGAN2's code does in
training; ours scales the activations instead. Both use the same weights, noise and resampling; the largest difference
of their images is printed. Channel plan: min(base / r, maximum) at r px, by default min(8192 / r, 256), half the widths
of the published 256 px networks. One thread; times are its CPU time, so that other work on the machine does not count;
forms alternate and the fastest repeat counts. The last line is one JSON object.
"""

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.gan.config import GeneratorConfig, published_channels
from ganfoundry.gan.filters import fir, upsample
from ganfoundry.gan.modulation import SynthesisLayer, ToRGBLayer
from ganfoundry.gan.stylegan2 import Generator


def grouped_convolution(x: Tensor, weight: Tensor, style: Tensor, kernel: Tensor | None, demodulate: bool) -> Tensor:
    """Modulated convolution with one weight per sample: x (N, I, H, W), weight (O, I, k, k), style (N, I)."""
    n, channels, height, width = x.shape
    own = weight[None] * style[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    own, size = own.to(x.dtype), weight.shape[-1]
    x = x.reshape(1, n * channels, height, width)
    if kernel is None:
        y = F.conv2d(x, own.reshape(-1, channels, size, size), padding=size // 2, groups=n)
        return y.reshape(n, -1, height, width)
    y = F.conv_transpose2d(x, own.transpose(1, 2).reshape(n * channels, -1, size, size), stride=2, groups=n)
    return fir(y.reshape(n, -1, 2 * height + 1, 2 * width + 1), kernel, (1, 1), gain=4.0)


def grouped_synthesis(generator: Generator, ws: Tensor, dtype: torch.dtype) -> Tensor:
    """Images of `generator` computed with grouped convolutions and stored noise."""
    synthesis = generator.synthesis
    styles = synthesis.styles(ws)
    x = synthesis.block(4).const.to(dtype).expand(len(ws), -1, -1, -1)
    image: Tensor | None = None
    for name, style in styles.items():
        layer = synthesis.get_submodule(name)
        if isinstance(layer, ToRGBLayer):
            rgb = grouped_convolution(x, layer.weight, style * layer.weight_gain, None, False).float()
            rgb = rgb + layer.bias[:, None, None]
            taps = synthesis.get_buffer(f"{name.partition('.')[0]}.resample_filter")
            image = rgb if image is None else upsample(image, taps) + rgb
        else:
            assert isinstance(layer, SynthesisLayer)
            kernel = layer.resample_filter if layer.up else None
            x = grouped_convolution(x, layer.weight, style, kernel, True)
            x = x + (layer.noise_const * layer.noise_strength).to(dtype) + layer.bias.to(dtype)[:, None, None]
            x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    assert image is not None
    return image


def cpu_seconds(forms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Fastest repeat of each form, in CPU seconds; the forms take turns."""
    best = dict.fromkeys(forms, math.inf)
    for repeat in range(repeats + 1):
        for name, form in forms.items():
            started = time.process_time()
            form()
            if repeat:  # the first turn warms up
                best[name] = min(best[name], time.process_time() - started)
    return best


def measure(resolution: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Images per CPU second of both forms, forward and with the backward pass, and the difference of their images."""
    torch.manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    channels = published_channels(resolution, arguments.base, arguments.maximum)
    generator = Generator(GeneratorConfig(resolution=resolution, channels=channels))
    for name in generator.synthesis.noise_names:
        generator.synthesis.get_parameter(f"{name}.noise_strength").data.fill_(0.1)
    with torch.no_grad():
        ws = generator.ws(torch.randn(arguments.batch, generator.config.z_dim))

    def ours() -> Tensor:
        images: Tensor = generator.synthesis(ws, dtype=dtype)
        return images

    def grouped() -> Tensor:
        return grouped_synthesis(generator, ws, dtype)

    with torch.no_grad():
        difference = float((ours() - grouped()).abs().max())
        forward = cpu_seconds({"ours": ours, "grouped": grouped}, arguments.repeats)
    both = {"ours": lambda: ours().square().mean().backward(), "grouped": lambda: grouped().square().mean().backward()}
    training = cpu_seconds(both, arguments.repeats)
    return {
        "ours": arguments.batch / forward["ours"],
        "grouped": arguments.batch / forward["grouped"],
        "ours_training": arguments.batch / training["ours"],
        "grouped_training": arguments.batch / training["grouped"],
        "max_abs_diff": difference,
    }


def main() -> None:
    """Measure, print a table, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--base", type=int, default=8192, help="channel plan: min(base / r, maximum)")
    parser.add_argument("--maximum", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = f"min({arguments.base} / r, {arguments.maximum})"
    print(f"batch {arguments.batch}, {arguments.dtype}, one thread, channels {plan}")
    print("   px   forward img/s: ours, grouped, ratio   forward + backward: ours, grouped, ratio   max diff")
    figures: dict[str, float] = {"max_abs_diff": 0.0}
    for size in arguments.sizes:
        row = measure(size, arguments)
        speedup, training = row["ours"] / row["grouped"], row["ours_training"] / row["grouped_training"]
        print(
            f"{size:5} {row['ours']:19.1f} {row['grouped']:8.1f} {speedup:6.2f} {row['ours_training']:25.1f} "
            f"{row['grouped_training']:8.1f} {training:6.2f} {row['max_abs_diff']:12.1e}",
            flush=True,
        )
        figures |= {f"speedup_{size}": round(speedup, 2), f"images_per_s_{size}": round(row["ours"], 1)}
        figures |= {f"training_speedup_{size}": round(training, 2)}
        figures["max_abs_diff"] = max(figures["max_abs_diff"], row["max_abs_diff"])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
