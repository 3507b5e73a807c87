"""The benchmark of labels: jobs, rows, tables; the networks are tiny or stand-ins."""

import json
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import _jobs, labels
from benchmarks import _labels_data as data
from benchmarks import _labels_jobs as jobs
from benchmarks import _labels_rows as rows
from benchmarks import _labels_table as table
from ganfoundry import weights
from ganfoundry.data.seeds import CONTENT, LABEL, WORLD, sample_integer
from ganfoundry.downstream import NetConfig, build_net
from ganfoundry.errors import InputError
from ganfoundry.images import halved_images, halved_labels
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.annotator_data import render_samples
from tests.ganfoundry.downstream.toys import toy_net

SMALL = rows.Settings(steps=2, images=20, test=6, outer=4)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(jobs, "OUTPUT", tmp_path / "benchmarks" / "labels")
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache" / "labels")
    monkeypatch.setattr(_jobs, "RESULTS", tmp_path / "results")


@pytest.fixture
def stand_ins(monkeypatch):
    """Trainings that cost nothing; gives the list of (row, seed, task) that were made."""
    made = []

    def train_row(row, seed, settings, task, note):
        made.append((row.name, seed, task))
        return build_net(toy_net(task), seed)

    monkeypatch.setattr(jobs, "train_row", train_row)
    monkeypatch.setattr(
        jobs, "measure", lambda net, settings: {"miou": 0.5} if net.config.task == "parts" else {"pck5": 0.25}
    )
    monkeypatch.setattr(jobs, "needs", lambda job: [])
    return made


def test_what_is_done_is_not_done_again(stand_ins):
    wanted = jobs.jobs_of(["supervised_16", "supervised_160"], 2, SMALL)
    jobs.run_jobs(wanted[:3], 1)
    assert stand_ins == [
        (row, seed, task)
        for row, seed in (("supervised_16", 0), ("supervised_160", 0), ("supervised_16", 1))
        for task in ("parts", "keypoints")
    ]
    stand_ins.clear()
    jobs.run_jobs(wanted, 1)
    assert stand_ins == [("supervised_160", 1, "parts"), ("supervised_160", 1, "keypoints")]
    assert wanted[0].result()["figures"] == {"miou": 0.5, "pck5": 0.25}


def test_what_the_targets_need_comes_first_seed_by_seed():
    order = [(job.row, job.seed) for job in jobs.jobs_of(["labels_4", "released", "ours"], None, SMALL)]
    firsts = [(row, seed) for seed in range(3) for row in ("ours", "released")]
    assert order == [*firsts, *(("labels_4", seed) for seed in range(3))]


def test_jobs_wait_for_what_they_read_and_share_it(monkeypatch):
    monkeypatch.setattr(data, "ROWS_PER_PART", 10)
    first, second = (
        {task.name: task for task in jobs.needs(job)} for job in jobs.jobs_of(["ours", "images_1000"], 1, SMALL)
    )
    assert first.keys() == second.keys(), "the same interpreter and set"
    labels = [task for name, task in first.items() if name.startswith("labels")]
    assert [task.arguments[1] for task in labels] == [range(10), range(10, 20)]
    assert all(first[name].function is data.interpreter for task in labels for name in task.needs)
    (job,) = jobs.jobs_of(["untruncated_3000"], 1, SMALL)
    other = {task.name for task in jobs.needs(job)} - set(first)
    assert len(other) == 4, "other images and labels, the same interpreter"
    assert {task.function for task in first.values()} == {
        data.interpreter, data.sample_part, data.label_part, data.render_part, data.outer
    }  # fmt: skip
    (job,) = jobs.jobs_of(["transfer_self"], 1, SMALL)
    features = next(task for task in jobs.needs(job) if task.function is rows.self_trained)
    assert len(features.needs) == 320, "the renders that they are learnt from"


