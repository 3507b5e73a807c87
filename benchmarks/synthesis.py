"""The synthesis floor: labelled 64 px images a second, end to end, against the concatenated-feature form.

    python -m benchmarks.synthesis [--images 48] [--repeats 3] [--scaling-images 400]
    python -m benchmarks.synthesis --show-plan [--plan-images 10000000] [--rate 20] [--workers 2]

End to end is what synthesize does with a row: seed, style code, generator, part labels, keypoints, uncertainty, score,
and the shard on disk. Forms, one thread, the same generator and labels:

    concatenated          all feature maps resized and stacked, ten MLPs one after the other (DatasetGAN's form)
    ensemble              ours: the same ten MLPs, factorised; float32 and bfloat16
    distilled             one network that has learnt the ensemble; float32 and bfloat16

Ratios are of images a second to the concatenated form in float32. Then 1 and 2 worker processes make the same set: the
speed of the second against the first, and whether the bytes are the same; and how fast two processes are against one
that share nothing at all: what the machine allows. --show-plan computes bytes, seconds, shards
and metadata of a set of any size from bytes that it measures and from a rate. The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import _label_factory as factory
from ganfoundry.data.manifest import Record
from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.data.shards import ShardFolder, encode_shard, write_shard
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.distillation import Distillation, DistilledHead, agreement, distil
from ganfoundry.labels.factorised import concatenated
from ganfoundry.labels.filtering import select
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.labels.tally import Tally
from ganfoundry.labels.uncertainty import image_score
from pipeline.executor import Executor, make_executor
from stages.synthesize import Task, label_rows

FORMS = ("concatenated", "ensemble", "ensemble-bf16", "distilled", "distilled-bf16")
TRUNCATION = 0.7
DROPPED = 0.1  # share of the images that the filter drops by default


@torch.inference_mode()
def concatenated_rows(gan: LoadedGan, interpreter: StyleInterpreter, task: Task) -> None:
    """A shard in the published form, with our uncertainty and keypoints, which cost it little."""
    seeds = [sample_integer(task.root_seed, CONTENT, row) for row in range(task.first, task.stop)]
    w = content_codes(gan.generator, seeds, task.truncation)
    layers = interpreter.reads
    images, features = images_and_features(gan.generator.synthesis, w, layers)
    maps, columns = interpreter.extended(features), list[tuple[Tensor, ...]]()
    for row in range(len(w)):
        tally = tally_concatenated(interpreter, [maps[name][row] for name, _ in interpreter.config.layers])
        uncertainty = tally.uncertainty()
        columns.append((tally.shares().argmax(0).to(torch.uint8), uncertainty, *tally.keypoints()))
    label, uncertainty, places, spread = (torch.stack(column) for column in zip(*columns, strict=True))
    arrays = {
        "image": images,
        "label": label.numpy(),
        "uncertainty": uncertainty.half().numpy(),
        "score": image_score(uncertainty).numpy(),
        "w": w.numpy(),
        "seed": np.array(seeds, np.uint64),
        "keypoints": places.numpy(),
        "keypoint_spread": spread.numpy(),
    }
    write_shard(task.shards, task.index, arrays, task.first)


def tally_concatenated(interpreter: StyleInterpreter, maps: list[Tensor]) -> Tally:
    """The members one after the other on the stacked feature maps."""
    config, tally = interpreter.config, Tally(interpreter.config)
    tall = concatenated(maps, config.resolution).flatten(1)
    for member in range(config.members):
        value = tall
        for index, (weight, bias) in enumerate(zip(interpreter.weights, interpreter.biases, strict=True)):
            value = torch.addmm(bias[member, :, None], weight[member], value.relu_() if index else value)
        outputs = value.view(-1, config.resolution, config.resolution).permute(1, 0, 2)[:, None]
        tally.add(slice(0, config.resolution), outputs)
    return tally


def forms(
    gan: LoadedGan, interpreter: StyleInterpreter, head: DistilledHead, work: Path
) -> dict[str, Callable[..., Any]]:
    """Functions (first row, stop row, folder) that make a shard, by form."""
    interpreter.save(work / "ensemble")
    head.save(work / "distilled")

    def rows(name: str, first: int, stop: int, folder: Path) -> Any:
        if name == "concatenated":
            return concatenated_rows(gan, interpreter, task(gan, work / "ensemble", folder, first, stop))
        kind, _, half = name.partition("-")
        made = task(gan, work / kind, folder, first, stop)
        precision = "bfloat16" if half else "float32"
        return label_rows(replace(made, distilled=kind == "distilled", precision=precision))

    return {name: lambda *place, name=name: rows(name, *place) for name in FORMS}


def task(gan: LoadedGan, head: Path, folder: Path, first: int, stop: int, index: int = 0) -> Task:
    """Description of a shard as synthesize gives it to a worker."""
    return Task(
        gan=str(gan.path.parent),
        head=str(head),
        distilled=False,
        sources=(gan.sha256, head.name),
        shards=str(folder),
        index=index,
        first=first,
        stop=stop,
        root_seed=0,
        truncation=TRUNCATION,
        precision="float32",
        score="top-tenth",
    )


def rates(
    makers: dict[str, Callable[..., Any]], images: int, repeats: int, work: Path, clock: Callable[[], float]
) -> dict[str, float]:
    """Images a second of every form; the forms take turns, the best of the repeats counts."""
    best = dict.fromkeys(makers, float("inf"))
    for repeat in range(repeats):
        for name, make in makers.items():
            count = max(4, images // 4) if name == "concatenated" else images
            make(0, 4, work)  # loads the networks: a process holds those of one form
            start = clock()
            make(count * repeat, count * (repeat + 1), work)
            best[name] = min(best[name], (clock() - start) / count)
    return {name: 1 / seconds for name, seconds in best.items()}


def warm(number: int) -> int:
    """A task that makes a worker import what it needs."""
    import stages.synthesize  # noqa: F401

    return number


def make_set(executor: Executor, gan: LoadedGan, head: Path, folder: Path, images: int) -> float:
    """Seconds of a whole set on workers that are up, shards of 25."""
    list(executor.map(warm, range(4), "warming"))
    with ShardFolder(folder, images, 25, "benchmark") as shards:
        tasks = [task(gan, head, folder, t.first, t.stop, t.index) for t in shards.pending()]
        start = time.perf_counter()
        for _, receipt in executor.map(label_rows, tasks, "labelling"):
            shards.acknowledge(receipt)
        shards.finish()
        return time.perf_counter() - start


def scaling(gan: LoadedGan, head: Path, work: Path, images: int) -> dict[str, Any]:
    """Speed of two workers against one, and whether their bytes are the same."""
    seconds = {}
    for workers in (1, 2):
        executor = make_executor(workers)
        try:
            make_set(executor, gan, head, work / f"warm-{workers}", 50)
            seconds[workers] = make_set(executor, gan, head, work / f"workers-{workers}", images)
        finally:
            executor.close()
    contents = [
        {path.name: path.read_bytes() for path in (work / f"workers-{n}").iterdir() if path.name != ".lock"}
        for n in (1, 2)
    ]
    return {"two_workers": seconds[1] / seconds[2], "identical": contents[0] == contents[1], "seconds": seconds[2]}


_ready: Barrier  # of the processes of `ceiling`


def _meet(barrier: Barrier) -> None:
    global _ready
    _ready = barrier
    torch.set_num_threads(1)


def _at_once(tasks: list[Task]) -> float:
    """Seconds of all shards but the first, which warms up, from when all processes are ready."""
    label_rows(tasks[0])
    _ready.wait()
    begun = time.perf_counter()
    for one in tasks[1:]:
        label_rows(one)
    return time.perf_counter() - begun


def ceiling(gan: LoadedGan, head: Path, work: Path, images: int) -> float:
    """Speed of two processes that know nothing of each other against one: what the machine lets two workers reach."""
    context = multiprocessing.get_context("spawn")
    seconds = []
    for processes in (1, 2):
        jobs = []
        for number in range(processes):
            folder = work / f"alone-{processes}-{number}"
            folder.mkdir()
            jobs.append([task(gan, head, folder, first, first + 25, first // 25) for first in range(0, images, 25)])
        with ProcessPoolExecutor(processes, context, _meet, (context.Barrier(processes),)) as pool:
            seconds.append(max(pool.map(_at_once, jobs)))
    return 2 * seconds[0] / seconds[1]


def example_rows(count: int, side: int, w_dim: int, keypoints: int) -> dict[str, Any]:
    """Arrays of the shapes and types that synthesize writes."""
    return {
        "image": np.ones((count, side, side, 3), np.uint8),
        "label": np.ones((count, side, side), np.uint8),
        "uncertainty": np.ones((count, side, side), np.float16),
        "score": np.ones(count, np.float32),
        "w": np.ones((count, w_dim), np.float32),
        "seed": np.ones(count, np.uint64),
        "keypoints": np.ones((count, keypoints, 3), np.float32),
        "keypoint_spread": np.ones((count, keypoints), np.float32),
    }


def plan(
    images: int,
    rate: float,
    workers: int,
    rows_per_shard: int,
    *,
    side: int = 64,
    w_dim: int = 128,
    keypoints: int = 24,
) -> dict[str, float]:
    """What a set of so many images takes.

    Bytes are measured: a shard, a line of the manifest, an index of a few shards and a selection are made.
    Seconds are images / (rate x workers), rate = images a second of one worker.
    """
    rows = example_rows(rows_per_shard, side, w_dim, keypoints)
    shard = len(encode_shard(rows, 0))
    shards = -(-images // rows_per_shard)
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        small = example_rows(2, side, w_dim, keypoints)
        for count in (8, 72):
            place = Path(folder) / str(count)
            with ShardFolder(place, 2 * count, 2, "k" * 64) as writer:
                for one in writer.pending():
                    receipt = write_shard(place, one.index, small, one.first)
                    writer.acknowledge(receipt)
                writer.finish()
            sizes.append((place / "index.h5").stat().st_size)
        select(np.arange(2000.0) / 7, fraction=0.5).save(Path(folder) / "selection.json")
        dropped_row = (Path(folder) / "selection.json").stat().st_size / 1000
    line = len(replace(Record.parse(receipt), key="k" * 64, code="0.1.0", shard=shards, first=images).line())
    return {
        "images": images,
        "shards": shards,
        "shard_mb": shard / 1e6,
        "bytes_per_image": shard / rows_per_shard,
        "total_gb": shard * images / rows_per_shard / 1e9,
        "manifest_mb": line * shards / 1e6,
        "index_mb": (sizes[1] - sizes[0]) / 64 * shards / 1e6,
        "selection_mb": dropped_row * images * DROPPED / 1e6,
        "hours": images / (rate * workers) / 3600,
        "seconds_per_shard": rows_per_shard / rate,
        "shards_per_second": rate * workers / rows_per_shard,
        "write_mb_per_s": rate * workers * shard / rows_per_shard / 1e6,
    }


def show_plan(arguments: argparse.Namespace) -> None:
    """Print plans: one worker, those asked for, and a thousand."""
    choices = sorted({1, arguments.workers, 1000})
    plans = [plan(arguments.plan_images, arguments.rate, workers, arguments.plan_rows_per_shard) for workers in choices]
    print(f"{'':20}" + "".join(f"{n:>14,} workers" for n in choices))
    for key in plans[0]:
        print(f"{key:20}" + "".join(f"{p[key]:22,.3f}" for p in plans))
    print(json.dumps({key: float(f"{value:.4g}") for key, value in plans[choices.index(arguments.workers)].items()}))


def main() -> None:
    """Measure everything; print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48, help="images of a timed shard (default 48)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="training steps of the interpreter (default 300)")
    parser.add_argument("--distil-images", type=int, default=256)
    parser.add_argument("--distil-steps", type=int, default=2000)
    parser.add_argument("--scaling-images", type=int, default=400, help="images made by 1 and by 2 workers; 0: skip")
    parser.add_argument("--cpu-time", action="store_true", help="of the forms: processor time, for a busy machine")
    parser.add_argument("--show-plan", action="store_true", help="only the formula of a large set")
    parser.add_argument("--plan-images", type=int, default=10_000_000)
    parser.add_argument("--plan-rows-per-shard", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second of one worker, for the plan")
    parser.add_argument("--workers", type=int, default=2, help="for the plan")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.show_plan:
        show_plan(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        report(arguments, Path(name))


def report(arguments: argparse.Namespace, work: Path) -> None:
    """Train, distil, time, and print."""
    gan = factory.generator()
    interpreter = factory.fit(gan, factory.labels(gan), steps=arguments.steps)
    layers = interpreter.reads
    samples = (
        images_and_features(gan.generator.synthesis, w, layers)[1]
        for w in factory.unseen(gan, arguments.distil_images, root=1).split(8)
    )
    start = time.perf_counter()
    head = distil(interpreter, samples, Distillation(images=arguments.distil_images, steps=arguments.distil_steps))
    seconds = time.perf_counter() - start
    agreed = agreement(
        head, interpreter, images_and_features(gan.generator.synthesis, factory.unseen(gan, 64), layers)[1]
    )
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    speed = rates(forms(gan, interpreter, head, work), arguments.images, arguments.repeats, work, clock)
    config = interpreter.config
    print(f"{gan.description}\nD = {config.channels}, {config.members} members, {config.num_keypoints} keypoints\n")
    print(f"{'form':18} {'images/s':>9} {'ratio':>7} {'10,000 images, one process':>28}")
    for name, value in speed.items():
        print(f"{name:18} {value:9.1f} {value / speed['concatenated']:7.1f} {10_000 / value / 60:21.1f} minutes")
    print(f"\ndistilling took {seconds:.0f} s; student and teacher on 64 unseen samples: mIoU {agreed.miou:.3f}, rank")
    print(
        f"correlation of the images' scores {agreed.image_rank:.3f}, keypoints {agreed.keypoint_distance:.2f} px apart"
    )
    figures: dict[str, Any] = {f"ratio_{name}": value / speed["concatenated"] for name, value in speed.items()}
    figures |= {"agreement_miou": agreed.miou, "agreement_rank": agreed.image_rank}
    figures |= {f"images_per_s_{name}": value for name, value in speed.items()}
    if arguments.scaling_images:
        found = scaling(gan, work / "ensemble", work, arguments.scaling_images)
        figures["minutes_10000_two_workers"] = 10_000 * found["seconds"] / arguments.scaling_images / 60
        print(
            f"\n2 workers: {found['two_workers']:.2f} times 1; same bytes: {found['identical']}; 10,000 images with the"
        )
        print(f"ensemble on two workers: {figures['minutes_10000_two_workers']:.1f} minutes")
        figures |= {"two_workers": found["two_workers"], "identical": found["identical"]}
        figures["two_processes"] = ceiling(gan, work / "ensemble", work, arguments.scaling_images // 2)
        print(f"two processes that share nothing: {figures['two_processes']:.2f} times one, which bounds two workers")
    print(json.dumps({k: v if isinstance(v, bool) else float(f"{v:.4g}") for k, v in figures.items()}))


if __name__ == "__main__":
    main()
