"""The inverse-graphics benchmark: jobs, rows, tables, and the whole of it at toy sizes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import _inverse_data as data
from benchmarks import _inverse_jobs as jobs
from benchmarks import _inverse_rows as rows
from benchmarks import _inverse_table as table
from benchmarks import _jobs, inverse_graphics
from benchmarks._inverse_views import Sources
from ganfoundry.data.seeds import WORLD, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.inverse_training import InverseTrainer
from ganfoundry.shape.networks import NetworkConfig

SMALL = rows.Settings(steps=2, cars=4, views=4, test=2, outer=0)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(jobs, "OUTPUT", tmp_path / "jobs")
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(_jobs, "RESULTS", tmp_path / "results")


@pytest.fixture
def sources(tmp_path) -> Sources:
    """Folders that say what they are."""
    for stage in ("generate-views", "filter-views", "label-views"):
        (tmp_path / "run" / stage).mkdir(parents=True)
        codes = {"inputs": {"views": {"path": "../../views"}}} if stage == "generate-views" else {}
        (tmp_path / "run" / stage / "run.json").write_text(json.dumps({"fingerprint": stage} | codes))
    (tmp_path / "views").symlink_to(Path("annotations/cars/views").resolve())
    return Sources.find([tmp_path / "nothing", tmp_path / "run"])


@pytest.fixture
def stand_ins(monkeypatch):
    """Trainings and measurements that cost nothing; gives the list of what was done."""
    made = []

    def train_row(row, seed, settings, sources, folder, note):
        made.append(("train", row.name, seed))
        folder.mkdir(parents=True)
        for name in (jobs.WEIGHTS, jobs.TABLE):
            (folder / name).write_text("a network")

    class Model:
        @staticmethod
        def load(folder):
            if not (folder / jobs.WEIGHTS).exists():
                raise InputError("no network")
            return folder

    def measure(row, seed, settings, sources, model):
        made.append(("measure", row.name, seed))
        return {"iou3d": 0.5 + 0.01 * seed}

    monkeypatch.setattr(jobs, "train_row", train_row)
    monkeypatch.setattr(jobs, "InverseModel", Model)
    monkeypatch.setattr(jobs, "measure", measure)
    monkeypatch.setattr(jobs, "renders", lambda settings: [])
    return made


def test_what_is_done_is_not_done_again_and_the_mean_shape_borrows_its_network(stand_ins, sources):
    wanted = jobs.jobs_of(["mean_shape", "paper"], range(2), SMALL, sources)
    jobs.run_jobs(wanted[:3], 1)
    assert [entry for entry in stand_ins if entry[0] == "train"] == [
        ("train", "default", 0), ("train", "default", 1), ("train", "paper", 0)
    ]  # fmt: skip
    stand_ins.clear()
    jobs.run_jobs([*wanted, *jobs.jobs_of(["default"], range(2), SMALL, sources)], 1)
    assert sorted(stand_ins) == [
        ("measure", "default", 0), ("measure", "default", 1), ("measure", "paper", 1), ("train", "paper", 1)
    ]  # fmt: skip
    assert wanted[1].result()["figures"] == {"iou3d": 0.51}


def test_rows_in_which_nothing_is_drawn_have_one_seed(sources):
    found = jobs.jobs_of(["truth", "mean_volume", "nearest"], range(3), SMALL, sources)
    assert [(job.row, job.seed) for job in found] == [
        ("truth", 0), ("mean_volume", 0), ("nearest", 0), ("nearest", 1), ("nearest", 2)
    ]  # fmt: skip


def test_a_killed_measurement_keeps_the_training(stand_ins, sources, monkeypatch):
    class Killed(Exception):
        pass

    def killed(*arguments):
        raise Killed

    wanted = jobs.jobs_of(["paper"], [0], SMALL, sources)
    with monkeypatch.context() as changed:
        changed.setattr(jobs, "measure", killed)
        with pytest.raises(Killed):
            jobs.run_jobs(wanted, 1)
    assert wanted[0].result() is None
    stand_ins.clear()
    jobs.run_jobs(wanted, 1)
    assert stand_ins == [("measure", "paper", 0)]


def test_a_result_of_something_else_or_a_damaged_one_does_not_count(stand_ins, sources, monkeypatch):
    (job,) = jobs.jobs_of(["default"], [0], SMALL, sources)
    jobs.run_jobs([job], 1)
    network = job.network
    assert job.result() is not None
    assert replace(job, settings=replace(SMALL, steps=3)).result() is None
    with monkeypatch.context() as changed:
        changed.setitem(rows.ROWS, "default", replace(rows.ROWS["default"], training={"objects": 4}))
        assert job.result() is None
        assert job.network != network, "another recipe does not continue the training"
    (sources.views / "run.json").write_text(json.dumps({"fingerprint": "other views"}))
    assert job.result() is None
    (sources.views / "run.json").write_text(json.dumps({"fingerprint": "generate-views"}))
    assert job.result() is not None
    job.path.write_text(job.path.read_text()[:50])
    assert job.result() is None


def test_a_given_network_is_the_default_row(stand_ins, sources, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name in (jobs.WEIGHTS, jobs.TABLE):
        (folder / name).write_text("x")
    wanted = jobs.jobs_of(["default", "mean_shape"], [0], SMALL, sources, folder)
    assert [job.network for job in wanted] == [folder, folder]
    jobs.run_jobs(wanted, 1)
    assert stand_ins == [("measure", "default", 0), ("measure", "mean_shape", 0)]
    (folder / jobs.WEIGHTS).write_text("y")
    assert wanted[0].result() is None
    with pytest.raises(InputError, match="holds no network"):
        _ = jobs.Job("default", 0, SMALL, sources, tmp_path / "empty").path


def test_bad_input(sources, tmp_path):
    with pytest.raises(InputError, match="no row 'ours'"):
        jobs.jobs_of(["ours"], [0], SMALL, sources)
    with pytest.raises(InputError, match="holds no generate-views; run `make demo`"):
        Sources.find([tmp_path])
    with pytest.raises(InputError, match="run python -m benchmarks"):
        inverse_graphics.main(["--show"])


def test_a_network_of_other_parts_is_refused():
    model = SimpleNamespace(part_names=("background", "object"), keypoint_names=())
    with pytest.raises(InputError, match="2 parts and 0 keypoints"):
        rows.check_names(model)


def test_no_car_of_a_test_is_in_the_pool_or_in_a_generator():
    roots = (data.POOL_SEED, data.TEST_SEED, 0, 1)
    seeds = [{sample_integer(root, WORLD, row) for row in range(300)} for root in roots]
    assert len(set().union(*seeds)) == 1200


def test_the_upper_bound_has_the_true_cameras_in_a_smaller_frame():
    row, settings = rows.ROWS["renders"], replace(SMALL, cars=2, views=5)
    views = data.pool_views(2, 5)
    recipe = replace(row.recipe(settings, 0), objects=2)
    trainer = InverseTrainer(rows.network_config(row, views, settings), recipe, views)
    rows.give_true_cameras(trainer, settings)
    found, true = trainer.table(torch.arange(5)), Cameras.from_cameras(data.pool_cameras(5))
    point = torch.tensor([[0.7, 0.4, 2.0]])
    assert torch.allclose(found.project(rows.FRAME * point, 64)[..., :2], true.project(point, 64)[..., :2], atol=1e-3)
    assert not any(p.requires_grad for p in trainer.table.parameters())
    exact = data.car_of(data.POOL_SEED, 1).keypoints
    pixels = true.project(torch.from_numpy(exact).float(), 64)[3, :, :2].numpy()
    assert np.abs(pixels - views.keypoints[8, :, :2]).max() < 0.01


def test_what_is_cached_is_what_was_measured():
    car = data.car_of(data.POOL_SEED, 0)
    true = data.true_solid(car, seed=0)
    (found,) = data._unpacked(data._packed([true]))
    assert np.array_equal(found.voxels, true.voxels)
    assert np.abs(found.surface.points - true.surface.points).max() < 0.002
    assert np.abs(found.surface.normals - true.surface.normals).max() < 0.001
    assert np.array_equal(found.parts, true.parts)
    assert np.allclose(found.keypoints, true.keypoints)
    assert found.known.all()
    assert found.diagonal == pytest.approx(np.linalg.norm(np.ptp(car.mesh.vertices, axis=0)))


def test_the_codes_are_those_that_the_set_was_made_with(sources):
    assert sources.codes().generator_sha256 == data.generator().sha256
    (sources.views.parent.parent / "views").unlink()
    with pytest.raises(InputError, match="views"):
        sources.codes()


def test_the_whole_of_it_at_toy_sizes(sources, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(inverse_graphics, "QUICK", SMALL)
    monkeypatch.setattr(inverse_graphics, "installed", lambda: False)
    monkeypatch.setattr(rows, "NetworkConfig", partial(NetworkConfig, level=2, width=8, texture=(16, 32)))
    monkeypatch.setattr(rows, "VIEWS_DRAWN", 4)
    monkeypatch.setattr(rows, "HELD_OUT", 0.25)
    monkeypatch.setattr(data, "POINTS", 500)
    monkeypatch.setattr(rows, "generated", lambda sources, everything: data.pool_views(4, 4))
    names = ["default", "mean_shape", "nearest", "mean_volume", "renders", "truth"]
    run = ["--rows", *names, "--seeds", "1", "--jobs", "1", "--runs", str(tmp_path / "run"), "--quick"]
    inverse_graphics.main([*run, "--picture", str(tmp_path / "sheet.png")])
    out, errors = capsys.readouterr()
    assert "cars made by others are left out" in errors
    summary = json.loads(out.splitlines()[-1])
    for name in (*table.VIEWS, *table.SOLIDS, "iou3d_mean_shape", "iou3d_mean_volume", "iou3d_renders"):
        assert summary[name] is not None, name
    assert summary["outer_iou3d"] is None
    assert (summary["seeds"], summary["steps"]) == (1, 2)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    inverse_graphics.main([*run, "--collect"])
    capsys.readouterr()
    inverse_graphics.main(["--show"])
    again = capsys.readouterr().out
    assert json.loads(again.splitlines()[-1]) == summary
    assert (_jobs.RESULTS / "inverse_graphics.md").read_text().rstrip() in again
    model = next(Path(jobs.OUTPUT).glob("*/default-seed0-*"))
    inverse_graphics.main([*run, "--model", str(model)])
    given = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert given["iou3d"] == summary["iou3d"]


def test_collected_and_summarised(stand_ins, sources, monkeypatch):
    figures = {
        "default": {"iou2d_input": 0.9, "iou3d": 0.75, "chamfer": 0.02, "azimuth_error": 3.25, "novel_psnr": 17.0},
        "mean_shape": {"iou3d": 0.6},
        "mean_volume": {"iou3d": 0.7},
        "truth": {"iou3d": 1.0},
    }
    wanted = jobs.jobs_of(figures, range(2), SMALL, sources)
    with pytest.raises(InputError, match="no job"):
        table.collect(SMALL, wanted)
    monkeypatch.setattr(
        jobs, "measure",
        lambda row, seed, *rest: {k: v + 0.02 * seed * (row.name == "default") for k, v in figures[row.name].items()},
    )  # fmt: skip
    jobs.run_jobs(wanted, 1)
    collected = table.collect(SMALL, wanted)
    assert collected["command"].startswith("python -m benchmarks.inverse_graphics --steps 2 --cars 4")
    assert collected["rows"]["default"]["figures"]["iou3d"] == pytest.approx([0.75, 0.77])
    found = table.summary(collected)
    assert found["iou3d_over_mean_shape"] == pytest.approx(0.06)  # above the better of both means
    assert found["part_miou"] is None
    assert found["seeds"] == 2
    page = table.markdown(collected)
    assert "| ours | 2 | 76.0 ± 1.4 | 3.0 ± 1.4 | 3.26 ± 0.01 | 17.01 ± 0.01 |" in page
    assert "| one volume: mean of true training shapes | 1 | 70.0 | - | - | - |" in page
    assert "Cars made by others\n" not in page