def test_the_labeller_says_of_the_samples_of_ours_what_it_says_of_any_image(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "ROWS_PER_PART", 6)
    monkeypatch.setattr(data, "CACHE", tmp_path)
    (job,) = jobs.jobs_of(["labeller"], 1, replace(SMALL, images=12))
    needed = {task.function for task in jobs.needs(job)}
    assert {data.sample_part, data.labeller_part} < needed
    assert data.interpreter not in needed
    found = rows.training_set(rows.ROWS["labeller"], 0, job.settings)
    said = Annotator.load(weights.path("cars-annotator")).annotate(found.image)
    np.testing.assert_array_equal(found.label, data.SCHEMA.merge("parts12")[said.parts])
    np.testing.assert_array_equal(found.keypoints[..., 2] == 1, said.keypoints[..., 2] > 1.5)
    np.testing.assert_array_equal(found.image, np.concatenate([data.sample_part(p, 0.7) for p in data.parts_of(12)]))
    again = rows.training_set(rows.ROWS["labeller"], 1, job.settings)
    np.testing.assert_array_equal(found.label, again.label)
    assert len(list(tmp_path.glob("labeller-*/*.npz"))) == 2


def test_samples_of_a_larger_generator_are_halved_with_their_labels(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "CACHE", tmp_path)
    gan = data.generator("cars-128")
    part = range(3)
    found = data.sample_part(part, 0.7, "cars-128")
    own = images_and_features(gan.generator.synthesis, data._codes(part, 0.7, "cars-128"), ())[0]
    assert own.shape == (3, 128, 128, 3)
    assert np.array_equal(found, halved_images(own))
    assert not np.array_equal(found, data.sample_part(part, 0.7))
    label = np.random.default_rng(0).integers(0, 12, (3, 128, 128)).astype(np.uint8)
    keypoints = np.full((3, 24, 3), [64.0, 128.0, 0.5], np.float32)
    made = SimpleNamespace(label=label, keypoints=keypoints, score=np.arange(3.0))
    monkeypatch.setattr(data, "label_samples", lambda *_, dtype: made)
    monkeypatch.setattr(data, "interpreter", lambda key: None)
    key = rows.ROWS["ours_128"].set_key(0)
    examples = data.labelled_set(key, 3, 0.0)
    assert np.array_equal(examples.image, found)
    assert np.array_equal(examples.label, halved_labels(label)[0])
    assert (examples.keypoints == [32.0, 64.0, 0.5]).all()
    assert key.folder.name != replace(key, gan="cars-64").folder.name
    needed = [task for task in jobs.needs(jobs.Job("labeller_128", 0, SMALL)) if task.function is data.labeller_part]
    assert {task.arguments[1] for task in needed} == {"cars-128"}


def test_the_usual_generator_is_not_part_of_what_a_result_follows_from():
    """Results from before rows could have another one still count."""
    assert "gan" not in jobs.Job("ours", 0, SMALL).identity["row"]
    assert jobs.Job("ours_128", 0, SMALL).identity["row"]["gan"] == "cars-128"


def test_an_interrupted_job_leaves_no_result_and_begins_again(stand_ins, monkeypatch):
    class Killed(Exception):
        pass

    def killed(net, settings):
        raise Killed

    wanted = jobs.jobs_of(["supervised_16"], 1, SMALL)
    monkeypatch.setattr(jobs, "measure", killed)
    with pytest.raises(Killed):
        jobs.run_jobs(wanted, 1)
    assert wanted[0].result() is None
    monkeypatch.setattr(jobs, "measure", lambda net, settings: {"miou": 0.75})
    jobs.run_jobs(wanted, 1)
    assert wanted[0].result()["figures"]["miou"] == 0.75


def test_a_result_of_something_else_or_a_damaged_one_does_not_count(stand_ins, monkeypatch):
    (job,) = jobs.jobs_of(["supervised_16"], 1, SMALL)
    jobs.run_jobs([job], 1)
    assert job.result() is not None
    other = replace(job, settings=replace(SMALL, steps=3))
    assert other.result() is None
    assert other.path != job.path, "a quick run leaves a long one alone"
    with monkeypatch.context() as changed:
        changed.setitem(rows.ROWS, "supervised_16", replace(rows.ROWS["supervised_16"], labels=17))
        assert job.result() is None
    job.path.write_text(job.path.read_text()[:50])
    assert job.result() is None


