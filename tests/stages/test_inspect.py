"""inspect by its command line: labelled sets, multi-view sets, exports; damage named; repaired to the same bytes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cli import cli
from pipeline.artifacts import Export, Writer
from pipeline.registry import run_command_line
from pipeline.stage import Context
from stages.export import Config, run
from tests.stages.exporthelp import CLASSES, DROPPED, KEPT, POINTS, make_arrays, make_set, tree
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels
from tests.stages.viewhelp import tiny_gan, view_codes

OBJECTS = 21  # three shards


def command(*arguments):
    return run_command_line(cli, [str(argument) for argument in arguments], "cli.py")


@pytest.fixture
def labelled(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A multi-view set made by its stage, with the inputs beside it."""
    root = tmp_path_factory.mktemp("made")
    gan = tiny_gan(root / "gan")
    view_codes(root / "codes", gan)
    options = ("--gan", root / "gan", "--views", root / "codes", "--num-objects", OBJECTS, "--quiet")
    assert command("generate-views", "--outputs", root, "--run", "run", *options) == 0
    return root


@pytest.fixture
def views(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made" / "run" / "generate-views"


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 16
    path.write_bytes(content)


def payload(folder):
    return {name: data for name, data in tree(folder).items() if name != "run.json"}


def report(folder, capsys, *options):
    code = command("inspect", folder, "--json", *options)
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_a_labelled_set(labelled, tmp_path, capsys):
    code, found, errors = report(labelled, capsys)
    assert (code, errors) == (0, "")
    assert (found["kind"], found["whole"], found["damage"]) == ("a labelled set", True, [])
    labels = make_arrays(KEPT)["label"]
    shares = [entry["pixel_share"] for entry in found["statistics"]["classes"]]
    assert shares == pytest.approx([(labels == index).mean() for index in range(4)], abs=1e-6)
    assert [entry["name"] for entry in found["statistics"]["keypoints"]] == POINTS
    assert (found["statistics"]["images"], found["statistics"]["dropped"]) == (len(KEPT), len(DROPPED))
    with Image.open(found["gallery"]) as picture:
        assert picture.size == (6 * (2 * 144 + 6) - 6, 4 * (144 + 6) - 6)
    assert found["gallery"] == str(tmp_path / "set-gallery.png")


def test_the_tables(labelled, capsys, tmp_path):
    assert command("inspect", labelled, "--gallery", tmp_path / "here.png", "--quiet") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    labels = make_arrays(KEPT)["label"]
    for index, name in enumerate(CLASSES):
        assert [name, f"{100 * (labels == index).mean():.2f}", str((labels == index).any((1, 2)).sum())] in lines
    assert ["kept", str(len(KEPT))] in lines
    assert ["every", "checksum", "is", "right"] in lines
    assert (tmp_path / "here.png").exists()


def test_damage_ends_with_one_and_the_shard_is_named(labelled, capsys):
    flip(labelled / "shards" / "shard-00001.h5")
    code, found, errors = report(labelled, capsys)
    assert code == 1
    assert [entry["file"] for entry in found["damage"]] == ["shards/shard-00001.h5"]
    assert errors.startswith(f"Error: {labelled} is damaged (shards/shard-00001.h5)")


def test_what_no_stage_made_cannot_be_repaired(labelled, capsys):
    (labelled / "shards" / "shard-00000.h5").unlink()
    assert command("inspect", labelled, "--repair", "--quiet") == 1
    assert "no run.json in it says how it was made" in capsys.readouterr().err


def test_an_unfinished_set_is_not_called_damaged(views, capsys):
    """As a killed run leaves it: two of three shards, progress.json in the place of run.json."""
    (views / "run.json").rename(views / "progress.json")
    (views / "shards" / "shard-00002.h5").unlink()
    (views / "shards" / "index.h5").unlink()
    manifest = views / "shards" / "manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:2]))
    code, found, errors = report(views, capsys, "--repair")
    assert (code, found["kind"]) == (1, "a multi-view set")
    assert [(entry["file"], entry["what"]) for entry in found["damage"]] == [("shards/shard-00002.h5", "is missing")]
    assert errors.startswith(f"Error: {views} is unfinished: run generate-views again as before, it continues")


def test_a_multi_view_set(views, capsys):
    code, found, _ = report(views, capsys)
    assert (code, found["damage"], found["kind"]) == (0, [], "a multi-view set")
    assert found["statistics"]["objects"] == OBJECTS
    assert found["statistics"]["views"] == 12
    assert found["statistics"]["fields"]["image"] == {"dtype": "uint8", "shape": [32, 32, 3]}


def test_repair_makes_exactly_the_damaged_shards_again(views, capsys):
    before = payload(views)
    shards = sorted((views / "shards").glob("shard-*.h5"))
    assert len(shards) == 3
    times = {path: path.stat().st_mtime_ns for path in shards}
    flip(shards[1])
    assert command("inspect", views, "--quiet") == 1
    capsys.readouterr()
    code, found, _ = report(views, capsys, "--repair")
    assert (code, found["whole"]) == (0, True)
    assert [entry["file"] for entry in found["repaired"]] == ["shards/shard-00001.h5"]
    assert payload(views) == before
    assert [path for path in shards if path.stat().st_mtime_ns != times[path]] == [shards[1]]


@pytest.mark.slow
def test_repair_of_a_labelled_set_made_by_its_stage(tmp_path, capsys):
    gan = shades_gan(tmp_path / "gan")
    shades_interpreter(tmp_path / "interpreter", gan, shades_labels(tmp_path / "labels", gan))
    inputs = ("--gan", tmp_path / "gan", "--interpreter", tmp_path / "interpreter", "--quiet")
    options = ("--num-samples", 12, "--rows-per-shard", 4, "--seed", 3)
    assert command("synthesize", "--outputs", tmp_path, "--run", "run", *inputs, *options) == 0
    folder = tmp_path / "run" / "synthesize"
    before = payload(folder)
    flip(folder / "shards" / "shard-00001.h5")
    (folder / "labels.json").write_text("{")
    code, found, _ = report(folder, capsys, "--repair")
    assert (code, found["damage"]) == (0, [])
    assert {entry["file"] for entry in found["repaired"]} == {"shards/shard-00001.h5", "labels.json"}
    assert payload(folder) == before
    assert found["statistics"]["images"] + found["statistics"]["dropped"] == 12


@pytest.mark.parametrize("damage", ["missing", "manifest cut", "line twice", "plan", "index", "sheet"])
def test_repair_of_every_kind_of_damage(views, capsys, damage):
    before = payload(views)
    folder = views / "shards"
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    if damage == "missing":
        (folder / "shard-00002.h5").unlink()
    elif damage == "manifest cut":
        manifest.write_bytes(b"".join(lines)[:-40])
    elif damage == "line twice":
        manifest.write_bytes(b"".join([*lines, lines[0]]))
    elif damage == "plan":
        (folder / "config.json").write_text("{")
    elif damage == "index":
        flip(folder / "index.h5")
    else:
        flip(views / "sheet.png")
    code, found, _ = report(views, capsys)
    assert (code, len(found["damage"])) == (1, {"manifest cut": 2}.get(damage, 1))
    code, found, _ = report(views, capsys, "--repair")
    assert (code, found["damage"]) == (0, [])
    assert payload(views) == before


def test_no_repair_when_the_inputs_are_others(views, capsys):
    flip(views / "shards" / "shard-00001.h5")
    before = tree(views)
    tiny_gan(views.parents[1] / "gan", seed=5)
    assert command("inspect", views, "--repair", "--quiet") == 1
    assert "would make something else now (input gan changed" in capsys.readouterr().err
    shutil.rmtree(views.parents[1] / "gan")
    assert command("inspect", views, "--repair", "--quiet") == 1
    assert "cannot be repaired" in capsys.readouterr().err
    assert tree(views) == before


def test_an_edited_picture_is_kept_beside(views, capsys):
    flip(views / "sheet.png")
    edited = (views / "sheet.png").read_bytes()
    assert command("inspect", views, "--repair") == 0
    assert "sheet.png: what was there before is kept" in capsys.readouterr().err
    assert (views / ".damaged" / "sheet.png").read_bytes() == edited


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_record(views, capsys, text):
    (views / "run.json").write_text(text)
    code, found, _ = report(views, capsys)
    assert code == 1
    assert found["damage"] == [{"file": "run.json", "what": "is no JSON object"}]
    assert command("inspect", views, "--repair", "--quiet") == 1
    assert "cannot be repaired" in capsys.readouterr().err


def test_an_export(labelled, tmp_path, capsys):
    run(Config(formats=("png", "hdf5")), make_set(tmp_path / "b"), Writer[Export](tmp_path / "out"), Context())
    code, found, _ = report(tmp_path / "out", capsys)
    assert (code, found["kind"]) == (0, "an exported data set")
    assert found["statistics"]["images"] == len(KEPT)
    flip(tmp_path / "out" / "png" / "masks" / "00000001.png")
    (tmp_path / "out" / "png" / "stranger.png").write_bytes(b"")
    (tmp_path / "out" / "dataset.h5").unlink()
    code, found, _ = report(tmp_path / "out", capsys)
    assert code == 1
    assert {entry["file"]: entry["what"] for entry in found["damage"]} == {
        "dataset.h5": "is missing",
        "png/masks/00000001.png": "its sha256 is not the one recorded",
        "png/stranger.png": "does not belong to the data set",
    }
    (tmp_path / "out" / "checksums.json").write_text("{")
    assert command("inspect", tmp_path / "out", "--quiet") == 1
    assert "checksums.json" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["absent", "empty", "run"])
