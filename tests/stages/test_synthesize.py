"""synthesize on a small generator: rows, selection, and the same bytes however it is run."""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.data.shards import ShardReader
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.labelset import LabelSet, kept_rows
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.labels.uncertainty import image_score
from pipeline.artifacts import Gan, Interpreter, LabelledSet, Labels, Writer
from pipeline.executor import SerialExecutor
from pipeline.stage import Context
from stages.synthesize import Config, run
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels

OPTIONS: dict[str, Any] = {"num_samples": 23, "rows_per_shard": 5, "filter_fraction": 0.2}
POINTS = ("brightest", "darkest")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gan, Interpreter]:
    folder = tmp_path_factory.mktemp("sources")
    gan = shades_gan(folder / "gan")
    shades_interpreter(folder / "interpreter", gan, shades_labels(folder / "labels", gan), folds=0)
    return gan, Interpreter(folder / "interpreter")


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory, sources: tuple[Gan, Interpreter]) -> tuple[Gan, Interpreter]:
    """An interpreter that knows keypoints, too."""
    folder = tmp_path_factory.mktemp("pointed")
    labels = LabelSet.load(shades_labels(folder / "labels", sources[0]).path)
    places = [brightest_and_darkest(image) for image in labels.images]
    schema = replace(labels.schema, keypoints=POINTS)
    replace(labels, schema=schema, keypoints=np.array(places, np.float32)).save(folder / "labels")
    shades_interpreter(folder / "interpreter", sources[0], Labels(folder / "labels"), folds=0)
    return sources[0], Interpreter(folder / "interpreter")


