"""synthesize-3d on a random generator and a network that has learnt nothing: rows, meshes, bytes, refusals."""

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from ganfoundry.data import integrity
from ganfoundry.data.dataset import LabelledDataset
from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.data.shards import ShardReader
from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.labels.labelset import kept_rows
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.views import ViewCodeSet
from ganfoundry.views.synthesis import render_pairs
from pipeline.artifacts import Gan, InverseGraphics, LabelledSet3D, ViewCodes, Writer
from pipeline.errors import UserError
from pipeline.executor import SerialExecutor
from pipeline.progress import Display
from pipeline.stage import Context
from stages import inspect, synthesize_3d
from stages.synthesize_3d import Config
from tests.ganfoundry.shape.labelledtoys import KEYPOINTS, PARTS, untrained
from tests.stages.labelhelp import shades_gan
from tests.stages.viewhelp import view_codes

SIZE = 16
OPTIONS: dict[str, Any] = {
    "num_objects": 5,
    "objects_per_shard": 2,
    "code_views": 3,
    "random_views": 1,
    "detector": "cars-detector",
    "min_iou": 0.0,  # noise is no car
    "min_view_iou": 0.0,
}


class Sources(NamedTuple):
    """Inputs of synthesize-3d."""

    gan: Gan
    views: ViewCodes
    network: InverseGraphics


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    gan = shades_gan(folder / "gan")
    views = view_codes(folder / "views", gan, shapes=("van", "coupe"))
    return Sources(gan, views, network(folder / "network", gan))


def network(folder: Path, gan: Gan, **table: Any) -> InverseGraphics:
    untrained(folder, gan.generator_sha256, **{"size": SIZE, "codes": 24, "level": 1, **table})
    return InverseGraphics(folder)


