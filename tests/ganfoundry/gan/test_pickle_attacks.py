"""Hostile, cut and flipped .pkl files: nothing in them runs, nothing crashes, little time and memory is spent."""

import contextlib
import json
import os
import pickle  # noqa: TID251
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.nvidia import read_nvidia
from ganfoundry.gan.stylegan2 import Generator
from tests.ganfoundry.gan import attacks
from tests.ganfoundry.gan.picklehelp import dumps, file_of, persistent

ROOT = Path(__file__).parents[3]
SECONDS, MEGABYTES = 2.0, 300.0
CHANNELS = {4: 3, 8: 2}


def small_file(protocol: int = 4) -> bytes:
    generator = Generator(GeneratorConfig(resolution=8, channels=CHANNELS, z_dim=2, w_dim=3, num_mapping_layers=1))
    discriminator = Discriminator(DiscriminatorConfig(resolution=8, channels=CHANNELS))
    made = persistent(generator, "Generator", {}), persistent(discriminator, "Discriminator", {})
    return dumps(file_of(*made), protocol)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return small_file()


def test_attacks(tmp_path: Path) -> None:
    """All in one process under limits, with a hook on whatever imports, executes or starts something."""
    target = tmp_path / "executed"
    for protocol in (0, 4):
        (tmp_path / f"harmless-{protocol}.pkl").write_bytes(small_file(protocol))
    files = attacks.attacks(target)
    for name, content in files.items():
        (tmp_path / f"{name}.pkl").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "tests.ganfoundry.gan.attacks", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(row[0] for row in results if row[1] == "loaded") == ["harmless-0", "harmless-4"]
    assert len(results) == len(files) + 2 > 150
    assert not target.exists()
    assert [(row[0], row[4]) for row in results if row[4]] == []
    assert [(row[0], row[2]) for row in results if row[2] >= SECONDS] == []
    assert results[-1][3] - results[0][3] < MEGABYTES
    for name, ending, *_ in results[2:]:
        assert f"{name}.pkl" in ending, ending
        assert len(ending) < 600


def test_the_attacks_bite(tmp_path: Path) -> None:
    """What is refused above does what it threatens in Python's own unpickler."""
    target = tmp_path / "executed"
    files = dict(attacks.code(target))
    for name in ("system-4", "eval-2", "reduce", "inst", "obj", "gadget-runstring"):
        with contextlib.suppress(Exception):
            pickle.loads(files[name])
        assert target.exists(), name
        target.unlink()


def test_an_allowed_name_is_still_not_called(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    file = tmp_path / "x.pkl"
    file.write_bytes(dict(attacks.code(target))["system-inside-4"])
    with pytest.raises(InputError, match=r"asks for posix\.system"):
        load_gan(file)
    with pytest.raises(InputError, match="something else where a network belongs"):
        load_gan(file, allow_inert=["posix.system"])
    assert not target.exists()


def complaint(tmp_path: Path, content: bytes) -> str:
    """What the reader says about a file, "" if it loads."""
    file = tmp_path / "damaged.pkl"
    file.write_bytes(content)
    try:
        load_gan(file)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("protocol", [0, 3, 4])
def test_truncated_files(tmp_path: Path, protocol: int) -> None:
    content = small_file(protocol)
    rng = np.random.default_rng(protocol)
    cuts = [*range(12), *range(len(content) - 12, len(content)), *rng.integers(0, len(content), 120)]
    assert all("damaged.pkl" in complaint(tmp_path, content[: int(cut)]) for cut in cuts)


@pytest.mark.parametrize("width", [1, 5])
def test_flipped_files(tmp_path: Path, whole: bytes, width: int) -> None:
    """A pickle has no checksum: such a file loads, with other values, or is refused in a sentence."""
    rng = np.random.default_rng(width)
    for position in rng.integers(0, len(whole), 200):
        content = bytearray(whole)
        for at in range(position, min(position + width, len(content))):
            content[at] ^= 1 << int(rng.integers(8)) if width == 1 else int(rng.integers(256))
        complaint(tmp_path, bytes(content))


@settings(max_examples=150)
@given(edits=st.lists(st.tuples(st.floats(0, 0.9999), st.binary(max_size=6), st.integers(0, 6)), max_size=4))
def test_edited_files(whole: bytes, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, bytes, int]]):
    content = whole
    for place, new, removed in edits:
        at = int(place * len(content))
        content = content[:at] + new + content[at + removed :]
    file = tmp_path_factory.mktemp("edited") / "x.pkl"
    file.write_bytes(content)
    with contextlib.suppress(InputError):
        found = read_nvidia(file)
        for module in found.networks.values():
            assert len(module.state) == len(module.arrays)
