"""From a picture to a file: how long `reconstruct` takes, how large its files are, and how well wheels are placed.

    python -m benchmarks.reconstruct [--network FOLDER] [--images 64] [--repeats 3] [--keep FOLDER]

Pictures are renders of the cars world that nobody has trained on. For one picture at a time and for 16 together, on one
thread as in the stage, the networks loaded and warm: milliseconds a picture to find the object (Mask R-CNN), to read it
(network and texture), to rig it (parts, wheels, wells), and to write NAME.glb, then NAME.obj with its texture; and what
the check for other things adds. The least of the repeats counts. Written files go through the Khronos validator where
node finds gltf-validator (NODE_PATH).

The axles' error is the mean distance between the axles that were rigged and those of the rendered car along its length,
as a share of the length. The last line is one JSON object; `ms_per_image` is one picture at a time, to its GLB.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganfoundry import weights
from ganfoundry.labels.synthesis import single_thread
from ganfoundry.shape.assets import assets_of, write_obj
from ganfoundry.shape.glb import Asset, write_glb
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.plausibility import detector_for, doubts, look_for_objects, outlines
from ganfoundry.worlds.cars import CarWorld
from stages.reconstruct import Config

FIRST_SEED = 70_000
STEPS = ("find", "read", "rig", "glb", "obj", "check")
CPU = "cpu"  # processor time up to the GLB, which other work on the machine hardly changes
ISSUES = ("Errors", "Warnings", "Infos", "Hints")
VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
(async () => {
  for (const path of fs.readdirSync(process.argv[1]).filter((name) => name.endsWith('.glb'))) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1] + '/' + path)));
    console.log(JSON.stringify(report.issues));
  }
})();
"""


def measure(
    model: InverseModel, images: NDArray[np.uint8], batch: int, folder: Path
) -> tuple[dict[str, float], list[Asset]]:
    """Seconds of each step for all images, `batch` at a time, and the assets."""
    seconds, made = dict.fromkeys((*STEPS, CPU), 0.0), []
    detector = detector_for(model)
    for start in range(0, len(images), batch):
        rows = images[start : start + batch]
        clock, begun_cpu = [time.perf_counter()], time.process_time()
        found = look_for_objects(rows, detector) if detector is not None else None
        clock.append(time.perf_counter())
        reading = model.read(rows, masks=outlines(found) if found else None)
        clock.append(time.perf_counter())
        assets = assets_of(model, reading)
        clock.append(time.perf_counter())
        for index, asset in enumerate(assets, start):
            write_glb(folder / f"{index}.glb", asset)
        clock.append(time.perf_counter())
        seconds[CPU] += time.process_time() - begun_cpu
        for index, asset in enumerate(assets, start):
            write_obj(folder / f"{index}.obj", asset)
        clock.append(time.perf_counter())
        if found:
            doubts(model, reading, found)
        clock.append(time.perf_counter())
        for step, begun, ended in zip(STEPS, clock[:-1], clock[1:], strict=True):
            seconds[step] += ended - begun
        made += assets
    return seconds, made


def validate(folder: Path) -> dict[str, int] | None:
    """Issues of all GLB files of a folder by severity; None without the validator."""
    node = shutil.which("node")
    if node is None:
        return None
    done = subprocess.run([node, "-e", VALIDATE, str(folder)], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        return None
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return {kind.lower(): sum(report[f"num{kind}"] for report in reports) for kind in ISSUES}


def axle_error(world: CarWorld, assets: list[Asset]) -> float | None:
    """Mean error of the rigged axles as a share of the cars' lengths; None if no car was rigged."""
    errors = []
    for seed, asset in enumerate(assets, FIRST_SEED):
        if asset.rig is not None:
            design, length = world.design(seed), float(np.ptp(asset.vertices[:, 2]))
            wheels = asset.rig.wheels
            pairs = ((wheels.front, design.front_axle), (wheels.rear, design.rear_axle))
            errors += [abs(found / length - true / design.length) for found, true in pairs]
    return round(float(np.mean(errors)), 4) if errors else None


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, help="folder of train-inverse-graphics; default: the shipped one")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to leave the files in")
    arguments = parser.parse_args()
    shipped = Config(images=()).network
    if arguments.network is None and shipped not in weights.names():
        print(f"nothing to measure: no {shipped} ships; give --network FOLDER")
        print(json.dumps({"ms_per_image": None}))
        return
    model = InverseModel.load(arguments.network or weights.path(shipped))
    world = CarWorld()
    images = np.stack([world.render(FIRST_SEED + i, model.size).image for i in range(arguments.images)])
    with ExitStack() as stack:
        stack.enter_context(single_thread())
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        measure(model, images[:1], 1, folder)  # kernels are loaded, tables made
        print("ms a picture   " + "".join(f"{step:>8}" for step in STEPS) + "  to GLB  of it CPU")
        results: dict[int, dict[str, float]] = {}
        for batch in (1, 16):
            runs = [measure(model, images, batch, folder) for _ in range(arguments.repeats)]
            times = {step: 1000 * min(run[0][step] for run in runs) / len(images) for step in (*STEPS, CPU)}
            results[batch] = times | {"total": times["find"] + times["read"] + times["rig"] + times["glb"]}
            cells = "".join(f"{times[step]:8.1f}" for step in STEPS)
            print(f"{batch:2d} at a time   {cells}{results[batch]['total']:8.1f}{times[CPU]:11.1f}")
        assets = runs[0][1]
        sizes = [path.stat().st_size / 1000 for path in folder.glob("*.glb")]
        issues = validate(folder)
    rigged = sum(asset.rig is not None for asset in assets) / len(assets)
    print(f"{len(sizes)} files, {np.mean(sizes):.0f} KB on average, {max(sizes):.0f} KB at most")
    print("gltf-validator: " + ("not installed" if issues is None else json.dumps(issues)))
    result = {
        "ms_per_image": round(results[1]["total"], 1),
        "cpu_ms_per_image": round(results[1][CPU], 1),
        "ms_per_image_of_16": round(results[16]["total"], 1),
        "ms": {str(batch): {step: round(times[step], 1) for step in STEPS} for batch, times in results.items()},
        "kb_per_file": round(float(np.mean(sizes)), 1),
        "kb_most": round(max(sizes), 1),
        **{f"validator_{kind.lower()}": None if issues is None else issues[kind.lower()] for kind in ISSUES},
        "rigged": round(rigged, 3),
        "axle_error": axle_error(world, assets),
        "images": len(images),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
