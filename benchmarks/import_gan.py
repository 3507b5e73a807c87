"""A full-size NVIDIA .pkl (1024 px, config F; G, D and G_ema), read here and by unpicklers that run what is inside.

    python -m benchmarks.import_gan

writes the file (random weights, G_ema sharing G's tensors) to a temporary folder, then reads it in fresh processes:

- by ``ganfoundry.gan.nvidia.read_nvidia``: every opcode and tensor checked, and the sha256 of the file taken;
- by Python's own C unpickler, with stand-ins for NVIDIA's classes and torch's unrestricted loading of storages;
- the same tensors by ``torch.load(weights_only=True)`` from a .pt file;
- by ``load_gan``, which also builds the generator and the discriminator, in float32.

Seconds are those of the best of three processes by CPU time; memory is the growth of the process's peak over that
before reading, relative to the file. The files lie in the system's cache.
"""

import argparse
import json
import pickle  # noqa: TID251 - what we compare with
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDED = 1 << 30  # bytes of disk for both files, with room
REPEATS = 3


def write_files(folder: Path) -> None:
    """Write snapshot.pkl and the same tensors as snapshot.pt."""
    import torch

    from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig, published_channels
    from ganfoundry.gan.discriminator import Discriminator
    from ganfoundry.gan.stylegan2 import Generator
    from tests.ganfoundry.gan.picklehelp import dump, file_of, persistent

    torch.manual_seed(0)
    widths = published_channels(1024)
    generator = Generator(GeneratorConfig(resolution=1024, channels=widths, z_dim=512, w_dim=512, num_mapping_layers=8))
    discriminator = Discriminator(DiscriminatorConfig(resolution=1024, channels=widths))
    shared, average = persistent(generator, "Generator", {}), persistent(generator, "Generator", {})
    dump(folder / "snapshot.pkl", file_of(average, persistent(discriminator, "Discriminator", {}), G=shared), 4)
    states = {"g": generator.state_dict(), "d": discriminator.state_dict(), "g_ema": generator.state_dict()}
    torch.save(states, folder / "snapshot.pt")


def read_ours(path: Path) -> int:
    """Read every network with the reader of this project; number of tensors."""
    from ganfoundry.gan.nvidia import read_nvidia

    return sum(len(module.arrays) for module in read_nvidia(path).networks.values())


def read_state(path: Path) -> int:
    """The whole of load_gan: G_ema and D as networks."""
    from ganfoundry.gan.checkpoints import load_gan

    loaded = load_gan(path)
    assert loaded.discriminator is not None
    return len(loaded.generator.state_dict()) + len(loaded.discriminator.state_dict())


def read_c_pickle(path: Path) -> int:
    """Python's unpickler: whatever else the file names would be imported and called."""
    import torch

    found: list[Any] = []

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "torch_utils.persistence":
                return found.append
            if module == "dnnlib.util":
                return dict
            return super().find_class(module, name)

    with path.open("rb") as stream:
        Reader(stream).load()
    names = ("_parameters", "_buffers")
    tensors = [value for meta in found for name in names for value in meta["state"][name].values()]
    return sum(isinstance(value, torch.Tensor) for value in tensors)


def read_torch(path: Path) -> int:
    """The same tensors from a .pt file."""
    import torch

    states = torch.load(path.with_suffix(".pt"), weights_only=True)  # noqa: TID251 - what we compare with
    return sum(len(state) for state in states.values())


READERS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "ours": ("read_nvidia", read_ours),
    "c_pickle": ("pickle.Unpickler with stand-ins", read_c_pickle),
    "torch": ("torch.load of a .pt", read_torch),
    "networks": ("load_gan: G_ema and D built", read_state),
}


def peak_bytes() -> int:
    """Highest memory of this process so far (getrusage would count that of its parent)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def measure_here(path: Path, how: str) -> dict[str, float]:
    """Read once in this process: wall and CPU seconds, growth of the peak in bytes, tensors."""
    import torch  # noqa: F401 - all readers start from a process that has it

    import ganfoundry.gan.checkpoints  # noqa: F401

    before, start, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    tensors = READERS[how][1](path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "peak": peak_bytes() - before, "tensors": tensors}


def measure(path: Path, how: str) -> dict[str, float]:
    """Best of several fresh processes."""
    runs = []
    for _ in range(REPEATS):
        command = [sys.executable, "-m", "benchmarks.import_gan", "--read", str(path), how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda run: run["cpu"])


def main() -> None:
    """Write, read, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_gan", description=__doc__)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(measure_here(Path(arguments.read[0]), arguments.read[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        free = shutil.disk_usage(name).free
        if free < NEEDED:
            parser.error(f"{name} has {free >> 20} MB free, {NEEDED >> 20} MB are needed; set TMPDIR")
        report(Path(name))


def report(folder: Path) -> None:
    """Measure all readers and print."""
    write_files(folder)
    path = folder / "snapshot.pkl"
    sizes = {name: (folder / name).stat().st_size for name in ("snapshot.pkl", "snapshot.pt")}
    for name in sizes:
        (folder / name).read_bytes()
    print(f"snapshot.pkl: {sizes['snapshot.pkl']:,} bytes; snapshot.pt: {sizes['snapshot.pt']:,} bytes\n")
    print(f"{'':34}{'tensors':>8}{'seconds':>10}{'CPU s':>8}{'peak / file':>13}")
    figures: dict[str, float] = {"bytes": sizes["snapshot.pkl"]}
    for how, (label, _) in READERS.items():
        row = measure(path, how)
        ratio = row["peak"] / sizes["snapshot.pt" if how == "torch" else "snapshot.pkl"]
        print(f"{label:34}{row['tensors']:8.0f}{row['seconds']:10.2f}{row['cpu']:8.2f}{ratio:13.2f}")
        figures |= {f"{how}_seconds": round(row["seconds"], 3), f"{how}_cpu_seconds": round(row["cpu"], 3)}
        figures[f"{how}_peak_ratio"] = round(ratio, 2)
    print()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
