"""Coverage-guided fuzzing of the reader of .pkl files; a tool for developers that needs `pip install atheris`.

    python -m benchmarks.fuzz_pickles [--seconds 300] [--corpus FOLDER]

Begins with small files in NVIDIA's layouts (protocols 0 to 4, PyTorch and TensorFlow) and the attacks of the tests, and
changes them wherever a change reaches new code of the reader. Whatever it makes must be read or refused with an
InputError. Any other exception, an import, a call into the system, four CPU seconds (counting what is reached makes it
slow) or 300 MB for one file end the run with the file that did it, `crash-*` in the working folder. With --corpus,
files that reached something new are kept there. The last line, if nothing is found, is one JSON object.
"""

import argparse
import codecs
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FORBIDDEN = ("import", "exec", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.", "ctypes.")
LARGEST = 20_000  # bytes of a made file
CPU_SECONDS = 4.0
MEGABYTES = 300


def write_seeds(folder: Path) -> int:
    """Write the files to begin with; returns how many."""
    from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
    from ganfoundry.gan.discriminator import Discriminator
    from ganfoundry.gan.stylegan2 import Generator
    from tests.ganfoundry.gan import attacks
    from tests.ganfoundry.gan.picklehelp import dumps, file_of, persistent

    channels = {4: 3, 8: 2}
    generator = Generator(GeneratorConfig(resolution=8, channels=channels, z_dim=2, w_dim=3, num_mapping_layers=1))
    discriminator = Discriminator(DiscriminatorConfig(resolution=8, channels=channels))
    made = file_of(persistent(generator, "Generator", {}), persistent(discriminator, "Discriminator", {}))
    files = {f"whole-{protocol}": dumps(made, protocol) for protocol in range(5)}
    files |= attacks.attacks(folder / "executed")
    kept = {name: content for name, content in files.items() if len(content) <= LARGEST}
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    return len(kept)


def read_one(data: bytes) -> None:
    """Read a file as `load_gan` does before it builds networks; an InputError is an answer."""
    from ganfoundry.errors import InputError
    from ganfoundry.gan import nvidia

    path = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.pkl"
    path.write_bytes(data)
    try:
        found = nvidia.read_nvidia(path)
        for module in found.networks.values():
            nvidia.generator_config(module)
    except InputError:
        pass


def watch(seeds: Path) -> None:
    """From now on raise where something is imported, executed or started, and limit the memory."""
    for file in sorted(seeds.glob("whole-*")):
        read_one(file.read_bytes())  # imports what reading needs
    for name in ("ascii", "latin-1", "utf-8", "raw-unicode-escape", "unicode-escape"):
        codecs.lookup(name)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN):
            raise RuntimeError(f"reading a file led to {event} {args!r:.200}")

    sys.addaudithook(hook)


def main() -> None:
    """Fuzz for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="folder of files that reached something new; continued")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing needs atheris, which has wheels for Linux: pip install atheris")
    with atheris.instrument_imports(include=["ganfoundry.gan.pickles", "ganfoundry.gan.nvidia"]):
        import ganfoundry.gan.nvidia
        import ganfoundry.gan.pickles.machine  # noqa: F401
    runs = 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds = write_seeds(Path(folder))
        print(f"{seeds} files to begin with", file=sys.stderr)

        def once(data: bytes) -> None:
            nonlocal runs
            if runs == 0:
                watch(Path(folder))
            runs += 1
            began = time.process_time()
            read_one(data)
            if time.process_time() - began > CPU_SECONDS:
                raise RuntimeError(f"reading {len(data)} bytes took more than {CPU_SECONDS:g} CPU seconds")
            if time.monotonic() - start > options.seconds:  # the fuzzer itself ends a process without a word
                print(json.dumps({"runs": runs, "seeds": seeds, "cpu_seconds": round(time.process_time())}), flush=True)
                shutil.rmtree(folder)
                os._exit(0)

        folders = [str(options.corpus)] if options.corpus else []
        limits = [f"-max_len={LARGEST}", "-timeout=300", "-report_slow_units=300", "-rss_limit_mb=0"]
        atheris.Setup([sys.argv[0], *limits, *folders, folder], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