def brightest_and_darkest(image: np.ndarray) -> list[list[float]]:
    grey = image.sum(2).reshape(-1)
    return [[at % 16 + 0.5, at // 16 + 0.5, 2.0] for at in (int(grey.argmax()), int(grey.argmin()))]


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
        assert float(row["score"]) == pytest.approx(float(prediction.score[0]), abs=1e-4)


def test_the_most_uncertain_are_dropped_and_said_why(made: Writer[LabelledSet]) -> None:
    scores = ShardReader(made.path / "shards").read("score")
    kept = kept_rows(made.path)
    assert len(kept) == 19  # 23 less the 4 that make 20 %
    dropped = np.setdiff1d(np.arange(23), kept)
    assert scores[dropped].min() >= scores[kept].max()
    table = json.loads((made.path / "selection.json").read_text("utf-8"))
    assert [entry["row"] for entry in table["dropped"]] == dropped.tolist()
    assert table["reasons"] == {"among the most uncertain 20 %": 4}
    assert table["threshold"] == pytest.approx(float(scores[dropped].min()))
    assert (made.figures["images"], made.figures["kept"]) == (23, 19)


def test_the_classes_are_described(made: Writer[LabelledSet], sources: tuple[Gan, Interpreter]) -> None:
    table = json.loads((made.path / "labels.json").read_text("utf-8"))
    assert table["classes"] == ["background", "dim", "mid", "bright"]
    assert len(table["palette"]) == 4
    assert table["generator_sha256"] == sources[0].generator_sha256
    assert len(table["interpreter_sha256"]) == 64
    assert (table["truncation"], table["root_seed"], table["level"]) == (0.7, 0, "fine")
    assert (table["head"], table["score"], table["keypoints"]) == ("ensemble", "object", [])
    assert ShardReader(made.path / "shards").read("label").max() < 4


def test_nothing_is_dropped_when_not_asked(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    out = synthesize(tmp_path, sources, num_samples=3, filter_fraction=0.0)
    assert kept_rows(out.path).tolist() == [0, 1, 2]
    assert json.loads((tmp_path / "selection.json").read_text("utf-8"))["threshold"] is None


def test_another_filter_makes_no_image_again(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    out = synthesize(tmp_path, sources)
    scores = ShardReader(out.path / "shards").read("score")
    before = contents(tmp_path)
    threshold = float(np.sort(scores)[15])
    again = synthesize(tmp_path, sources, filter_fraction=None, filter_threshold=threshold)
    assert kept_rows(tmp_path).tolist() == np.flatnonzero(scores <= threshold).tolist()
    assert "images_per_second" not in again.figures  # none was made
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"selection.json"}
    with pytest.raises(InputError, match="would drop all 23 images"):
        synthesize(tmp_path, sources, filter_threshold=0.0)
    with pytest.raises(InputError, match="released-code keeps"):
        synthesize(tmp_path, sources, filter_rule="released-code")
    synthesize(tmp_path, sources)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["mean", "interior", "top-tenth"])
def test_the_score_is_of_the_kind_asked_for(tmp_path: Path, sources: tuple[Gan, Interpreter], kind: Any) -> None:
    out = synthesize(tmp_path, sources, num_samples=6, score=kind)
    rows = ShardReader(out.path / "shards").rows(range(6), ("uncertainty", "label", "score"))
    uncertainty = torch.from_numpy(rows["uncertainty"].astype(np.float32))
    expected = image_score(uncertainty, kind, torch.from_numpy(rows["label"]))
    assert np.abs(expected.numpy() - rows["score"]).max() < 1e-3
    assert json.loads((tmp_path / "labels.json").read_text("utf-8"))["score"] == kind


@pytest.mark.parametrize("head", ["ensemble", "distilled"])
def test_keypoints_are_rows_too(tmp_path: Path, pointed: tuple[Gan, Interpreter], head: Any) -> None:
    out = synthesize(tmp_path, pointed, num_samples=6, head=head, distil_images=8, distil_steps=5)
    rows = ShardReader(out.path / "shards").rows(range(6))
    assert rows["keypoints"].shape == (6, 2, 3)
    assert rows["keypoints"].dtype == np.float32
    assert (rows["keypoints"][..., :2] >= 0).all()
    assert (rows["keypoints"][..., :2] <= 16).all()
    assert ((rows["keypoints"][..., 2] >= 0) & (rows["keypoints"][..., 2] <= 1)).all()
    assert ("keypoint_spread" in rows) == (head == "ensemble")
    assert json.loads((tmp_path / "labels.json").read_text("utf-8"))["keypoints"] == list(POINTS)


def test_the_distilled_head_labels_and_is_made_once(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    options = {"head": "distilled", "distil_images": 24, "distil_steps": 150}
    out = synthesize(tmp_path / "a", sources, **options)
    assert out.figures["agreement_miou"] > 0.6
    assert -1 <= out.figures["agreement_uncertainty_rank"] <= 1  # so few samples of so small an ensemble say no more
    head = (tmp_path / "a" / "distilled.safetensors").read_bytes()
    synthesize(tmp_path / "b", sources, TwoProcesses(), **options)
    assert (tmp_path / "b" / "distilled.safetensors").read_bytes() == head
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    before = (tmp_path / "a" / "distilled.safetensors").stat().st_mtime_ns
    synthesize(tmp_path / "a", sources, **options)
    assert (tmp_path / "a" / "distilled.safetensors").stat().st_mtime_ns == before


def test_half_precision_changes_little(tmp_path: Path, sources: tuple[Gan, Interpreter], made: Any) -> None:
    out = synthesize(tmp_path, sources, num_samples=5, precision="bfloat16")
    half, full = (ShardReader(o.path / "shards").rows(range(5), ("image", "label")) for o in (out, made))
    assert np.abs(half["image"].astype(int) - full["image"]).mean() < 2
    assert (half["label"] == full["label"]).mean() > 0.9


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
    with pytest.raises(InputError, match="train one for this generator") as error:
        synthesize(tmp_path / "out", (other, sources[1]))
    assert error.value.exit_code == 2


def test_a_damaged_description_is_refused(tmp_path: Path, sources: tuple[Gan, Interpreter]) -> None:
    (tmp_path / "interpreter.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot read .*interpreter.json"):
        synthesize(tmp_path / "out", (sources[0], Interpreter(tmp_path)))
