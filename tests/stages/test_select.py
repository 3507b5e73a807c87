"""select on a small generator: what is chosen, what is left out, the sheet, bad input, and the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganfoundry.data.seeds import LABEL, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.labels.active import Candidates as Chosen
from ganfoundry.labels.labelset import LabelSet
from pipeline.artifacts import Candidates, Gan, Interpreter, Labels, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from stages.select import Config, run
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels

Sources = tuple[Gan, Interpreter, Labels]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    gan = shades_gan(folder / "gan")
    labels = shades_labels(folder / "labels", gan)
    shades_interpreter(folder / "interpreter", gan, labels, folds=0)
    return gan, Interpreter(folder / "interpreter"), labels


def select(folder: Path, gan: Gan, interpreter: Interpreter | None, labels: Labels | None, **options: Any) -> Chosen:
    out: Writer[Candidates] = Writer(folder)
    run(Config(**{"num_samples": 5, "num_candidates": 40, **options}), gan, interpreter, labels, out, Context())
    found = Chosen.load(folder, gan.generator_sha256)
    assert out.figures["samples"] == len(found.numbers) == len(set(found.numbers))
    return found


def test_uncertain_and_different_samples_are_named_with_their_seeds(tmp_path: Path, sources: Sources) -> None:
    found = select(tmp_path, *sources)
    assert found.seeds == tuple(sample_integer(0, LABEL, number) for number in found.numbers)
    assert found.scores is not None
    assert found.method == "core-set"
    table = json.loads((tmp_path / "candidates.json").read_text("utf-8"))
    assert table["numbers"] == list(found.numbers)
    random = select(tmp_path / "random", *sources, method="random", num_samples=20)
    assert np.mean(found.scores) > np.mean(random.scores or [9])
    again = select(tmp_path / "again", *sources)
    assert again == found


def test_the_sheet_shows_image_labels_and_uncertainty(tmp_path: Path, sources: Sources) -> None:
    select(tmp_path, *sources)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (12 * (16 * 3 + 2) - 2, 2 * (16 * 3 + 13 + 2) - 2)  # four triples a row, two rows
    select(tmp_path / "bare", sources[0], None, None)
    with Image.open(tmp_path / "bare" / "sheet.png") as sheet:
        assert sheet.size[0] == 4 * (16 * 3 + 2) - 2


@pytest.mark.parametrize("method", ["core-set", "medoids", "random"])
def test_without_interpreter_and_labels_it_starts_from_nothing(tmp_path: Path, sources: Sources, method: str) -> None:
    for count in (1, 32):
        found = select(tmp_path / str(count), sources[0], None, None, method=method, num_samples=count)
        assert (found.scores, found.labelled) == (None, ())


def test_labelled_and_excluded_samples_are_not_chosen_again(tmp_path: Path, sources: Sources) -> None:
    first = select(tmp_path / "first", *sources, num_samples=6)
    known = LabelSet.load(sources[2].path)
    seeds = np.array(first.seeds, np.int64)
    labelled = LabelSet(
        known.names, known.images, known.masks, known.w, known.generator_sha256, known.schema, {}, seeds
    )
    labelled.save(tmp_path / "labels")
    exclude = tuple(number for number in range(20) if number not in first.numbers)
    again = select(tmp_path / "again", *sources[:2], Labels(tmp_path / "labels"), num_samples=16, exclude=exclude)
    assert sorted(again.labelled) == sorted(first.numbers)
    assert not set(again.numbers) & {*first.numbers, *exclude}


def test_bad_input_is_one_sentence(tmp_path: Path, sources: Sources) -> None:
    with pytest.raises(InputError, match="cannot choose 41 of 40 samples; raise --num-candidates"):
        select(tmp_path, *sources, num_samples=41)
    with pytest.raises(UserError, match="numbered from 0 to 39"):
        select(tmp_path, *sources, exclude=(3, 40))
    other = shades_gan(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="train one for this generator"):
        select(tmp_path, other, sources[1], None)
    with pytest.raises(InputError, match="belong to the generator"):
        select(tmp_path, other, None, sources[2])


def test_the_command_line(tmp_path: Path, sources: Sources) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "cli.py", "select", "--outputs", str(tmp_path), "--run", "r", "--gan"]
    command += [str(sources[0].path), "--num-samples", "2", "--num-candidates", "12"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(Chosen.load(tmp_path / "r" / "select").numbers) == 2
