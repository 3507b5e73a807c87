"""The export stage on a small labelled set; the files are read back by plain h5py and by pycocotools."""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ganfoundry.data.hdf5_export import SetDescription, is_whole, pack_hdf5
from ganfoundry.data.seeds import CONTENT, sample_integer, sample_rng
from ganfoundry.data.shards import ShardFolder, ShardReader, write_shard
from ganfoundry.errors import InputError
from ganfoundry.labels.labelset import Selection
from pipeline.artifacts import Export, LabelledSet, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from stages.export import Config, coco_rows, run

ROOT = Path(__file__).parents[2]
ROWS, DROPPED = 40, (3, 17, 39)
KEPT = [row for row in range(ROWS) if row not in DROPPED]
CLASSES = ["background", "body", "wheel", "window"]
TABLE = {
    "level": "coarse",
    "classes": CLASSES,
    "palette": [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200]],
    "generator_sha256": "a" * 64,
    "interpreter_sha256": "b" * 64,
}


def make_arrays(rows):
    rngs = [sample_rng(1, CONTENT, row) for row in rows]
    labels = [np.kron(rng.integers(0, 4, (4, 4)), np.ones((6, 6))).astype(np.uint8) for rng in rngs]
    return {
        "image": np.stack([rng.integers(0, 256, (24, 24, 3), np.uint8) for rng in rngs]),
        "label": np.stack(labels),
        "uncertainty": np.stack([rng.random((24, 24)).astype(np.float16) for rng in rngs]),
        "score": np.array([rng.random() for rng in rngs], np.float32),
        "w": np.stack([rng.standard_normal(6).astype(np.float32) for rng in rngs]),
        "seed": np.array([sample_integer(1, CONTENT, row) for row in rows], np.uint64),
    }


def make_set(path, change=None, table=TABLE):
    with ShardFolder(path / "shards", ROWS, 16, "key") as shards:
        for task in shards.pending():
            arrays = make_arrays(task.rows)
            if change:
                change(arrays, task.first)
            shards.acknowledge(write_shard(shards.folder, task.index, arrays, task.first))
        shards.finish()
    (path / "labels.json").write_text(json.dumps(table))
    Selection(ROWS, DROPPED, (0.9,) * len(DROPPED), "too uncertain", 0.1, 0.8).save(path / "selection.json")
    return LabelledSet(path)


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def exported(labelled_set, tmp_path_factory):
    out = Writer[Export](tmp_path_factory.mktemp("export"), "f" * 64)
    run(Config(license="CC0-1.0"), labelled_set, out, Context())
    return out


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_hdf5_holds_exactly_the_kept_rows(exported):
    truth = make_arrays(KEPT)
    with h5py.File(exported.path / "dataset.h5") as file:
        assert sorted(file) == ["image", "keep", "label", "row", "score", "seed", "w"]
        for name in ("image", "label", "score", "w", "seed"):
            assert np.array_equal(file[name][...], truth[name])
            assert file[name].dtype == truth[name].dtype
        assert file["row"][:].tolist() == KEPT
        assert file["keep"][:].all()
        assert file["image"].chunks == (1, 24, 24, 3)
        assert all(dataset.fletcher32 for dataset in file.values())


