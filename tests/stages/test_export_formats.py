"""Every format of an export, read back by the reader of those who made the format."""

import contextlib
import gc
import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.artifacts import Export, Writer
from pipeline.stage import Context
from stages.export import FORMATS, Config, run
from tests.stages.exporthelp import CLASSES, DROPPED, KEPT, POINTS, ROWS, TABLE, make_arrays, make_set

TRUTH = make_arrays(range(ROWS))


def written(labelled, folder, formats=FORMATS, **options):
    out = Writer[Export](folder, "f" * 64)
    run(Config(**{"formats": formats, "license": "CC0-1.0", **options}), labelled, out, Context())
    return out


@pytest.fixture(scope="module")
def labelled_set(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def exported(labelled_set, tmp_path_factory):
    """Everything at once, with a validation split, 15 rows in a tar or parquet file."""
    return written(labelled_set, tmp_path_factory.mktemp("export"), val_fraction=0.2, rows_per_file=15).path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A set without keypoints."""
    labelled = make_set(tmp_path_factory.mktemp("plain"), keypoints=False)
    return written(labelled, tmp_path_factory.mktemp("out"), val_fraction=0.2).path


@pytest.fixture(scope="module")
def split(exported):
    with h5py.File(exported / "dataset.h5") as file:
        names = json.loads(file["split"].attrs["names"])
        return dict(zip(file["row"][:].tolist(), [names[i] for i in file["split"][:]], strict=True))


def picture(path):
    with Image.open(path) as image:
        return np.array(image)


def coco_points(row):
    """What COCO is to hold of a row's keypoints: its pixel 0 has its centre at 0, unseen ones are zeros."""
    points = TRUTH["keypoints"][row]
    return [value for x, y, v in points for value in ((x - 0.5, y - 0.5, 2) if v >= 0.5 else (0, 0, 0))]


def test_hdf5_holds_exactly_the_kept_rows(exported):
    with h5py.File(exported / "dataset.h5") as file:
        for name in ("image", "label", "score", "w", "seed", "keypoints", "keypoint_spread"):
            assert np.array_equal(file[name][...], TRUTH[name][KEPT])
            assert file[name].dtype == TRUTH[name].dtype
            assert file[name].fletcher32
        assert file["row"][:].tolist() == KEPT
        assert file["keep"][:].all()
        assert file["image"].chunks == (1, 24, 24, 3)
        assert "uncertainty" not in file


def test_hdf5_names_its_axes(exported):
    with h5py.File(exported / "dataset.h5") as file:
        assert [axis.label for axis in file["image"].dims] == ["row", "y", "x", "channel"]
        assert file["image"].dims[2][0][:].tolist() == [x + 0.5 for x in range(24)]
        assert [text.decode() for text in file["image"].dims[3][0][:]] == ["red", "green", "blue"]
        assert [text.decode() for text in file["keypoints"].dims[1][0][:]] == POINTS
        assert file["label"].dims[0]["row"][:].tolist() == KEPT
        assert file["score"].dims[0].label == "row"


def test_hdf5_says_where_it_comes_from(exported):
    with h5py.File(exported / "dataset.h5") as file:
        found = dict(file.attrs)
    assert json.loads(found["classes"]) == CLASSES
    assert json.loads(found["keypoint_names"]) == POINTS
    assert found["palette"].tolist() == TABLE["palette"]
    assert (found["schema_version"], found["license"]) == (2, "CC0-1.0")
    assert (found["generator_sha256"], found["interpreter_sha256"]) == ("a" * 64, "b" * 64)
    assert json.loads(found["recipe"]) == {"schema": "toys", "truncation": 0.7, "root_seed": 1}
    assert isinstance(json.loads(found["provenance"]), dict)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("name", ["train", "val"])
def test_pycocotools_reads_every_mask_and_keypoint_back(exported, split, name):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(exported / "coco" / f"annotations-{name}.json"))
    rows = [row for row in KEPT if split[row] == name]
    assert coco.getImgIds() == rows
    (thing,) = coco.loadCats(coco.getCatIds(supNms=["object"]))
    assert (thing["name"], thing["keypoints"]) == ("object", POINTS)
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds(supNms=["part"]))] == CLASSES[1:]
    for row in rows:
        label, entry = TRUTH["label"][row], coco.imgs[row]
        assert np.array_equal(picture(exported / "coco" / entry["file_name"]), TRUTH["image"][row])
        assert (entry["height"], entry["width"]) == label.shape
        rebuilt = np.zeros_like(label)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[row])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            if annotation["category_id"] == thing["id"]:
                assert np.array_equal(mask, label > 0)
                assert np.allclose(annotation["keypoints"], coco_points(row), atol=0.006)
                assert annotation["num_keypoints"] == (TRUTH["keypoints"][row][:, 2] >= 0.5).sum()
            else:
                rebuilt[mask] = annotation["category_id"]
        assert np.array_equal(rebuilt, label)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_scores_the_keypoints_against_themselves_as_perfect(exported):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(exported / "coco" / "annotations-train.json"))
        things = [a for a in truth.dataset["annotations"] if "keypoints" in a]
        found = truth.loadRes([{**a, "score": 1.0} for a in things])
        scores = COCOeval(truth, found, "keypoints")
        scores.params.catIds = truth.getCatIds(supNms=["object"])  # parts have no keypoints
        scores.params.kpt_oks_sigmas = np.full(len(POINTS), 0.05)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    assert scores.stats[0] == pytest.approx(1.0)


