import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli import cli
from ganfoundry.data.shards import ShardFolder, write_shard
from ganfoundry.downstream.model import load_net
from ganfoundry.errors import InputError
from ganfoundry.labels.filtering import select
from pipeline.artifacts import DownstreamModel, Export, LabelledSet, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from pipeline.tracking import Tracker
from stages import train_downstream
from stages.train_downstream import Config, run
from tests.ganfoundry.downstream.toys import COLOURS, toy_examples

QUICK = {"steps": 8, "batch_size": 4, "precision": "fp32", "held_out": 0.25}
SHA = "0" * 64


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def toy_set(folder: Path, count: int = 16, *, keypoints: bool = True, keep: float = 0.75) -> LabelledSet:
    """A labelled set as synthesize leaves it."""
    data = toy_examples(count)
    score = np.arange(count, dtype=np.float32)
    arrays = {"image": data.image, "label": data.label, "score": score, "w": np.zeros((count, 4), np.float32)}
    arrays |= {"seed": np.arange(count, dtype=np.uint64)}
    if keypoints:
        arrays |= {"keypoints": data.keypoints, "keypoint_spread": np.zeros((count, 2), np.float32)}
    with ShardFolder(folder / "shards", count, count, "toy") as shards:
        for task in shards.pending():
            shards.acknowledge(write_shard(folder / "shards", task.index, arrays, task.first))
        shards.finish()
    select(score, fraction=1 - keep).save(folder / "selection.json")
    table = {"classes": ["background", "red", "blue"], "palette": COLOURS.tolist(), "level": "fine"}
    table |= {"generator_sha256": SHA, "interpreter_sha256": SHA, "keypoints": ["left_edge", "right_edge"] * keypoints}
    table |= {"schema": {"name": "squares"}, "truncation": 0.7, "noise": "const", "root_seed": 0}
    (folder / "labels.json").write_text(json.dumps(table))
    return LabelledSet(folder)


def trained(folder: Path, labelled_set=None, export=None, ctx=None, **options) -> Writer[DownstreamModel]:
    out: Writer[DownstreamModel] = Writer(folder, "key")
    run(Config(**(QUICK | options)), labelled_set, export, out, ctx or Context())
    return out


def test_trains_both_networks_measures_and_reports(tmp_path):
    ctx = Context(tracker=Tracker(tmp_path / "track"))
    out = trained(tmp_path / "out", toy_set(tmp_path / "set"), ctx=ctx)
    files = sorted(path.name for path in out.path.iterdir())
    assert files == ["keypoints.safetensors", "model.json", "parts.safetensors", "report.html"]
    card = json.loads((out.path / "model.json").read_text())
    assert (card["images"], card["held_out"]) == (9, 3)  # of the 12 that the filter kept
    assert card["keypoints"] == ["left_edge", "right_edge"]
    assert set(out.figures) == {f"held_out_{n}" for n in ("miou", "pixel_accuracy", "pck5", "pck10")} | {"images"}
    assert load_net(out.path / "parts.safetensors").config.outputs == ("background", "red", "blue")
    assert load_net(out.path / "keypoints.safetensors").config.task == "keypoints"
    page = (out.path / "report.html").read_text()
    assert "Parts: loss" in page
    assert "Keypoints: loss" in page
    assert json.loads((tmp_path / "track" / "log.jsonl").read_text().splitlines()[0])["step"] == 8


def test_a_set_without_keypoints_and_without_images_kept_out(tmp_path):
    out = trained(tmp_path / "out", toy_set(tmp_path / "set", keypoints=False), held_out=0.0)
    assert set(out.figures) == {"images"}
    assert not (out.path / "keypoints.safetensors").exists()
    assert json.loads((out.path / "model.json").read_text())["keypoints"] == []


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    monkeypatch.setattr("ganfoundry.downstream.Recipe.checkpoint_every", 2, raising=False)
    whole = trained(tmp_path / "whole", toy_set(tmp_path / "set"))
    measure = train_downstream._measure

    def killed(net, examples):
        raise Killed  # after the first network is whole

    monkeypatch.setattr(train_downstream, "_measure", killed)
    with pytest.raises(Killed):
        trained(tmp_path / "part", LabelledSet(tmp_path / "set"))
    assert (tmp_path / "part" / ".parts.safetensors").exists()
    monkeypatch.setattr(train_downstream, "_measure", measure)
    continued = trained(tmp_path / "part", LabelledSet(tmp_path / "set"))
    for name in ("parts.safetensors", "keypoints.safetensors"):
        assert (whole.path / name).read_bytes() == (continued.path / name).read_bytes()


def test_an_exported_file_teaches_the_same(tmp_path):
    from ganfoundry.downstream import StoredExamples
    from stages.export import Config as ExportConfig
    from stages.export import run as run_export

    labelled = toy_set(tmp_path / "set")
    run_export(ExportConfig(), labelled, Writer(tmp_path / "export", "key"), Context())
    shards, file = StoredExamples(labelled.path), StoredExamples(tmp_path / "export")
    rows = np.array([3, 0, 3, 11])
    for name in ("image", "label", "keypoints"):
        assert np.array_equal(getattr(shards.rows(rows), name), getattr(file.rows(rows), name))
    assert (file.description.classes, file.description.keypoints) == (
        ("background", "red", "blue"),
        ("left_edge", "right_edge"),
    )
    out = trained(tmp_path / "out", export=Export(tmp_path / "export"), learn_from="export", keypoints=False)
    assert out.figures["images"] == 9


@pytest.mark.parametrize(("options", "sentence"), [({}, "run synthesize"), ({"learn_from": "export"}, "run export")])
def test_nothing_to_learn_from(tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        trained(tmp_path / "out", **options)


def test_an_export_without_hdf5(tmp_path):
    (tmp_path / "export").mkdir()
    with pytest.raises(UserError, match="no dataset"):
        trained(tmp_path / "out", export=Export(tmp_path / "export"), learn_from="export")


def test_a_file_of_something_else(tmp_path):
    import h5py

    with h5py.File(tmp_path / "dataset.h5", "w") as file:
        file["image"] = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="export again"):
        trained(tmp_path / "out", export=Export(tmp_path), learn_from="export")


def test_a_set_without_labels(tmp_path):
    labelled = toy_set(tmp_path / "set", 4)
    arrays = {"image": toy_examples(4).image}
    shutil.rmtree(labelled.path / "shards")
    with ShardFolder(labelled.path / "shards", 4, 4, "toy") as shards:
        for task in shards.pending():
            shards.acknowledge(write_shard(labelled.path / "shards", task.index, arrays, task.first))
        shards.finish()
    with pytest.raises(InputError, match="holds no labels"):
        trained(tmp_path / "out", labelled)


def test_a_damaged_selection_and_a_damaged_shard(tmp_path):
    labelled = toy_set(tmp_path / "set")
    (labelled.path / "selection.json").write_text("{")
    with pytest.raises(InputError, match=r"selection\.json"):
        trained(tmp_path / "out", labelled)
    labelled = toy_set(tmp_path / "other")
    shard = next((labelled.path / "shards").glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(InputError, match=shard.name):
        trained(tmp_path / "out", labelled)


def test_the_command_line_says_what_is_missing(tmp_path):
    result = CliRunner().invoke(
        cli, ["train-downstream", "--labelled-set", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code != 0
    assert result.exception is not None