def test_hdf5_says_where_it_comes_from(exported):
    with h5py.File(exported.path / "dataset.h5") as file:
        attributes = dict(file.attrs)
    assert json.loads(attributes["classes"]) == CLASSES
    assert attributes["palette"].tolist() == TABLE["palette"]
    assert attributes["schema_version"] == 1
    assert attributes["license"] == "CC0-1.0"
    assert (attributes["generator_sha256"], attributes["interpreter_sha256"]) == ("a" * 64, "b" * 64)
    assert isinstance(json.loads(attributes["provenance"]), dict)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_pycocotools_reads_every_mask_back(exported):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(exported.path / "coco" / "annotations.json"))
    truth = dict(zip(KEPT, zip(*(make_arrays(KEPT)[name] for name in ("image", "label")), strict=True), strict=True))
    assert coco.getImgIds() == KEPT
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds())] == [*CLASSES[1:], "object"]
    for row in KEPT:
        image, label = truth[row]
        entry = coco.imgs[row]
        with Image.open(exported.path / "coco" / entry["file_name"]) as picture:
            assert np.array_equal(np.asarray(picture), image)
        assert (entry["height"], entry["width"]) == label.shape
        rebuilt = np.zeros_like(label)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[row])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            if annotation["category_id"] == len(CLASSES):
                assert np.array_equal(mask, label > 0)
            else:
                rebuilt[mask] = annotation["category_id"]
        assert np.array_equal(rebuilt, label)


def test_figures(exported):
    assert exported.figures["images"] == len(KEPT)
    assert exported.figures["left_out"] == len(DROPPED)
    table = json.loads((exported.path / "coco" / "annotations.json").read_text())
    assert exported.figures["coco_annotations"] == len(table["annotations"])
    assert table["licenses"][0]["name"] == "CC0-1.0"


def test_everything_on_request(labelled_set, tmp_path):
    out = Writer[Export](tmp_path)
    run(Config(include_dropped=True, uncertainty_maps=True, coco=False), labelled_set, out, Context())
    with h5py.File(tmp_path / "dataset.h5") as file:
        assert len(file["image"]) == ROWS
        assert np.flatnonzero(~file["keep"][:]).tolist() == list(DROPPED)
        assert np.array_equal(file["uncertainty"][...], make_arrays(range(ROWS))["uncertainty"])
    assert os.listdir(tmp_path) == ["dataset.h5"]


def test_same_bytes_again_and_after_an_interruption(labelled_set, exported, tmp_path):
    class Stop(Exception):
        pass

    class StoppingExecutor:
        def map(self, function, tasks, label):
            coco_rows(tasks[0])
            raise Stop

        def close(self):
            pass

    out = Writer[Export](tmp_path, "f" * 64)
    with pytest.raises(Stop):
        run(Config(license="CC0-1.0"), labelled_set, out, Context(executor=StoppingExecutor()))
    assert not (tmp_path / "coco" / "annotations.json").exists()
    (tmp_path / "coco" / "images" / ".tmp-1-2").write_bytes(b"left over")
    (tmp_path / "coco" / "images" / "00000000.png").write_bytes(b"")
    inode = (tmp_path / "dataset.h5").stat().st_ino
    run(Config(license="CC0-1.0"), labelled_set, out, Context())
    assert (tmp_path / "dataset.h5").stat().st_ino == inode  # not written a second time
    assert tree(tmp_path) == tree(exported.path)


def test_verify_makes_everything_again(labelled_set, exported, tmp_path):
    out = Writer[Export](tmp_path, "f" * 64)
    run(Config(license="CC0-1.0"), labelled_set, out, Context())
    (tmp_path / "coco" / "images" / "00000001.png").write_bytes(b"damaged")
    with open(tmp_path / "dataset.h5", "r+b") as file:
        file.seek(9000)
        file.write(b"damage")
    run(Config(license="CC0-1.0"), labelled_set, out, Context(verify=True))
    assert tree(tmp_path) == tree(exported.path)


def test_another_fingerprint_or_damage_is_not_whole(exported, tmp_path):
    path = tmp_path / "dataset.h5"
    data = (exported.path / "dataset.h5").read_bytes()
    path.write_bytes(data)
    assert is_whole(path, "f" * 64)
    assert not is_whole(path, "e" * 64)
    path.write_bytes(data[:-100])
    assert not is_whole(path, "f" * 64)
    assert not is_whole(tmp_path / "absent.h5", "f" * 64)


