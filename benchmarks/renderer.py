"""Speed of the differentiable renderer and the errors of its gradients.

    python -m benchmarks.renderer [--sizes 64 128 256 512] [--levels 3 4] [--batches 1 8] [--repeats 20] [--trials 24]

A textured ellipsoid (icosphere: 1,280 faces at level 3, 5,120 at level 4; three channels, texture as high as the image
and twice as wide) covers about a quarter of the image. Times are CPU milliseconds of one thread for one image: forward,
and forward with the gradients of vertices, texture and cameras; the fastest repeat counts, kernels are compiled before.
The torch reference runs at the sizes of --reference-sizes; pytorch3d where it is installed.

Gradients are compared with central differences of pictures that another program draws, over --trials random views at
128 px: masks as areas along 400 lines a pixel, steps of 0.001; colours and labels with 144 samples a pixel, steps of
0.01. Printed are the relative error over global motions (translate, scale, rotate, azimuth, elevation, distance, field
of view) and the worst of them, slopes of a regression on the differences for local bumps, and how far differences with
twice the step, half as fine, are from those. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import get_args

import torch

from benchmarks._render_gradients import gradient_errors
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import equirectangular_uv, icosphere
from ganfoundry.render.renderer import Backend, Silhouette, render
from ganfoundry.render.topology import Topology


def best_ms(function: Callable[[], object], repeats: int) -> float:
    """Fastest of some runs after one that does not count, CPU milliseconds of this thread."""
    function()
    best = math.inf
    for _ in range(repeats):
        started = time.thread_time()
        function()
        best = min(best, time.thread_time() - started)
    return 1e3 * best


def scene(size: int, level: int, batch: int) -> tuple[Callable[[Backend, Silhouette, bool], None], float]:
    """A function that draws the scene, with or without gradients, and the share of the image that is covered."""
    random = torch.Generator().manual_seed(0)
    sphere, faces = icosphere(level)
    uv, uv_faces = equirectangular_uv(sphere, faces)
    topology = Topology.of(faces, len(sphere))
    shapes = sphere * torch.tensor([1.0, 0.6, 0.8]) * (1.0 + 0.1 * torch.rand(batch, 1, 1, generator=random))
    vertices = shapes.requires_grad_()
    texture = torch.rand(batch, 3, size, 2 * size, generator=random).requires_grad_()
    azimuth = (360.0 * torch.rand(batch, generator=random)).requires_grad_()
    of_image, of_mask = (
        torch.rand(batch, 3, size, size, generator=random),
        torch.rand(batch, size, size, generator=random),
    )
    leaves = [vertices, texture, azimuth]

    def run(backend: Backend, silhouette: Silhouette, gradients: bool) -> None:
        with torch.set_grad_enabled(gradients):
            seen = render(
                vertices, topology, Cameras.from_angles(azimuth, 15.0, 4.0, 38.0), size,
                texture=texture, uv=uv, uv_faces=uv_faces, wrap_u=True, silhouette=silhouette, backend=backend,
            )  # fmt: skip
        if gradients:
            assert seen.image is not None
            torch.autograd.grad([seen.image, seen.mask], leaves, [of_image, of_mask])

    with torch.no_grad():
        seen = render(vertices, topology, Cameras.from_angles(azimuth, 15.0, 4.0, 38.0), size)
    return run, float(seen.mask.mean())


def speed(arguments: argparse.Namespace) -> dict[str, float]:
    """Print the table of times."""
    others: list[Backend] = ["torch"]
    if importlib.util.find_spec("pytorch3d"):
        others.append("pytorch3d")
    print("one thread, CPU ms an image: kernels forward, forward + backward; other backends forward + backward")
    figures: dict[str, float] = {}
    for level in arguments.levels:
        for size in arguments.sizes:
            for batch in arguments.batches:
                run, covered = scene(size, level, batch)
                forward = best_ms(partial(run, "numba", "edge", False), arguments.repeats) / batch
                both = best_ms(partial(run, "numba", "edge", True), arguments.repeats) / batch
                row = f"{20 * 4**level:6,} faces {size:4} px batch {batch}: {forward:8.3f} {both:8.3f}"
                figures[f"ms_forward_{size}_{20 * 4**level}_batch{batch}"] = forward
                figures[f"ms_forward_backward_{size}_{20 * 4**level}_batch{batch}"] = both
                if size in arguments.reference_sizes and batch == 1:
                    for other in others:
                        slow = best_ms(partial(run, other, "edge", True), 2)
                        row += f"   {other} {slow:8.1f} ({slow / both:.0f} times)"
                        figures[f"speedup_over_{other}_{size}_{20 * 4**level}"] = slow / both
                print(row + f"   covered {covered:.2f}", flush=True)
    return figures


def modes(arguments: argparse.Namespace) -> dict[str, float]:
    """Print the times of the silhouette modes at 128 px with 1,280 faces."""
    run, _ = scene(128, 3, max(arguments.batches))
    figures = {}
    for silhouette in get_args(Silhouette):
        both = best_ms(partial(run, "numba", silhouette, True), arguments.repeats) / max(arguments.batches)
        figures[f"ms_{silhouette}_128_1280"] = both
        print(f"silhouette {silhouette:6} 128 px, 1,280 faces, forward + backward: {both:.3f} ms")
    return figures


def gradients(size: int, trials: int) -> dict[str, float]:
    """Print the table of gradient errors."""
    table = gradient_errors(size, trials)
    print(
        f"gradients against central differences, {size} px, {trials} views: relative error, slope, coarser differences"
    )
    for (kind, motion), found in table.items():
        print(f"{kind:7} {motion:10} {100 * found.error:7.2f} % {found.slope:7.3f} {100 * found.own_error:7.2f} %")
    worst = {
        f"{kind}_gradient_error": max(x.error for (k, motion), x in table.items() if k == kind and motion != "bump")
        for kind in ("mask", "colour", "label")
    }
    slopes = [found.slope for (_, motion), found in table.items() if motion == "bump"]
    return worst | {"local_slope_min": min(slopes), "local_slope_max": max(slopes)}


def main() -> None:
    """Measure, print tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--reference-sizes", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--gradient-size", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # A process that trains has freed larger tensors before: malloc then keeps what is freed instead of returning it to
    # the system after every call, whose page faults would cost as much as the forward pass.
    torch.zeros(30 << 20, dtype=torch.uint8)
    started = time.process_time()
    scene(16, 1, 1)[0]("numba", "edge", True)
    print(f"first call in this process (compiling, or loading what an earlier one compiled): "
          f"{time.process_time() - started:.1f} CPU s")  # fmt: skip
    times = speed(arguments)
    figures = times | modes(arguments) | gradients(arguments.gradient_size, arguments.trials)
    batch = max(arguments.batches)
    named = {
        "ms_forward_backward_128_1280": f"ms_forward_backward_128_1280_batch{batch}",
        "speedup_over_reference": "speedup_over_torch_128_1280",
    }
    figures |= {name: times[key] for name, key in named.items() if key in times}
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
