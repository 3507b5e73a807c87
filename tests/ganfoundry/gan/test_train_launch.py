"""Processes started by torchrun train like those that the trainer starts itself; failures say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_step
from ganfoundry.gan.train_failures import failures_explained, is_out_of_memory
from ganfoundry.gan.train_state import checkpoints
from ganfoundry.gan.training import train
from tests.ganfoundry.gan.trainhelp import tiny, tiny_images

ROOT = Path(__file__).parents[3]
SMALL = [
    *("--resolution", "16", "--generator-channels", "8,8,8", "--discriminator-channels", "8,8,8"),
    *("--z-dim", "8", "--w-dim", "8", "--mapping-layers", "2", "--batch", "8", "--precision", "fp32"),
    *("--kimg", "0.032", "--device", "cpu", "--quiet", "--num-images", "16"),
]


def command_line(folder: Path, launcher: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run train-gan in a folder, directly or through a launcher."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, str(ROOT / "cli.py"), "train-gan", *SMALL, *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_trains_like_two_processes_of_our_own(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    own = command_line(tmp_path, [], "--run", "own", "--processes", "2")
    assert own.returncode == 0, own.stderr
    launched = command_line(tmp_path, torchrun, "--run", "launched", "--processes", "1")
    assert launched.returncode == 0, launched.stderr
    folders = [tmp_path / "outputs" / run / "train-gan" for run in ("own", "launched")]
    one, two = (load_file(checkpoints(folder / "checkpoints")[-1]) for folder in folders)
    assert one.keys() == two.keys()
    assert max(float((one[key].float() - two[key].float()).abs().max()) for key in one) == 0.0
    assert (folders[1] / "run.json").exists()
    again = command_line(tmp_path, torchrun, "--run", "launched", "--processes", "1")  # done: nobody waits for anybody
    assert again.returncode == 0, again.stderr


# ------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("x"), False),
    ],
)
def test_exhausted_memory_is_recognised(error: Exception, exhausted: bool) -> None:
    assert is_out_of_memory(error) is exhausted


def test_allocator_of_this_torch_says_what_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_exhausted_memory_ends_with_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, out = tiny_images(tmp_path / "images.npy"), tmp_path / "out"
    train(tiny(kimg=0.016), images, out)

    def exhaust(*_: object, **__: object) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(train_step, "draw_fakes", exhaust)
    advice = r"8 images a step at 16 px; use a smaller --batch, --precision bf16, .*step-00000002.safetensors"
    with pytest.raises(RunError, match=rf"out of memory on this machine with {advice}"):
        train(tiny(), images, out)
    with pytest.raises(RunError, match="there is no checkpoint yet"):
        train(tiny(), images, tmp_path / "new")


def test_divergence_names_options_and_the_last_checkpoint(tmp_path: Path) -> None:
    images, out = tiny_images(tmp_path / "images.npy"), tmp_path / "out"
    state = train(tiny(kimg=0.016, precision="bf16"), images, out)
    with torch.no_grad():
        state.generator.synthesis.b4.const[0] = float("inf")
    state.save(out / "checkpoints")
    with pytest.raises(RunError, match=r"not finite; .*--precision fp32, a lower --learning-rate .*--start .*step-0"):
        train(tiny(precision="bf16"), images, out)


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (ValueError("x"), InputError("x"), RunError("disk full"), RuntimeError("shapes")):
        with pytest.raises(type(error), match=str(error)), failures_explained(tiny(), tmp_path):
            raise error


def test_failure_of_a_process_is_told_rather_than_that_others_lost_it(tmp_path: Path) -> None:
    images = tiny_images(tmp_path / "images.npy")
    with pytest.raises(InputError, match="there is no generator"):
        train(tiny(processes=2), images, tmp_path / "out", start=tmp_path / "absent")