def samples_of_tar(path):
    """Samples as WebDataset's documentation defines them: members of one name up to the first dot, side by side."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            key, ending = member.name.split(".", 1)
            assert not found or key in (next(reversed(found)), member.name.split(".")[0])
            found.setdefault(key, {})[ending] = archive.extractfile(member).read()
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    return found


def test_tar_files_by_their_convention(exported, split):
    table = json.loads((exported / "webdataset" / "dataset.json").read_text())
    assert table["classes"] == CLASSES
    found = {}
    for name, files in table["files"].items():
        for file in files:
            samples = samples_of_tar(exported / "webdataset" / file)
            assert len(samples) <= 15
            assert {split[int(key)] for key in samples} == {name}
            found |= samples
    assert sorted(map(int, found)) == KEPT
    assert table["samples"] == {"train": 30, "val": 7}
    for key, members in found.items():
        assert list(members) == sorted(members)
        assert np.array_equal(picture(io.BytesIO(members["label.png"])), TRUTH["label"][int(key)])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's own
def test_webdataset_reads_the_tar_files(exported):
    wds = pytest.importorskip("webdataset")
    files = sorted(map(str, (exported / "webdataset").glob("*.tar")))
    found = list(wds.WebDataset(files, shardshuffle=False).decode("rgb8"))
    gc.collect()
    assert sorted(int(sample["__key__"]) for sample in found) == KEPT
    for sample in found:
        row = int(sample["__key__"])
        assert np.array_equal(sample["png"], TRUTH["image"][row])
        assert np.array_equal(sample["label.png"][..., 0], TRUTH["label"][row])
        assert np.array_equal(sample["w.npy"], TRUTH["w"][row])
        assert sample["json"]["seed"] == TRUTH["seed"][row]
        assert np.allclose(sample["json"]["keypoints"], TRUTH["keypoints"][row], atol=0.006)


def test_imagefolder_as_documented(exported, split):
    for name, folder in (("train", "train"), ("val", "validation")):
        lines = (exported / "huggingface" / folder / "metadata.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [record["row"] for record in records] == [row for row in KEPT if split[row] == name]
        for record in records:
            root, row = exported / "huggingface" / folder, record["row"]
            assert np.array_equal(picture(root / record["file_name"]), TRUTH["image"][row])
            assert np.array_equal(picture(root / record["label_file_name"]), TRUTH["label"][row])


def test_parquet(exported, split):
    pq = pytest.importorskip("pyarrow.parquet")
    found = {}
    for path in sorted((exported / "parquet" / "data").glob("*.parquet")):
        table = pq.read_table(path)
        assert set(json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]) == set(table.column_names)
        name = {"train": "train", "validation": "val"}[path.name.split("-")[0]]
        for record in table.to_pylist():
            assert split[record["row"]] == name
            found[record["row"]] = record
    assert sorted(found) == KEPT
    for row, record in found.items():
        assert np.array_equal(picture(io.BytesIO(record["image"]["bytes"])), TRUTH["image"][row])
        assert np.array_equal(picture(io.BytesIO(record["label"]["bytes"])), TRUTH["label"][row])
        assert np.array_equal(np.float32(record["w"]), TRUTH["w"][row])
        assert record["seed"] == TRUTH["seed"][row]


READ_BY_DATASETS = """
import json, sys, datasets
import numpy as np
found = {}
for form in ("huggingface", "parquet"):
    for name, part in datasets.load_dataset(sys.argv[1] + "/" + form).items():
        for item in part:
            label = np.array(item["label"])
            found[f"{form} {item['row']}"] = [name, int(label.sum()), int(np.array(item["image"]).sum()), item["seed"]]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_datasets_reads_both(exported, split, tmp_path):
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("needs the extra readers")
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", READ_BY_DATASETS, str(exported)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 2 * len(KEPT)
    for key, (name, label, image, seed) in found.items():
        row = int(key.split()[1])
        assert name.startswith(split[row])
        assert (label, image, seed) == (TRUTH["label"][row].sum(), TRUTH["image"][row].sum(), TRUTH["seed"][row])