def test_unknown_class_in_a_label_map_is_refused(tmp_path):
    def change(arrays, first):
        if first == 16:
            arrays["label"][4, 0, 0] = 9

    labelled = make_set(tmp_path / "set", change)
    with pytest.raises(InputError, match=r"map of row 20 holds the class 9, but labels.json names only 4"):
        run(Config(), labelled, Writer[Export](tmp_path / "out"), Context())
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": None}, "is damaged"),
        ({"palette": [[0, 0, 0]]}, "palette has one"),
        ({"palette": [[0, 0, 300]] * 4}, "palette has one"),
        ({"classes": ["a", "a", "b", "c"]}, "different names"),
    ],
)
def test_damaged_description_is_one_sentence(tmp_path, change, sentence):
    (tmp_path / "labels.json").write_text(json.dumps(TABLE | change))
    with pytest.raises(InputError, match=sentence):
        SetDescription.load(tmp_path / "labels.json")


def test_missing_parts_of_the_set(tmp_path):
    labelled = make_set(tmp_path / "set")
    (tmp_path / "set" / "selection.json").write_text(json.dumps({"rows": 90, "dropped": []}))
    with pytest.raises(UserError, match="keeps row 89 of 40"):
        run(Config(), labelled, Writer[Export](tmp_path / "out"), Context())
    (tmp_path / "set" / "selection.json").write_text(json.dumps({"rows": 1, "dropped": [{"row": 0}]}))
    with pytest.raises(UserError, match="no row that is kept"):
        run(Config(), labelled, Writer[Export](tmp_path / "out"), Context())
    (tmp_path / "set" / "labels.json").unlink()
    with pytest.raises(InputError, match=r"labels\.json is missing"):
        run(Config(), labelled, Writer[Export](tmp_path / "out"), Context())


def test_damaged_shard_stops_the_export(tmp_path):
    labelled = make_set(tmp_path / "set")
    path = tmp_path / "set" / "shards" / "shard-00001.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"shard-00001.h5 is damaged .* with --verify"):
        run(Config(), labelled, Writer[Export](tmp_path / "out"), Context())
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_full_disk_is_one_sentence(labelled_set, exported, tmp_path, share):
    """HDF5 left to itself ends the process by a segmentation fault here."""
    limit = int((exported.path / "dataset.h5").stat().st_size * share)
    code = (
        "import sys\n"
        "from pipeline.artifacts import *\nfrom pipeline.stage import Context\nfrom stages.export import Config, run\n"
        "try:\n    run(Config(), LabelledSet(sys.argv[1]), Writer[Export](sys.argv[2]), Context())\n"
        "except Exception as error:\n    print(error)\n    sys.exit(error.exit_code)\n"
    )

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", code, str(labelled_set.path), str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, preexec_fn=limit_file_size, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"cannot write {tmp_path / 'dataset.h5'}")
    assert result.stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_bigger_file_goes_through_the_guard_unchanged(tmp_path):
    """More chunks than HDF5 keeps index pages of in memory."""
    rows = 6000
    values = np.random.default_rng(0).integers(0, 256, (rows, 4, 4, 3), np.uint8)
    arrays = {
        "image": values,
        "label": values[..., 0] % 4,
        "score": values[:, 0, 0, 0].astype(np.float32),
        "w": values[:, 0].reshape(rows, 12).astype(np.float32),
        "seed": np.arange(rows, dtype=np.uint64),
    }
    with ShardFolder(tmp_path / "shards", rows, rows, "k") as shards:
        shards.acknowledge(write_shard(shards.folder, 0, arrays, 0))
        shards.finish()
    description = SetDescription(tuple(CLASSES), ((0, 0, 0),) * 4, "", "", "")
    chosen = np.arange(1, rows, 2)
    reader = ShardReader(tmp_path / "shards")
    pack_hdf5(tmp_path / "dataset.h5", reader, chosen, np.ones(len(chosen), bool), description, {})
    with h5py.File(tmp_path / "dataset.h5") as file:
        for name, array in arrays.items():
            assert np.array_equal(file[name][...], array[1::2])
