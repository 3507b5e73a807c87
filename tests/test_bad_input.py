"""Bad input at the command line: one clear sentence, a non-zero exit code, no traceback, and nothing lost.

A small chain (generator, labels, interpreter, labelled set) is made once and damaged in copies.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli import cli
from pipeline.registry import run_command_line
from tests.stages.labelhelp import shades_gan, shades_labels

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("--level", "fine", "--members", "2", "--steps", "20", "--folds", "0")
SET = ("--num-samples", "24", "--rows-per-shard", "8")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with gan/, labels/ and outputs/default/{import-gan, train-interpreter, synthesize}."""
    folder = tmp_path_factory.mktemp("chain")
    shades_labels(folder / "labels", shades_gan(folder / "gan"))
    for arguments in (
        ["import-gan", "--source", str(folder / "gan")],
        ["train-interpreter", "--labels", str(folder / "labels"), *QUICK],
        ["synthesize", *SET],
    ):
        assert call(folder, arguments) == 0
    return folder


@pytest.fixture
def copy(chain: Path, tmp_path: Path) -> Path:
    """A copy of the chain to damage."""
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def call(folder: Path, arguments: Sequence[str]) -> int:
    """Exit code of the command line with outputs in `folder`."""
    return run_command_line(cli, [*arguments, "--outputs", str(folder / "outputs"), "--quiet"], "python cli.py")


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error."""
    text = capsys.readouterr().err.strip()
    assert "Traceback" not in text
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, text
    return text


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "outputs" / "default" / "synthesize" / "shards").glob("shard-*.h5"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards(folder)}


def damage(path: Path, how: str) -> None:
    """Truncate a file, flip one bit in its middle, or remove it."""
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_damaged_shard_is_named_and_made_again(copy: Path, capsys: pytest.CaptureFixture[str], how: str):
    whole = digests(copy)
    victim = shards(copy)[1]
    damage(victim, how)
    assert call(copy, ["export"]) in (1, 2)
    assert victim.name in complaint(capsys)
    assert not (copy / "outputs" / "default" / "export" / "run.json").exists()
    assert call(copy, ["synthesize", *SET, "--verify"]) == 0
    assert digests(copy) == whole
    assert call(copy, ["export"]) == 0


def test_misspelt_key_suggests_the_right_one(copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "c.toml").write_text("[synthesize]\nnum_sample = 3\n")
    assert call(copy, ["synthesize", "--config", str(copy / "c.toml")]) == 2
    assert "num_sample" in (text := complaint(capsys))
    assert "num_samples" in text.replace("num_sample ", "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("not.safetensors", b"hello" * 100),
        ("not.pt", b"\x80\x04K\x01."),
        ("not.pkl", b"\x80\x04K\x01."),
        ("page.pkl", b"<!DOCTYPE html><html></html>"),
        ("hostile.pkl", b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R."),
        ("empty.pt", b""),
    ],
)
def test_what_is_no_checkpoint_is_refused(copy: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes):
    (copy / name).write_bytes(content)
    assert call(copy, ["import-gan", "--source", str(copy / name), "--run", "other"]) == 2
    assert name in complaint(capsys)
    assert not (copy / "outputs" / "other" / "import-gan" / "run.json").exists()


def test_half_a_checkpoint_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]):
    file = copy / "gan" / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert call(copy, ["import-gan", "--source", str(file), "--run", "other"]) == 2
    assert "generator.safetensors" in complaint(capsys)


def test_label_of_no_class_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]):
    path = copy / "labels" / "masks" / "sample-2.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] = 77
    Image.fromarray(pixels).save(path)
    assert call(copy, ["train-interpreter", "--labels", str(copy / "labels"), *QUICK, "--force"]) == 2
    text = complaint(capsys)
    assert "sample-2" in text
    assert "77" in text


def test_label_of_wrong_size_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]):
    path = copy / "labels" / "masks" / "sample-3.png"
    Image.open(path).resize((8, 8), Image.Resampling.NEAREST).save(path)
    assert call(copy, ["train-interpreter", "--labels", str(copy / "labels"), *QUICK, "--force"]) == 2
    text = complaint(capsys)
    assert "sample-3" in text
    assert "8" in text


def test_labels_of_another_generator_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]):
    shades_gan(copy / "stranger", seed=1)
    assert call(copy, ["import-gan", "--source", str(copy / "stranger"), "--run", "other"]) == 0
    assert call(copy, ["train-interpreter", "--labels", str(copy / "labels"), *QUICK, "--run", "other"]) == 2
    assert "generator" in complaint(capsys)


def test_second_run_in_the_same_folder_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]):
    from pipeline.manifest import LOCK

    before = digests(copy)
    with (copy / "outputs" / "default" / "synthesize" / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert call(copy, ["synthesize", "--num-samples", "8"]) == 2
    assert "synthesize" in complaint(capsys)
    assert digests(copy) == before


def test_full_disk_loses_nothing_that_was_written(copy: Path):
    """A file size limit stands in for the full disk: one shard does not fit."""
    command = [sys.executable, "cli.py", "synthesize", "--num-samples", "64", "--rows-per-shard", "64"]
    command += ["--outputs", str(copy / "outputs"), "--quiet"]
    limited = (
        "import resource, signal, os, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limited, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "disk" in done.stderr.lower()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    record = json.loads((copy / "outputs" / "default" / "synthesize" / "run.json").read_text())
    assert record["config"]["num_samples"] == 64