def test_png_folders(exported, split):
    root = exported / "png"
    assert [entry["name"] for entry in json.loads((root / "classes.json").read_text())] == CLASSES
    points = json.loads((root / "keypoints.json").read_text())
    assert points["names"] == POINTS
    listed = {name: (root / "splits" / f"{name}.txt").read_text().split() for name in ("train", "val")}
    assert {int(name[:8]): part for part, names in listed.items() for name in names} == split
    for name, values in points["images"].items():
        row = int(name[:8])
        assert np.allclose(values, TRUTH["keypoints"][row], atol=0.006)
        with Image.open(root / "masks" / name) as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[:12] == np.ravel(TABLE["palette"]).tolist()
            assert np.array_equal(np.array(mask), TRUTH["label"][row])
        assert np.array_equal(picture(root / "images" / name), TRUTH["image"][row])


def test_a_set_without_keypoints(plain):
    with h5py.File(plain / "dataset.h5") as file:
        assert "keypoints" not in file
    table = json.loads((plain / "coco" / "annotations-train.json").read_text())
    assert not any("keypoints" in entry for entry in (*table["annotations"], *table["categories"]))
    assert not (plain / "png" / "keypoints.json").exists()
    assert "keypoint" not in (plain / "huggingface" / "README.md").read_text()
    line = (plain / "huggingface" / "train" / "metadata.jsonl").read_text().splitlines()[0]
    assert "keypoints" not in json.loads(line)


def test_card_tells_the_numbers(exported):
    card = (exported / "README.md").read_text()
    counts = np.array([(TRUTH["label"][KEPT] == index).sum() for index in range(4)])
    for index, name in enumerate(CLASSES):
        share = 100 * counts[index] / counts.sum()
        images = int((TRUTH["label"][KEPT] == index).any(axis=(1, 2)).sum())
        assert re.search(rf"\| {index} \| {name} \| #[0-9a-f]{{6}} \| {share:.2f} % \| {images} \|", card)
    seen = (TRUTH["keypoints"][KEPT][:, :, 2] >= 0.5).sum(0)
    assert f"| nose | {seen[0]} |" in card
    assert f"{len(DROPPED)} of {ROWS} images were dropped" in card
    assert "| too uncertain | 3 |" in card
    assert "a" * 64 in card
    assert "b" * 64 in card
    assert "CC0-1.0" in card
    for name in re.findall(r"^\| `([a-z.0-9]+)` \|", card, re.MULTILINE):
        assert (exported / name).exists()


@pytest.mark.parametrize("folder", ["huggingface", "parquet"])
def test_header_of_the_hub_is_yaml(exported, folder):
    yaml = pytest.importorskip("yaml")
    text = (exported / folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "cc0-1.0"
    assert header["task_categories"] == ["image-segmentation", "keypoint-detection"]
    parts = header["configs"][0]["data_files"]
    assert [part["split"] for part in parts] == ["train", "validation"]
    for part in parts:
        assert list((exported / folder).glob(part["path"]))
    assert (exported / folder / "gallery.png").exists()


def test_croissant_has_what_the_specification_asks_for(exported):
    """Section "Required" of the format specification 1.0, as far as an unpublished data set can tell it."""
    table = json.loads((exported / "croissant.json").read_text())
    assert table["@type"] == "sc:Dataset"
    assert table["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert all(table[name] for name in ("@context", "name", "description", "license", "url", "version"))
    ids = [entry["@id"] for entry in table["distribution"]]
    for entry in table["distribution"]:
        assert entry["encodingFormat"]
        if entry["@type"] == "cr:FileObject":
            assert (exported / entry["contentUrl"]).exists()
            assert re.fullmatch("[0-9a-f]{64}", entry["sha256"])
        else:
            assert entry["@type"] == "cr:FileSet"
            assert list(exported.glob(entry["includes"])), entry["includes"]
    for records in table["recordSet"]:
        ids.append(records["@id"])
        for field in records["field"]:
            ids.append(field["@id"])
            assert field["@id"].startswith(records["@id"] + "/")
            assert field["dataType"].startswith("sc:")
            if "data" not in records:
                assert field["source"]["fileSet"]["@id"] in ids
    assert len(set(ids)) == len(ids)
    assert not any(" " in name for name in ids)


@pytest.mark.slow
def test_mlcroissant_accepts_and_reads_it(exported):
    if importlib.util.find_spec("mlcroissant") is None:
        pytest.skip("needs the extra readers")
    code = (
        "import sys, mlcroissant\n"
        "found = mlcroissant.Dataset(sys.argv[1])\n"
        "for records in found.metadata.record_sets:\n"
        "    print(records.id, len(list(found.records(records.id))))\n"
    )
    command = [sys.executable, "-c", code, str(exported / "croissant.json")]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert counts.pop("classes") == "4"
    assert counts == {f"{name}-samples": str(len(KEPT)) for name in ("coco", "huggingface", "parquet", "png")}