def test_rows_that_there_are_not():
    with pytest.raises(InputError, match="supervised_1600"):
        jobs.jobs_of(["supervised_17"], 1, SMALL)


def test_a_row_whose_package_is_missing_is_skipped(stand_ins, monkeypatch, capsys):
    def missing(resolution):
        raise InputError("two optional packages; install them")

    monkeypatch.setattr(jobs, "load_efficientnet", missing)
    jobs.run_jobs(jobs.jobs_of(["transfer_imagenet"], 1, SMALL), 1)
    assert stand_ins == []
    assert "transfer_imagenet is skipped: two optional packages" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["supervised_16", "transfer_self", "semi_supervised", "ours", "transfer_imagenet"])
def test_every_method_trains_and_is_measured(name, monkeypatch):
    if name == "transfer_imagenet":
        pytest.importorskip("efficientnet_lite_pytorch")
    world = get_world("cars")
    few = data.Examples.of_renders(render_samples(world, range(6)), world.schema, "parts12")
    monkeypatch.setattr(rows, "POOL", 6)
    monkeypatch.setattr(rows, "NetConfig", partial(NetConfig, width=8, head_width=16))
    monkeypatch.setattr(rows, "Recipe", partial(rows.Recipe, batch_size=4))
    monkeypatch.setattr(data, "renders", lambda root, count: few)
    monkeypatch.setattr(data, "labelled_set", lambda key, count, fraction: few)
    outer = replace(few, label=data.coarser()[few.label])
    monkeypatch.setattr(data, "outer", lambda count: outer)
    task = "keypoints" if name == "semi_supervised" else "parts"
    first, again = (rows.train_row(rows.ROWS[name], 1, SMALL, task, lambda text: None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    figures = rows.measure(first, SMALL)
    wanted = {"pck5", "pck10"} if task == "keypoints" else {"miou", "pixel_accuracy"}
    assert set(figures) == wanted | {f"outer_{figure}" for figure in wanted}
    assert all(0 <= value <= 1 for value in figures.values())


def test_classes_merge_into_the_outer_ones():
    schema = data.SCHEMA
    names, outer = schema.names("parts12"), schema.names("parts5")
    found = {name: outer[index] for name, index in zip(names, data.coarser(), strict=True)}
    assert found["windscreen"] == found["side_window"] == "glass"
    assert found["bonnet"] == found["bumper"] == "body"
    assert (found["wheel"], found["tail_lamp"], found["background"]) == ("wheel", "lamp", "background")


def test_no_image_of_a_test_is_in_a_training():
    cards = [json.loads((weights.path(name) / "card.json").read_text()) for name in ("cars-64", "cars-annotator")]
    roots = (data.POOL_SEED, data.TEST_SEED, cards[0]["data"]["seed"], cards[1]["recipe"]["seed"])
    seeds = [{sample_integer(root, WORLD, row) for row in range(3000)} for root in roots]
    assert len(set().union(*seeds)) == 12_000
    samples = {sample_integer(data.SAMPLE_SEED, CONTENT, row) for row in range(3000)}
    assert samples.isdisjoint(sample_integer(root, LABEL, row) for root in (0, 1) for row in range(3000))


def test_renders_of_an_earlier_world_are_made_again(monkeypatch):
    first = data.render_part(data.TEST_SEED, range(2))
    path = next(data.CACHE.glob("renders-*/*.npz"))
    stale = replace(first, image=255 - first.image)
    np.savez(path, image=stale.image, label=stale.label, keypoints=stale.keypoints)
    assert np.array_equal(data.render_part(data.TEST_SEED, range(2)).image, first.image)


def test_fewer_labels_are_drawn_from_the_committed_ones_by_seed():
    whole = data.annotated(16, 0)
    first, again, other = (data.annotated(4, seed) for seed in (0, 0, 1))
    assert first.names == again.names != other.names
    assert set(first.names) < set(whole.names)
    row = whole.names.index(first.names[2])
    for field in ("masks", "w", "keypoints"):
        assert np.array_equal(getattr(first, field)[2], getattr(whole, field)[row])
    more = data.annotated(18, 0)
    assert (len(more), more.names[:1]) == (18, ("sample-0",))
    assert np.array_equal(more.w[:16], whole.w)


def test_cached_arrays_are_made_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        assert data.cached(tmp_path / "a" / "x.npz", make)["x"].tolist() == [0, 1, 2]
    assert calls == [1]
    assert [list(part) for part in data.parts_of(3)] == [[0, 1, 2]]
    assert [len(part) for part in data.parts_of(1200)] == [500, 500, 200]


def test_collected_shown_and_summarised(stand_ins, capsys):
    figures = {
        "ours": {"miou": 0.57, "pck5": 0.8, "pck10": 0.9, "outer_miou": 0.5},
        "images_3000": {"miou": 0.565},
        "unfiltered_3000": {"miou": 0.57},
        "supervised_1600": {"miou": 0.6, "pck5": 1.0, "pck10": 1.0, "outer_miou": 0.52},
        "released": {"miou": 0.5},
        "transfer_imagenet": {"miou": 0.4, "pck5": 0.3},
        "transfer_self": {"miou": 0.45, "pck5": 0.2},
        "uncertainty": {"auroc": 0.9, "rank": 0.5},
    }
    with pytest.raises(InputError, match="no job"):
        table.collect(SMALL)
    jobs.Job("ours", 0, SMALL).path.parent.mkdir(parents=True)
    for row, values in figures.items():
        for seed in (0, 1):
            job = jobs.Job(row, seed, SMALL)
            moved = {name: value + 0.01 * seed * (row != "unfiltered_3000") for name, value in values.items()}
            job.path.write_text(json.dumps({"identity": job.identity, "figures": moved, "cpu_seconds": 1.5}))
    collected = table.collect(SMALL)
    _jobs.save(table.NAME, collected, table.markdown(collected))
    assert collected["rows"]["ours"]["figures"]["miou"] == pytest.approx([0.57, 0.58])
    assert collected["settings"] == asdict(SMALL)
    assert collected["command"] == "python -m benchmarks.labels --steps 2 --images 20 --test 6 --outer 4"

    labels.main(["--show"])
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    assert summary["ours_over_supervised_1600"] == pytest.approx(0.575 / 0.605, abs=1e-4)
    assert summary["ours_minus_released"] == pytest.approx(7.0)
    assert summary["ours_minus_transfer"] == pytest.approx(12.0)  # against the better of the two
    assert summary["pck5_minus_transfer"] == pytest.approx(50.0)
    assert summary["outer_ours_minus_supervised_1600"] == pytest.approx(-2.0)
    assert summary["auroc"] == pytest.approx(0.905)
    assert summary["ours_minus_semi_supervised"] is None
    assert summary["filter_not_worse"] == "1 of 2"
    assert summary["filter_gain"] == pytest.approx(0.0)
    assert {"supervised_16", "ours"} <= set(summary["missing"]), "the latter lacks a seed"
    assert collected["missing"]["ours"] == [2]
    assert "Not run yet, and in no figure here: ours (seed 2); " in "\n".join(lines)
    job = jobs.Job("released", 2, SMALL)  # a seed that ours lacks is in no difference
    job.path.write_text(json.dumps({"identity": job.identity, "figures": {"miou": 0.9}, "cpu_seconds": 1.5}))
    assert table.summary(table.collect(SMALL))["ours_minus_released"] == pytest.approx(7.0)
    assert "| ours, 16 labels and viewpoint codes | 2 | 57.5 ± 0.7 | - |" in "\n".join(lines)
    assert (_jobs.RESULTS / "labels.md").read_text().rstrip() in "\n".join(lines)


def test_nothing_to_show():
    with pytest.raises(InputError, match="run python -m benchmarks"):
        labels.main(["--show"])
