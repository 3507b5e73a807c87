"""The export stage: the same bytes always, nothing half-written, memory that does not grow, an earlier export kept."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from ganfoundry.data.checksums import check_files, read_checksums
from ganfoundry.errors import InputError
from pipeline.artifacts import Export, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from stages.export import FORMATS, Config, run
from tests.stages.exporthelp import CLASSES, DROPPED, KEPT, ROWS, make_arrays, make_set, tree

ROOT = Path(__file__).parents[2]
ALL = Config(formats=FORMATS, license="CC0-1.0", val_fraction=0.2, rows_per_file=10)
CALL = (
    "import sys\n"
    "from pipeline.artifacts import Export, LabelledSet, Writer\n"
    "from pipeline.stage import Context\n"
    "from stages.export import FORMATS, Config, run\n"
    "config = Config(formats=FORMATS, license='CC0-1.0', val_fraction=0.2, rows_per_file=10)\n"
    "try:\n    run(config, LabelledSet(sys.argv[1]), Writer[Export](sys.argv[2], sys.argv[3]), Context())\n"
    "except Exception as error:\n    print(error)\n    sys.exit(error.exit_code)\n"
)


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def exported(labelled_set, tmp_path_factory):
    out = Writer[Export](tmp_path_factory.mktemp("export"), "f" * 64)
    run(ALL, labelled_set, out, Context())
    return out


def export(labelled, folder, fingerprint="f" * 64, context=None, **options):
    out = Writer[Export](folder, fingerprint)
    run(Config(**options) if options else ALL, labelled, out, context or Context())
    return out


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_figures_and_default_formats(labelled_set, tmp_path):
    out = export(labelled_set, tmp_path, license="CC0-1.0")
    assert visible(tmp_path) == [
        *("README.md", "checksums.json", "coco", "croissant.json", "dataset.h5", "gallery.png", "statistics.json"),
    ]
    table = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert (out.figures["images"], out.figures["left_out"]) == (len(KEPT), len(DROPPED))
    assert out.figures["coco_annotations"] == len(table["annotations"])
    assert table["licenses"][0]["name"] == "CC0-1.0"
    assert len({entry["id"] for entry in table["annotations"]}) == len(table["annotations"])


def test_everything_on_request(labelled_set, tmp_path):
    export(labelled_set, tmp_path, formats=("hdf5",), include_dropped=True, uncertainty_maps=True)
    with h5py.File(tmp_path / "dataset.h5") as file:
        assert len(file["image"]) == ROWS
        assert np.flatnonzero(~file["keep"][:]).tolist() == list(DROPPED)
        assert np.array_equal(file["uncertainty"][...], make_arrays(range(ROWS))["uncertainty"])


def test_without_a_licence_the_card_says_so(labelled_set, tmp_path):
    export(labelled_set, tmp_path, formats=("huggingface",))
    assert "No licence has been given" in (tmp_path / "README.md").read_text()
    assert "license: unknown" in (tmp_path / "huggingface" / "README.md").read_text()


def test_checksums_are_those_of_all_files(exported):
    files = read_checksums(exported.path)
    assert set(files) | {"checksums.json"} == set(tree(exported.path))
    assert check_files(exported.path, files, ignore=("checksums.json",)) == []


@pytest.mark.slow
def test_same_bytes_from_another_place_and_two_workers(exported, tmp_path):
    from pipeline.executor import make_executor

    labelled = make_set(tmp_path / "elsewhere")
    executor = make_executor(2)
    try:
        export(labelled, tmp_path / "out", context=Context(executor=executor))
    finally:
        executor.close()
    assert tree(tmp_path / "out") == tree(exported.path)


class Stop(Exception):
    pass


class StoppingExecutor:
    """Stops after a number of tasks."""

    def __init__(self, tasks):
        self.left, self.done = tasks, []

    def map(self, function, tasks, label):
        for position, task in enumerate(tasks):
            if self.left == 0:
                raise Stop
            self.left -= 1
            self.done.append((task.format, task.index))
            yield position, function(task)

    def close(self):
        pass


def test_goes_on_where_it_stopped_and_ends_with_the_same_bytes(labelled_set, exported, tmp_path):
    done = []
    for tasks in (0, 3, 4, 100):
        executor = StoppingExecutor(tasks)
        try:
            export(labelled_set, tmp_path, context=Context(executor=executor))
        except Stop:
            assert visible(tmp_path) == []
        done += executor.done
    assert len(done) == len(set(done)), "a block that was whole was written again"
    assert tree(tmp_path) == tree(exported.path)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_work_on_another_export_is_not_gone_on_with(labelled_set, exported, tmp_path):
    with pytest.raises(Stop):
        export(labelled_set, tmp_path, "e" * 64, Context(executor=StoppingExecutor(5)))
    (tmp_path / ".new" / "coco" / "images" / "00000000.png").write_bytes(b"of another export")
    export(labelled_set, tmp_path)
    assert tree(tmp_path) == tree(exported.path)


def test_verify_makes_everything_again(labelled_set, exported, tmp_path):
    export(labelled_set, tmp_path)
    (tmp_path / "coco" / "images" / "00000001.png").write_bytes(b"damaged")
    (tmp_path / "png" / "masks" / "00000001.png").unlink()
    with open(tmp_path / "dataset.h5", "r+b") as file:
        file.seek(9000)
        file.write(b"damage")
    found = check_files(tmp_path, read_checksums(tmp_path), ignore=("checksums.json",))
    assert [damage.file for damage in found] == ["dataset.h5", "coco/images/00000001.png", "png/masks/00000001.png"]
    export(labelled_set, tmp_path, context=Context(verify=True))
    assert tree(tmp_path) == tree(exported.path)


@pytest.mark.slow
def test_killed_again_and_again(labelled_set, exported, tmp_path):
    """kill -9 after some blocks are whole: nothing is visible yet, and the end is that of an uninterrupted run."""
    command = [sys.executable, "-c", CALL, str(labelled_set.path), str(tmp_path), "f" * 64]
    for records in (1, 5, 12):
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and len(list(tmp_path.glob(".new/.parts/*.files"))) < records:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert tree(tmp_path) == {}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".new/coco/images/*.png")}
    subprocess.run(command, cwd=ROOT, check=True)
    assert tree(tmp_path) == tree(exported.path)
    assert all((tmp_path / "coco" / "images" / path.name).stat().st_mtime_ns == when for path, when in before.items())


def test_the_earlier_export_stays_until_the_new_one_is_whole(labelled_set, tmp_path):
    export(labelled_set, tmp_path, "e" * 64, formats=("hdf5", "webdataset"), license="old")
    (tmp_path / "run.json").write_text("{}")
    before = tree(tmp_path)
    with pytest.raises(Stop):
        export(labelled_set, tmp_path, context=Context(executor=StoppingExecutor(5)))
    assert tree(tmp_path) == before
    export(labelled_set, tmp_path, "d" * 64, formats=("png",))
    assert visible(tmp_path) == [
        *("README.md", "checksums.json", "croissant.json", "gallery.png", "png", "run.json", "statistics.json"),
    ]


@pytest.mark.parametrize("limit", [300, 20_000])
def test_full_disk_is_one_sentence_and_loses_nothing(labelled_set, exported, tmp_path, limit):
    """HDF5 left to itself ends the process by a segmentation fault here."""
    export(labelled_set, tmp_path, "e" * 64, formats=("hdf5", "coco"), license="old")
    before = tree(tmp_path)

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", CALL, str(labelled_set.path), str(tmp_path), "f" * 64]
    result = subprocess.run(command, cwd=ROOT, preexec_fn=limit_file_size, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"cannot write {tmp_path}/.new")
    assert "raise the file size limit" in result.stdout
    assert result.stdout.count("\n") == 1
    assert tree(tmp_path) == before
    assert list(tmp_path.rglob(".tmp-*")) == []
    export(labelled_set, tmp_path)
    assert tree(tmp_path) == tree(exported.path)


def _peak(rows, folder):
    labelled = make_set(folder / "set", rows=rows, dropped=(1,), rows_per_shard=50)
    tracemalloc.start()
    try:
        export(labelled, folder / "out", formats=("hdf5", "coco", "webdataset"), rows_per_file=100)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(exported, tmp_path):
    """600 more rows of 3.5 kB: 2 MB if they were held; of a row its number, split and group are."""
    _peak(50, tmp_path / "warm")
    few, many = _peak(200, tmp_path / "few"), _peak(800, tmp_path / "many")
    assert many - few < 600 * 500


def test_unknown_class_in_a_label_map_is_refused(tmp_path):
    def change(arrays, first):
        if first == 16:
            arrays["label"][4, 0, 0] = 9

    labelled = make_set(tmp_path / "set", change)
    for formats in (("hdf5",), ("png",), ("webdataset",)):
        with pytest.raises(InputError, match=r"map of row 20 holds the class 9, but labels.json names only 4"):
            export(labelled, tmp_path / "out", formats=formats)
    assert visible(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"keypoints": ["nose"]}, r"keypoints of shape \(3, 3\), but labels.json names 1"),
        ({"classes": None}, "is damaged"),
        ({"palette": [[0, 0, 0]]}, "palette has one"),
        ({"palette": [[0, 0, 300]] * 4}, "palette has one"),
        ({"classes": ["a", "a", "b", "c"]}, "different names"),
        ({"keypoints": ["a", "a", "b"]}, "different names"),
    ],
)
def test_damaged_description_is_one_sentence(tmp_path, change, sentence):
    labelled = make_set(tmp_path / "set", table=change)
    with pytest.raises(InputError, match=sentence):
        export(labelled, tmp_path / "out")


def test_missing_parts_of_the_set(tmp_path):
    labelled = make_set(tmp_path / "set")
    (tmp_path / "set" / "selection.json").write_text(json.dumps({"rows": 90, "dropped": []}))
    with pytest.raises(UserError, match="keeps row 89 of 40"):
        export(labelled, tmp_path / "out")
    (tmp_path / "set" / "selection.json").write_text(json.dumps({"rows": 1, "dropped": [{"row": 0}]}))
    with pytest.raises(UserError, match="no row that is kept"):
        export(labelled, tmp_path / "out")
    (tmp_path / "set" / "labels.json").unlink()
    with pytest.raises(InputError, match=r"labels\.json is missing"):
        export(labelled, tmp_path / "out")


def test_damaged_shard_stops_the_export(tmp_path):
    labelled = make_set(tmp_path / "set")
    path = tmp_path / "set" / "shards" / "shard-00001.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"shard-00001.h5 is damaged .* with --verify"):
        export(labelled, tmp_path / "out")
    assert visible(tmp_path / "out") == []


def test_parquet_without_pyarrow(labelled_set, tmp_path, monkeypatch):
    find = __import__("importlib.util", fromlist=["util"]).find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else find(name))
    with pytest.raises(InputError, match=r'pip install "ganfoundry\[parquet\]"'):
        export(labelled_set, tmp_path)
    assert visible(tmp_path) == []


def test_nothing_to_write(labelled_set, tmp_path):
    with pytest.raises(UserError, match="name at least one of --formats hdf5,coco"):
        export(labelled_set, tmp_path, formats=())


def test_rows_that_show_one_object_stay_together(tmp_path):
    def change(arrays, first):
        arrays["object"] = ((first + np.arange(len(arrays["seed"]))) // 5).astype(np.int32)

    labelled = make_set(tmp_path / "set", change, keypoints=False)
    export(labelled, tmp_path / "out", formats=("hdf5",), val_fraction=0.25, test_fraction=0.25, include_dropped=True)
    with h5py.File(tmp_path / "out" / "dataset.h5") as file:
        split = file["split"][:].reshape(8, 5)
    assert (split == split[:, :1]).all()
    assert sorted(np.bincount(split[:, 0]).tolist()) == [2, 2, 4]


@pytest.mark.parametrize(("val", "test", "sentence"), [(0.5, 0.5, "leave something"), (0.01, 0.0, "is none")])
def test_splits_that_cannot_be(labelled_set, tmp_path, val, test, sentence):
    with pytest.raises(InputError, match=sentence):
        export(labelled_set, tmp_path, val_fraction=val, test_fraction=test)


def test_classes_are_counted(exported):
    table = json.loads((exported.path / "statistics.json").read_text())
    labels = make_arrays(KEPT)["label"]
    assert [entry["name"] for entry in table["classes"]] == CLASSES
    for index, entry in enumerate(table["classes"]):
        assert entry["pixel_share"] == pytest.approx((labels == index).mean(), abs=1e-6)
        assert entry["images"] == (labels == index).any(axis=(1, 2)).sum()
    histogram = table["uncertainty"]
    assert (sum(histogram["kept"]), sum(histogram["dropped"])) == (len(KEPT), len(DROPPED))
    assert table["reasons"] == [{"reason": "too uncertain", "images": 3}]
    assert table["splits"] == {"train": 30, "val": 7}