def test_what_is_no_data_set(labelled, tmp_path, capsys, where):
    (tmp_path / "empty").mkdir()
    folder = {"absent": tmp_path / "absent", "empty": tmp_path / "empty", "run": tmp_path}[where]
    assert command("inspect", folder) == 2
    words = {
        "absent": "no such folder",
        "empty": "neither shards nor checksums.json",
        "run": "name one of those in it: set",
    }
    assert words[where] in capsys.readouterr().err


def test_an_artifact_without_shards_is_no_data_set(tmp_path, capsys):
    folder = tmp_path / "interpreter"
    folder.mkdir()
    (folder / "run.json").write_text('{"kind": "interpreter", "files": {}}')
    assert command("inspect", folder, "--quiet") == 2
    assert "a trained interpreter (interpreter), which has no shards: it is no data set" in capsys.readouterr().err


def test_usage(capsys):
    assert command("inspect") == 2
    assert command("inspect", "a", "b") == 2
    capsys.readouterr()
    assert command("inspect", "--help") == 0
    assert "python cli.py inspect outputs/demo/synthesize --repair" in capsys.readouterr().out


def test_a_gallery_that_cannot_be_written(labelled, capsys, tmp_path):
    assert command("inspect", labelled, "--gallery", tmp_path / "no" / "where.png") == 2
    assert "choose another place with --gallery" in capsys.readouterr().err


def test_gallery_shows_labels_and_visible_keypoints():
    from ganfoundry.data.gallery import gallery

    images = np.full((1, 64, 64, 3), 100, np.uint8)
    labels = np.zeros((1, 32, 32), np.uint8)
    labels[0, :16] = 1
    points = np.array([[[8, 24, 1], [24, 24, 0.2]]], np.float32)
    picture = gallery(images, labels, [(0, 0, 0), (255, 0, 0)], points)
    assert picture.shape == (128, 256, 3)
    assert (picture[:, :128] == 100).all()
    assert (picture[10, 140] == (185, 45, 45)).all()
    assert (picture[96, 128 + 32] == 255).all()  # a keypoint at (8, 24) of 32
    assert (picture[96, 128 + 96] == 100).all()  # one that is hidden
