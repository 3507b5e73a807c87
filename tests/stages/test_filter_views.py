import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ganfoundry import weights
from ganfoundry.data.shards import ShardFolder, ShardReader, write_shard
from ganfoundry.errors import InputError
from ganfoundry.worlds import get_world
from pipeline.artifacts import ViewSet, Writer
from pipeline.stage import Context
from stages import filter_views
from stages.filter_views import Config, command, filter_rows, run

ROWS = 10
EMPTY, CROWD, TINY = 2, 5, 7
SEED = 910_000_000


@pytest.fixture(scope="module")
def view_set(tmp_path_factory):
    """Ten "generated" views: renders of single cars, an empty one, a crowd and a car that is too small."""
    torch.set_num_threads(1)
    world = get_world("cars")
    images = np.stack([world.render(SEED + row, 64).image for row in range(ROWS)])
    images[EMPTY] = world.render_scene(SEED, 64, num_objects=0).image
    images[CROWD] = world.render_scene(SEED + 3, 64, num_objects=4).image
    ground = np.median(images[TINY], axis=(0, 1)).astype(np.uint8)
    small = np.asarray(Image.fromarray(images[TINY]).resize((28, 28)))
    images[TINY] = ground
    images[TINY, 18:46, 18:46] = small
    folder = tmp_path_factory.mktemp("view-set")
    arrays = {
        "image": images,
        "object": np.arange(ROWS, dtype=np.int32) // 2,
        "view": np.arange(ROWS, dtype=np.int32) % 2,
        "w_content": np.zeros((ROWS, 4), np.float32),
        "seed": np.arange(ROWS, dtype=np.uint64),
    }
    with ShardFolder(folder / "shards", ROWS, ROWS, "views") as shards:
        shards.acknowledge(write_shard(folder / "shards", 0, arrays, 0))
        shards.finish()
    return ViewSet(folder)


def filtered(view_set, folder, config=None, ctx=None):
    out = Writer(folder)
    run(config or Config(), view_set, out, ctx or Context())
    return out


@pytest.fixture(scope="module")
def result(view_set, tmp_path_factory):
    return filtered(view_set, tmp_path_factory.mktemp("filtered"))


def test_rows_belong_to_rows(result):
    rows = ShardReader(result.path / "shards")
    keep, reason, area, mask = (rows.read(name) for name in ("keep", "reason", "area", "mask"))
    assert len(rows) == ROWS
    assert mask.shape == (ROWS, 64, 64)
    assert mask.dtype == np.uint8
    assert mask.max() == 1
    assert reason[EMPTY] == 1
    assert reason[CROWD] == 2
    assert reason[TINY] == 3
    assert np.array_equal(keep == 1, reason == 0)
    assert keep.sum() >= ROWS - 4
    assert np.allclose(area, mask.mean((1, 2)))
    assert not mask[EMPTY].any()
    assert (area[keep == 1] >= 0.1).all()


def test_figures_and_reasons_agree_with_the_shards(result):
    rows = ShardReader(result.path / "shards")
    keep, reason = rows.read("keep"), rows.read("reason")
    report = json.loads((result.path / "reasons.json").read_text())
    assert report["kept"] == result.figures["kept"] == keep.sum()
    assert sum(report["reasons"].values()) == report["rows"] == ROWS
    assert [row["row"] for row in report["dropped"]] == np.flatnonzero(keep == 0).tolist()
    texts = {row["row"]: row["text"] for row in report["dropped"]}
    assert texts[EMPTY] == "no instance"
    assert texts[CROWD] == f"{rows.row(CROWD)['instances']} instances"
    assert texts[TINY].endswith("% < 10 %")
    assert report["views"] == [{"view": view, "images": 5, "kept": int(keep[view::2].sum())} for view in (0, 1)]
    assert result.figures["several_instances"] == (reason == 2).sum()