def synthesize(folder: Path, sources: Sources, executor: Any = None, **options: Any) -> Writer[LabelledSet3D]:
    out: Writer[LabelledSet3D] = Writer(folder, "f" * 64)
    config = Config(**{**OPTIONS, **options})
    synthesize_3d.run(config, *sources, out, Context(executor=executor or SerialExecutor()))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Writer[LabelledSet3D]:
    return synthesize(tmp_path_factory.mktemp("made"), sources)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that tell the time."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_fields(made: Writer[LabelledSet3D]) -> None:
    def shapes(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
        return {field: (value.shape, value.dtype.name) for field, value in ShardReader(made.path / name).row(0).items()}

    assert shapes("shards") == {
        "image": ((16, 16, 3), "uint8"),
        "drawn": ((), "uint8"),
        "mask": ((16, 16), "uint8"),
        "label": ((16, 16), "uint8"),
        "depth": ((16, 16), "float32"),
        "normals": ((16, 16, 3), "float16"),
        "uv": ((16, 16, 2), "float32"),
        "keypoints": ((2, 3), "float32"),
        "keypoint_state": ((2,), "uint8"),
        "keypoints_3d": ((2, 3), "float32"),
        "camera": ((6,), "float32"),
        "intrinsics": ((3, 3), "float32"),
        "extrinsics": ((3, 4), "float32"),
        "object": ((), "int32"),
        "view": ((), "int32"),
        "w_content": ((8,), "float32"),
        "w_view": ((8,), "float32"),
        "seed": ((), "uint64"),
        "score": ((), "float32"),
    }
    assert shapes("meshes") == {
        "vertices": ((42, 3), "float32"),
        "texture": ((16, 32, 3), "uint8"),
        "part_texture": ((32, 64), "uint8"),
        "face_parts": ((80,), "uint8"),
        "keypoints_3d": ((2, 3), "float32"),
        "w_content": ((8,), "float32"),
        "seed": ((), "uint64"),
        "read_view": ((), "int32"),
        "iou": ((), "float32"),
    }
    assert shapes("topology").keys() == {"faces", "uv", "face_uv"}
    assert (len(ShardReader(made.path / "shards")), len(ShardReader(made.path / "meshes"))) == (20, 5)


def test_a_row_follows_from_its_seed_and_code(made: Writer[LabelledSet3D], sources: Sources) -> None:
    generator, codes = load_gan(sources.gan.path).generator, ViewCodeSet.load(sources.views.path)
    rows = ShardReader(made.path / "shards").rows(range(20))
    assert rows["object"].tolist() == np.repeat(range(5), 4).tolist()
    assert rows["view"].reshape(5, 4)[:, 3].tolist() == [-1] * 5
    assert rows["drawn"].reshape(5, 4).tolist() == [[0, 0, 0, 1]] * 5
    shown = rows["view"].reshape(5, 4)[:, :3]
    assert (shown // 12 == (np.arange(5) % 2)[:, None]).all()  # objects keep to their shape's codes
    assert (np.diff(np.sort(shown % 12), axis=1) == 4).all()  # evenly spread
    for row in (0, 9, 18):
        assert int(rows["seed"][row]) == sample_integer(1, CONTENT, row // 4)
        content, view = torch.from_numpy(rows["w_content"][[row]]), torch.from_numpy(rows["w_view"][[row]])
        assert np.array_equal(view[0].numpy(), codes.w[rows["view"][row]])
        image = render_pairs(generator.synthesis, content, view, codes.layers)[0]
        assert np.abs(image.astype(int) - rows["image"][row]).max() <= 1


def test_the_rows_maps_and_the_objects_mesh_say_the_same(made: Writer[LabelledSet3D]) -> None:
    rows, meshes = ShardReader(made.path / "shards"), ShardReader(made.path / "meshes")
    topology = ShardReader(made.path / "topology").row(0)
    assert topology["faces"].max() == 41
    for index in (2, 19):
        row = rows.row(index)
        mesh = meshes.row(int(row["object"]))
        inside = row["mask"] > 0
        assert inside.any()
        for name in ("label", "depth", "normals", "uv"):
            assert not row[name][~inside].any()
        u, v = row["uv"][inside].T
        expected = mesh["part_texture"][(v * 32).astype(int).clip(0, 31), (u * 64).astype(int) % 64]
        assert row["label"][inside].tolist() == expected.tolist()
        np.testing.assert_allclose(np.linalg.norm(row["normals"][inside].astype(float), axis=-1), 1, atol=2e-3)
        y, x = np.argwhere(inside).T + 0.5
        local = np.linalg.inv(row["intrinsics"].astype(float)) @ np.stack([x, y, np.ones_like(x)])
        local *= row["depth"][inside]
        rotation, shift = row["extrinsics"][:, :3].astype(float), row["extrinsics"][:, 3:]
        points = (rotation.T @ (local - shift)).T
        low, high = mesh["vertices"].min(0), mesh["vertices"].max(0)
        assert (points > low - 1e-3).all()
        assert (points < high + 1e-3).all()
        place = -rotation.T @ shift[:, 0]
        azimuth, elevation, distance = row["camera"][:3]
        assert np.degrees(np.arctan2(place[0], place[2])) % 360 == pytest.approx(azimuth, abs=1e-3)
        assert np.degrees(np.arcsin(place[1] / distance)) == pytest.approx(elevation, abs=1e-3)


def test_keypoints_are_those_of_the_mesh(made: Writer[LabelledSet3D]) -> None:
    rows, meshes = ShardReader(made.path / "shards").rows(range(20)), ShardReader(made.path / "meshes")
    assert np.array_equal(rows["keypoints_3d"], meshes.read("keypoints_3d").repeat(4, 0))
    points = np.concatenate([rows["keypoints_3d"], np.ones((20, 2, 1))], 2).transpose(0, 2, 1)
    places = rows["intrinsics"] @ rows["extrinsics"] @ points
    np.testing.assert_allclose(
        rows["keypoints"][..., :2], (places[:, :2] / places[:, 2:]).transpose(0, 2, 1), atol=1e-2
    )
    assert np.array_equal(rows["keypoints"][..., 2] == 1, rows["keypoint_state"] == 2)


def test_it_opens_as_a_labelled_set(made: Writer[LabelledSet3D]) -> None:
    data = LabelledDataset(made.path)
    assert data.description.classes == PARTS
    assert data.description.keypoints == KEYPOINTS
    assert set(data[3]) == {"image", "label", "keypoints"}
    found = inspect.examine(made.path, {"kind": "labelled-set-3d"}, Display(quiet=True))
    assert found.kind == "a labelled 3D set"
    assert not found.damage
    assert found.statistics["images"] == 20
    assert found.gallery is not None
    assert (made.path / "sheet.png").stat().st_size > 1000
    assert "Views and their labels" in (made.path / "report.html").read_text()
    assert {"objects", "kept_objects", "kept", "iou_read", "iou_views", "label_consistency"} <= made.figures.keys()


def test_only_drawn_pictures_when_asked(tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]) -> None:
    out = synthesize(tmp_path, sources, drawn=True, num_objects=2)
    rows, before = ShardReader(out.path / "shards").rows(range(8)), ShardReader(made.path / "shards").rows(range(8))
    assert rows["drawn"].all()
    assert np.array_equal(rows["label"], before["label"])
    assert np.array_equal(rows["image"][3], before["image"][3])
    assert (rows["image"][:3][rows["mask"][:3] == 0] == 255).mean() > 0.5


def test_viewpoint_codes_alone(tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]) -> None:
    out = synthesize(tmp_path, sources, random_views=0, num_objects=1)
    rows = ShardReader(out.path / "shards")
    assert rows.read("view").min() >= 0
    before = ShardReader(made.path / "shards").rows(range(3))
    for name, values in rows.rows(range(3)).items():
        assert np.array_equal(values, before[name]), name


def test_random_cameras_alone(tmp_path: Path, sources: Sources) -> None:
    out = synthesize(tmp_path, sources, code_views=0, random_views=2, num_objects=2)
    rows = ShardReader(out.path / "shards").rows(range(4))
    assert rows["view"].tolist() == [-1] * 4
    assert not rows["w_view"].any()
    assert len(np.unique(rows["camera"][:, 0])) == 4
    assert (ShardReader(out.path / "meshes").read("read_view") >= 0).all()
    assert "iou_views" not in out.figures


def test_poor_objects_are_dropped_and_the_limit_alone_makes_nothing_again(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half:
        """Sees the left half of a picture, and of pictures that are bright there nothing."""

        def detect(self, images: np.ndarray) -> list[Any]:
            from ganfoundry.detect.filtering import Instances

            _, x = np.mgrid[:SIZE, :SIZE]
            found = []
            for image in images:
                seen = image[:, : SIZE // 2].mean() < np.median(images)
                masks = (x < SIZE // 2)[None] if seen else np.zeros((0, SIZE, SIZE), bool)
                ones = np.ones(len(masks), np.float32)
                found.append(Instances(masks, ones, np.zeros((len(masks), 4), np.float32), ones.astype(np.int64)))
            return found

    monkeypatch.setattr("ganfoundry.shape.labelled_objects.open_detector", lambda *_, **__: Half())
    synthesize_3d._factory.cache_clear()
    out = synthesize(tmp_path, sources)
    own = ShardReader(out.path / "meshes").read("iou")
    iou = 1 - ShardReader(out.path / "shards").read("score")
    assert 0 == own.min() < own.max() < 1
    assert np.allclose(iou.reshape(5, 4)[:, 0], own, atol=1e-6)  # the first view is read
    assert np.allclose(iou.reshape(5, 4)[:, 3], own, atol=1e-6)  # of a drawn view it is the object's
    before = contents(tmp_path)
    synthesize(tmp_path, sources, min_iou=0.01)
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {"selection.json", "report.html", "sheet.png"}
    table = json.loads((tmp_path / "selection.json").read_text())
    assert {entry["row"] // 4 for entry in table["dropped"]} == set(np.flatnonzero(own < 0.01).tolist())
    assert table["reasons"] == {"object's IoU below 0.01": 4 * int((own < 0.01).sum())}
    assert len(LabelledDataset(tmp_path)) == len(kept_rows(tmp_path)) == table["kept"]
    with pytest.raises(InputError, match="all 20 rows would be dropped"):
        synthesize(tmp_path, sources, min_iou=1.0)
    synthesize_3d._factory.cache_clear()


class TwoProcesses:
    """Runs tasks in two new processes, the last task first."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any], label: str) -> Iterator[tuple[int, Any]]:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [(i, pool.submit(function, task)) for i, task in reversed(list(enumerate(tasks)))]
            yield from ((i, future.result()) for i, future in futures)


@pytest.mark.slow
def test_the_same_bytes_from_two_processes(tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]) -> None:
    synthesize(tmp_path, sources, TwoProcesses())
    assert contents(tmp_path) == contents(made.path)


def test_objects_do_not_depend_on_their_neighbours(
    tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]
) -> None:
    out = synthesize(tmp_path, sources, num_objects=3, objects_per_shard=3)
    for name, count in (("shards", 12), ("meshes", 3)):
        mine, theirs = (ShardReader(folder / name).rows(range(count)) for folder in (out.path, made.path))
        for field in mine:
            assert np.array_equal(mine[field], theirs[field]), field


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.artifacts import Gan, InverseGraphics, ViewCodes
from pipeline.executor import SerialExecutor
from tests.stages.test_synthesize_3d import Sources, synthesize

class Killed(SerialExecutor):
    def map(self, function, tasks, label):
        for count, item in enumerate(super().map(function, tasks, label)):
            if count == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

gan, views, network = (Path(path) for path in sys.argv[2:])
synthesize(Path(sys.argv[1]), Sources(Gan(gan), ViewCodes(views), InverseGraphics(network)), Killed())
"""


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]) -> None:
    root = Path(__file__).resolve().parents[2]
    paths = [str(tmp_path), *(str(source.path) for source in sources)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *paths], cwd=root, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    first = tmp_path / "shards" / "shard-00000.h5"
    before = first.stat().st_mtime_ns
    synthesize(tmp_path, sources)
    assert first.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(made.path)


def test_a_lost_mesh_shard_is_made_again(tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D]) -> None:
    shutil.copytree(made.path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "meshes" / "shard-00001.h5").unlink()
    tasks: list[Any] = []

    class Counting(SerialExecutor):
        def map(self, function: Callable[[Any], Any], todo: Sequence[Any], label: str) -> Iterator[tuple[int, Any]]:
            tasks.extend(todo)
            return super().map(function, todo, label)

    synthesize(tmp_path, sources, Counting())
    assert [task.index for task in tasks] == [1]
    assert contents(tmp_path) == contents(made.path)


def test_a_full_disk_is_said_and_costs_one_shard(
    tmp_path: Path, sources: Sources, made: Writer[LabelledSet3D], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).match("meshes/shard-00001.h5"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(integrity.os, "replace", full)
    with pytest.raises(RunError, match=r"shard-00001\.h5.*(space|full)") as error:
        synthesize(tmp_path, sources)
    assert error.value.exit_code == 1
    assert not list(tmp_path.rglob(".tmp-*"))
    monkeypatch.undo()
    synthesize(tmp_path, sources)
    assert contents(tmp_path) == contents(made.path)


def test_a_network_of_another_generator_is_refused(tmp_path: Path, sources: Sources) -> None:
    other = shades_gan(tmp_path / "other", seed=1)
    views = view_codes(tmp_path / "views", other, shapes=("van", "coupe"))
    with pytest.raises(InputError, match="the network was trained on views of the generator"):
        synthesize(tmp_path / "out", Sources(other, views, sources.network))
    with pytest.raises(InputError, match="these viewpoint codes belong to the generator"):
        synthesize(tmp_path / "out", Sources(other, sources.views, sources.network))


def test_a_network_trained_with_other_codes_is_refused(tmp_path: Path, sources: Sources) -> None:
    shutil.copytree(sources.network.path, tmp_path / "network")
    record = {"kind": "inverse-graphics", "inputs": {"views": {"fingerprint": "0" * 64}}}
    (tmp_path / "network" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="was trained with other viewpoint codes than those in") as error:
        synthesize(tmp_path / "out", sources._replace(network=InverseGraphics(tmp_path / "network")))
    assert error.value.exit_code == 2


def test_a_network_without_parts_is_refused(tmp_path: Path, sources: Sources) -> None:
    plain = network(tmp_path / "network", sources.gan, classes=["background", "object"], keypoints=[])
    with pytest.raises(InputError, match="knows no parts"):
        synthesize(tmp_path / "out", sources._replace(network=plain))


def test_without_keypoints_there_are_parts_alone(tmp_path: Path, sources: Sources) -> None:
    plain = network(tmp_path / "network", sources.gan, keypoints=[])
    assert InverseModel.load(plain.path).keypoint_names == ()
    out = synthesize(tmp_path / "out", sources._replace(network=plain), num_objects=1)
    assert not [name for name in ShardReader(out.path / "shards").fields if "keypoint" in name]
    assert set(LabelledDataset(out.path)[0]) == {"image", "label"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code_views": 0, "random_views": 0}, "no view to label"),
        ({"code_views": 13}, "13 code views are too many; each shape has 12 codes"),
        ({"detector": ""}, "give one with --detector"),
        ({"detector": "nothing"}, "there are no detector weights 'nothing'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    tmp_path: Path, sources: Sources, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        synthesize(tmp_path, sources, **options)
    assert error.value.exit_code == 2
    assert not (tmp_path / "shards").exists()
