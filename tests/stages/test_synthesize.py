"""synthesize on a small generator: rows, selection, and the same bytes however it is run."""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.data.shards import ShardReader
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.labelset import kept_rows
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.labels.uncertainty import image_score
from pipeline.artifacts import Gan, Interpreter, LabelledSet, Writer
from pipeline.errors import UserError
from pipeline.executor import SerialExecutor
from pipeline.stage import Context
from stages.synthesize import Config, run
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels

OPTIONS: dict[str, Any] = {"num_samples": 23, "rows_per_shard": 5, "filter_fraction": 0.2}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gan, Interpreter]:
    folder = tmp_path_factory.mktemp("sources")
    gan = shades_gan(folder / "gan")
    shades_interpreter(folder / "interpreter", gan, shades_labels(folder / "labels", gan), folds=0)
    return gan, Interpreter(folder / "interpreter")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sources: tuple[Gan, Interpreter]) -> Writer[LabelledSet]:
    return synthesize(tmp_path_factory.mktemp("made"), sources)


def synthesize(
    folder: Path, sources: tuple[Gan, Interpreter], executor: Any = None, **options: Any
) -> Writer[LabelledSet]:
    out: Writer[LabelledSet] = Writer(folder, "f" * 64)
    run(Config(**{**OPTIONS, **options}), *sources, out, Context(executor=executor or SerialExecutor()))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the set."""
    files = [*sorted((folder / "shards").glob("shard-*")), folder / "selection.json", folder / "labels.json"]
    return {file.name: file.read_bytes() for file in files}


def test_fields(made: Writer[LabelledSet]) -> None:
    row = ShardReader(made.path / "shards").row(7)
    shapes = {name: (value.shape, value.dtype.name) for name, value in row.items()}
    assert shapes == {
        "image": ((16, 16, 3), "uint8"),
        "label": ((16, 16), "uint8"),
        "uncertainty": ((16, 16), "float16"),
        "score": ((), "float32"),
        "w": ((8,), "float32"),
        "seed": ((), "uint64"),
    }


def test_a_row_follows_from_its_seed(made: Writer[LabelledSet], sources: tuple[Gan, Interpreter]) -> None:
    generator = load_gan(sources[0].path).generator
    interpreter = StyleInterpreter.load(sources[1].path / "interpreter.safetensors")
    reader = ShardReader(made.path / "shards")
    assert len(reader) == 23
    for index in (0, 11, 22):
        row = reader.row(index)
        assert int(row["seed"]) == sample_integer(0, CONTENT, index)
        w = content_codes(generator, [int(row["seed"])], 0.7)
        np.testing.assert_array_equal(w[0].numpy(), row["w"])
        image, features = images_and_features(
            generator.synthesis, torch.from_numpy(row["w"])[None], list(generator.synthesis.feature_dims)
        )
        assert np.abs(image[0].astype(int) - row["image"]).max() <= 1
        prediction = interpreter.predict(features)
        assert (prediction.label[0].numpy() == row["label"]).mean() > 0.99
        assert np.abs(prediction.uncertainty[0].numpy() - row["uncertainty"]).max() < 2e-3
        assert float(row["score"]) == pytest.approx(float(image_score(prediction.uncertainty)[0]), abs=1e-4)


def test_the_most_uncertain_are_dropped_and_said_why(made: Writer[LabelledSet]) -> None:
    scores = ShardReader(made.path / "shards").read("score")
    kept = kept_rows(made.path)
    assert len(kept) == 19  # 23 less the 4 that make 20 %
    dropped = np.setdiff1d(np.arange(23), kept)
    assert scores[dropped].min() >= scores[kept].max()
    table = json.loads((made.path / "selection.json").read_text("utf-8"))
    assert [entry["row"] for entry in table["dropped"]] == dropped.tolist()
    assert {entry["reason"] for entry in table["dropped"]} == {"among the most uncertain 20 %"}
    assert table["threshold"] == pytest.approx(float(scores[dropped].min()))
    assert (made.figures["images"], made.figures["kept"]) == (23, 19)


def test_the_classes_are_described(made: Writer[LabelledSet], sources: tuple[Gan, Interpreter]) -> None:
    table = json.loads((made.path / "labels.json").read_text("utf-8"))
    assert table["classes"] == ["background", "dim", "mid", "bright"]
    assert len(table["palette"]) == 4
    assert table["generator_sha256"] == sources[0].generator_sha256
    assert len(table["interpreter_sha256"]) == 64
    assert (table["truncation"], table["root_seed"], table["level"]) == (0.7, 0, "fine")
    assert ShardReader(made.path / "shards").read("label").max() < 4


def test_nothing_is_dropped_when_not_asked(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    out = synthesize(tmp_path, sources, num_samples=3, filter_fraction=0.0)
    assert kept_rows(out.path).tolist() == [0, 1, 2]
    assert json.loads((tmp_path / "selection.json").read_text("utf-8"))["threshold"] is None


class TwoProcesses:
    """Runs tasks in two new processes, the last task first."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any], label: str) -> Iterator[tuple[int, Any]]:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [(i, pool.submit(function, task)) for i, task in reversed(list(enumerate(tasks)))]
            yield from ((i, future.result()) for i, future in futures)

    def close(self) -> None:
        pass


def test_the_same_bytes_from_two_processes(
    tmp_path: Path, sources: tuple[Gan, Interpreter], made: Writer[LabelledSet]
) -> None:
    synthesize(tmp_path, sources, TwoProcesses())
    assert contents(tmp_path) == contents(made.path)


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.artifacts import Gan, Interpreter
from pipeline.executor import SerialExecutor
from tests.stages.test_synthesize import synthesize

class Killed(SerialExecutor):
    def map(self, function, tasks, label):
        for count, item in enumerate(super().map(function, tasks, label)):
            if count == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

synthesize(Path(sys.argv[1]), (Gan(Path(sys.argv[2])), Interpreter(Path(sys.argv[3]))), Killed())
"""


def test_a_killed_run_continues(tmp_path: Path, sources: tuple[Gan, Interpreter], made: Writer[LabelledSet]) -> None:
    root = Path(__file__).resolve().parents[2]
    paths = [str(path) for path in (tmp_path, sources[0].path, sources[1].path)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *paths], cwd=root, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    first = tmp_path / "shards" / "shard-00000.h5"
    before = first.stat().st_mtime_ns
    assert not (tmp_path / "selection.json").exists()
    tasks: list[Any] = []

    class Counting(SerialExecutor):
        def map(self, function: Callable[[Any], Any], todo: Sequence[Any], label: str) -> Iterator[tuple[int, Any]]:
            tasks.extend(todo)
            return super().map(function, todo, label)

    synthesize(tmp_path, sources, Counting())
    assert [task.index for task in tasks] == [2, 3, 4]  # two were acknowledged; the killed one is made again
    assert first.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(made.path)


def test_an_interpreter_of_another_generator_is_refused(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    other = shades_gan(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="train one for this generator") as error:
        synthesize(tmp_path / "out", (other, sources[1]))
    assert error.value.exit_code == 2


def test_a_damaged_description_is_refused(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    (tmp_path / "interpreter.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot read .*interpreter.json"):
        synthesize(tmp_path / "out", (sources[0], Interpreter(tmp_path)))