def test_examples_are_drawn(result):
    for name in ("kept", "dropped"):
        with Image.open(result.path / f"{name}.png") as picture:
            assert picture.width >= 128


def test_shards_do_not_change_the_result(view_set, result, tmp_path, monkeypatch):
    monkeypatch.setattr(filter_views, "ROWS_PER_SHARD", 3)
    again = ShardReader(filtered(view_set, tmp_path).path / "shards")
    rows = ShardReader(result.path / "shards")
    for name in ("mask", "keep", "reason", "instances"):
        assert np.array_equal(again.read(name), rows.read(name)), name


class Broken:
    """An executor that dies after its first task."""

    def map(self, function, tasks, label):
        yield 0, function(tasks[0])
        raise KeyboardInterrupt

    def close(self):
        pass


def test_interrupted_filter_continues(view_set, tmp_path, monkeypatch):
    monkeypatch.setattr(filter_views, "ROWS_PER_SHARD", 4)
    whole = filtered(view_set, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        filtered(view_set, tmp_path / "parts", ctx=Context(executor=Broken()))
    first = (tmp_path / "parts" / "shards" / "shard-00000.h5").stat().st_mtime_ns
    parts = filtered(view_set, tmp_path / "parts")
    assert (tmp_path / "parts" / "shards" / "shard-00000.h5").stat().st_mtime_ns == first
    for file in sorted((whole.path / "shards").glob("shard-*.h5")):
        assert file.read_bytes() == (parts.path / "shards" / file.name).read_bytes()
    assert (whole.path / "reasons.json").read_bytes() == (parts.path / "reasons.json").read_bytes()


def test_rule_options(view_set, tmp_path):
    strict = filtered(view_set, tmp_path / "strict", Config(min_area=0.99))
    assert strict.figures["kept"] == 0
    assert not (tmp_path / "strict" / "kept.png").exists()
    other = filtered(view_set, tmp_path / "other", Config(labels=(2,)))  # a class that this detector does not know
    assert other.figures["no_instance"] == ROWS


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(weights="cats-detector"), "cars-detector"),
        (Config(backend="detectron2", config_file="mask_rcnn.yaml"), "detectron2"),
    ],
)
def test_unusable_detectors_leave_nothing(view_set, tmp_path, config, words):
    with pytest.raises(InputError, match=words):
        filtered(view_set, tmp_path, config)
    assert not (tmp_path / "shards").exists()


def test_shipped_weights_are_part_of_the_fingerprint(tmp_path, monkeypatch):
    depends, named = command.stage.depends, Config(weights="cars-detector")
    assert depends(Config())["cars-detector"] == weights.read_card("cars-detector")["sha256"]
    assert depends(Config(backend="detectron2")) == {}
    assert depends(named) == {"weights": weights.read_card("cars-detector")["sha256"]}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cars-detector").mkdir()
    assert depends(named) == {}  # a folder of that name is the user's own; `content` sees to it


@pytest.mark.parametrize(
    ("world", "sentence"), [("", "names no world.*--weights"), ("boats", "no boats-detector ships .*--weights")]
)
def test_the_generators_world_chooses_the_detector(view_set, tmp_path, world, sentence):
    copy = shutil.copytree(view_set.path, tmp_path / "set")
    record = {"kind": "view-set", "figures": {"world": world}}
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=sentence):
        filtered(ViewSet(copy), tmp_path / "out")
    filtered(ViewSet(copy), tmp_path / "out", Config(weights="cars-detector"))


def test_task_can_be_sent_to_a_worker(view_set, tmp_path):
    import pickle  # noqa: TID251  what dask does

    task = filter_views.FilterTask(
        str(view_set.path / "shards"), str(tmp_path), Config(weights="cars-detector"), key="k", index=0, first=2, stop=4
    )
    receipt = filter_rows(pickle.loads(pickle.dumps(task)))
    assert (receipt["first"], receipt["rows"]) == (2, 2)
