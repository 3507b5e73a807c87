"""export-labels and import-labels from the command line: given out, brought back, paired, checked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli import cli
from ganfoundry.data.reader import ShardReader
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.images import stored_images
from ganfoundry.labels.labelset import LabelSet
from pipeline.registry import run_command_line
from tests.ganfoundry.gan.inversion.invhelp import samples, write_gan
from tests.stages.labelhelp import SCHEMA, shades_gan, shades_labels

FORMATS = ("labelme", "coco", "label-studio", "cvat", "png", "npy")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shades_labels(Path("labels"), shades_gan(Path("gan")), 4)


def call(*arguments: str) -> int:
    gan = () if "--gan" in arguments else ("--gan", "gan")
    return run_command_line(cli, [*arguments, *gan, "--quiet"], "python cli.py")


def exported(*options: str) -> Path:
    assert call("export-labels", "--labels", "labels", *options) == 0
    return Path("outputs/default/export-labels/annotate")


def imported() -> LabelSet:
    return LabelSet.load("outputs/default/import-labels")


def findings(folder: str = "import-labels") -> list[tuple[str, str]]:
    table = json.loads(Path("outputs/default", folder, "validation.json").read_text())
    return [(row["code"], row["sample"]) for row in table["findings"]]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(*arguments) == 2
    text = capsys.readouterr().err
    assert text.count("Error: ") == 1
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("format", FORMATS)
def test_labels_come_back_as_they_were_given_out(format: str) -> None:
    folder = exported("--format", format)
    assert call("import-labels", "--annotations", str(folder)) == 0
    before, after = LabelSet.load("labels"), imported()
    assert after.names == before.names
    for field in ("masks", "images", "w"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert after.generator_sha256 == before.generator_sha256
    assert after.schema == before.schema
    assert after.weights is None
    record = json.loads(Path("outputs/default/import-labels/run.json").read_text())
    assert record["figures"]["pictures_compared"] == 4
    assert not [finding for finding in findings() if finding[0] not in ("tiny-region", "empty-mask")]


def test_a_correction_made_in_the_tool_arrives() -> None:
    folder = exported()
    file = folder / "sample-2.json"
    table = json.loads(file.read_text())
    table["shapes"].append({"label": "Bright", "points": [[2, 2], [10, 2], [10, 6], [2, 6]], "shape_type": "polygon"})
    file.write_text(json.dumps(table))
    assert call("import-labels", "--annotations", str(folder)) == 0
    before, after = LabelSet.load("labels"), imported()
    assert (after.masks[2, 2:6, 2:10] == 3).all()
    np.testing.assert_array_equal(after.masks[[0, 1, 3]], before.masks[[0, 1, 3]])


def test_new_samples_are_found_again_by_their_seeds() -> None:
    folder = exported("--seeds", "7,301", "--format", "npy")
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["seed-000007.png", "seed-000301.png"]
    masks = Path("mine")
    masks.mkdir()
    np.save(masks / "301.npy", np.full((16, 16), 2))
    assert call("import-labels", "--annotations", "mine") == 0
    labels, generator = imported(), load_gan("gan").generator
    assert labels.names == ("seed-000301",)
    assert labels.seeds is not None
    assert labels.seeds.tolist() == [301]
    np.testing.assert_allclose(labels.w, content_codes(generator, [301], 0.7).numpy(), atol=1e-6)
    assert ("not-labelled", "seed-000007") in findings()


def test_rows_of_a_labelled_set_go_out_with_the_interpreters_labels() -> None:
    quick = ("--level", "fine", "--members", "2", "--steps", "20", "--folds", "0")
    assert call("train-interpreter", "--labels", "labels", *quick) == 0
    assert call("synthesize", "--num-samples", "12", "--rows-per-shard", "8") == 0
    assert call("export-labels", "--rows", "9,2", "--format", "png") == 0
    folder = Path("outputs/default/export-labels/annotate")
    assert call("import-labels", "--annotations", str(folder)) == 0
    rows = ShardReader("outputs/default/synthesize/shards").rows([2, 9], ["label", "w"])
    assert imported().names == ("row-000002", "row-000009")
    np.testing.assert_array_equal(imported().masks, rows["label"])
    np.testing.assert_array_equal(imported().w, rows["w"])


def test_pictures_that_were_swapped_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """The masks of two samples under each other's name: what DatasetGAN's users met."""
    folder = exported("--format", "png")
    for kind in ("masks", "images"):
        one, two = folder / kind / "sample-0.png", folder / kind / "sample-1.png"
        one.rename(folder / "aside.png"), two.rename(one), (folder / "aside.png").rename(two)
    text = refused(capsys, "import-labels", "--annotations", str(folder))
    assert "2 picture-differs" in text
    assert "validation.html" in text
    assert [row for row in findings() if row[0] == "picture-differs"] == [
        ("picture-differs", "sample-0"),
        ("picture-differs", "sample-1"),
    ]
    assert not Path("outputs/default/import-labels/labels.json").exists()


def test_labels_of_another_generator_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported()
    shades_gan(Path("stranger"), seed=1)
    text = refused(capsys, "import-labels", "--annotations", str(folder), "--gan", "stranger")
    assert "other-generator" in text
    assert "belongs" in text or "of the generator" in text


def test_the_manifest_proves_the_generator_without_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """Same names, no pictures, another generator: only manifest.json knows."""
    folder = Path(shutil.copytree(exported("--format", "npy"), "elsewhere"))
    shutil.rmtree(folder / "images")
    shades_labels(Path("others"), shades_gan(Path("stranger"), seed=1), 4)
    stranger = ("--run", "other", "--gan", "stranger", "--labels", "others")
    assert call("import-labels", "--annotations", str(folder), *stranger) == 2
    assert "was exported from the generator" in capsys.readouterr().err


def test_check_only_touches_nothing_and_tells_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported()
    assert call("import-labels", "--annotations", str(folder)) == 0
    before = {path: path.read_bytes() for path in Path("outputs/default/import-labels").rglob("*") if path.is_file()}
    assert call("import-labels", "--annotations", str(folder), "--check-only") == 0
    file = folder / "sample-1.json"
    file.write_text(file.read_text().replace('"mid"', '"mild"'))
    text = refused(capsys, "import-labels", "--annotations", str(folder), "--check-only")
    assert "the nearest is mid (--alias mild=mid)" in text
    assert "import-labels-check" in text
    assert ("unknown-class", "sample-1") in findings("import-labels-check")
    after = {path: path.read_bytes() for path in Path("outputs/default/import-labels").rglob("*") if path.is_file()}
    assert after == before
    assert call("import-labels", "--annotations", str(folder), "--alias", "mild=mid") == 0
    np.testing.assert_array_equal(imported().masks, LabelSet.load("labels").masks)


def test_a_refused_import_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported()
    assert call("import-labels", "--annotations", str(folder)) == 0
    before = imported()
    file = folder / "sample-1.json"
    file.write_text(file.read_text().replace('"mid"', '"mild"'))
    assert "unknown-class" in refused(capsys, "import-labels", "--annotations", str(folder))
    np.testing.assert_array_equal(imported().masks, before.masks)
    assert "unfinished" in refused(capsys, "train-interpreter", "--labels", "outputs/default/import-labels")


def test_every_torn_file_is_named_and_the_others_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported("--format", "labelme")
    files = sorted(folder.rglob("sample-*.json"))[:2]
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    refused(capsys, "import-labels", "--annotations", str(folder), "--check-only")
    assert [code for code, _ in findings("import-labels-check")].count("unreadable") == 2
    page = Path("outputs/default/import-labels-check/validation.html").read_text()
    assert all(file.name in page for file in files)
    table = json.loads(Path("outputs/default/import-labels-check/validation.json").read_text())
    assert table["annotations"] == 2, "the two whole ones were taken"


def test_another_size_is_refused_or_resized(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported("--format", "npy")
    for file in (folder / "masks").iterdir():
        np.save(file, np.load(file).repeat(3, 0).repeat(3, 1))
    assert "--resize" in refused(capsys, "import-labels", "--annotations", str(folder))
    assert call("import-labels", "--annotations", str(folder), "--resize") == 0
    np.testing.assert_array_equal(imported().masks, LabelSet.load("labels").masks)


def test_imported_samples_extend_labels() -> None:
    folder = exported("--seeds", "50,51", "--format", "png")
    for file in (folder / "masks").iterdir():
        Image.fromarray(np.full((16, 16), 3, np.uint8)).save(file)
    options = ("--annotations", str(folder), "--labels", "labels", "--extend")
    assert call("import-labels", *options) == 0
    after = imported()
    assert after.names == (*LabelSet.load("labels").names, "seed-000050", "seed-000051")
    assert (after.masks[4:] == 3).all()
    assert call("train-interpreter", "--labels", "outputs/default/import-labels", "--level", "fine", "--steps", "20",
                "--members", "2", "--folds", "0") == 0  # fmt: skip


def test_nothing_to_extend(capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported()
    other = ("--run", "other", "--label-export", str(folder.parent), "--extend")
    assert "--labels PATH" in refused(capsys, "import-labels", "--annotations", str(folder), *other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--annotations", "absent"), "absent"),
        (("--annotations", "empty"), "no annotations"),
        (("--annotations", "labels", "--format", "coco"), "nothing-imported"),
        (("--annotations", "labels", "--alias", "mild"), "old=new"),
        (("--annotations", "labels", "--alias", "mild=nothing"), "neither a part"),
        (("--annotations", "labels", "--labels", "gan"), "labels.json"),
        (("--annotations", "labels"), "--label-export"),
    ],
)
def test_bad_options_are_one_sentence(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str) -> None:
    Path("empty").mkdir()
    known = () if words == "--label-export" or "--labels" in options else ("--labels", "labels")
    assert words in refused(capsys, "import-labels", *options, *known)


# Photos


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, an inverted album of its own pictures, one of them with noise on it, and their labels."""
    folder = tmp_path_factory.mktemp("photos")
    gan, album = write_gan(folder / "photo-gan"), folder / "album"
    album.mkdir()
    random = np.random.default_rng(0)
    for index, image in enumerate(samples(load_gan(gan), 3)[1]):
        noisy = np.clip(image + random.normal(0, 60 * (index == 1), image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy.repeat(2, 0).repeat(2, 1)).save(album / f"photo {index}.png")
    SCHEMA.to_toml(folder / "schema.toml")
    quick = ("--steps", "30", "--batch", "4", "--encoder-steps", "0", "--outputs", str(folder / "outputs"))
    assert call("invert", "--gan", str(gan), "--images", str(album), *quick) == 0
    plus = ("--run", "plus", "--method", "w+", "--outputs", str(folder / "outputs"))
    assert call("invert", "--gan", str(gan), "--images", str(album), "--steps", "1", "--encoder-steps", "0", *plus) == 0
    masks = folder / "drawn"
    (masks / "images").mkdir(parents=True)
    for index in range(3):
        mask = np.zeros((32, 32), np.uint8)
        mask[4:28, 8 * index : 8 * index + 12] = index + 1
        Image.fromarray(mask).save(masks / f"photo {index}.png")
    return folder


@pytest.fixture
def photos(inverted: Path) -> Path:
    shutil.copytree(inverted, ".", dirs_exist_ok=True)
    return Path("drawn")


IMPORT_PHOTOS = ("import-labels", "--gan", "photo-gan", "--schema", "schema.toml", "--resize")


def test_labelled_photos_become_samples_with_weights(photos: Path) -> None:
    assert call(*IMPORT_PHOTOS, "--annotations", str(photos)) == 0
    labels, loaded = imported(), load_gan("photo-gan")
    table = json.loads(Path("outputs/default/invert/inversions.json").read_text())["images"]
    assert labels.names == ("photo 0", "photo 1", "photo 2")
    with torch.no_grad():
        made = stored_images(loaded.generator.synthesis(torch.from_numpy(labels.w)))
    assert np.abs(made.astype(int) - labels.images).max() <= 1, "images are what the generator makes of the latents"
    psnr = np.array([row["psnr"] for row in table])
    np.testing.assert_allclose(labels.weights, 1 / (1 + 10 ** ((20 - psnr) / 10)), atol=1e-3)
    assert labels.weights is not None
    assert labels.weights.argmin() == 1, "the noisy photo counts least"
    with Image.open(photos / "photo 2.png") as mask:
        np.testing.assert_array_equal(labels.masks[2], np.asarray(mask)[1::2, 1::2])
    options = ("--level", "fine", "--members", "2", "--steps", "20", "--folds", "0")
    assert call("train-interpreter", "--gan", "photo-gan", *options) == 0


def test_the_photos_are_compared_with_what_was_inverted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        shutil.copy(f"album/photo {index}.png", photos / "images")
    assert call(*IMPORT_PHOTOS, "--annotations", str(photos)) == 0
    assert json.loads(Path("outputs/default/import-labels/validation.json").read_text())["pictures_compared"] == 3
    shutil.copy("album/photo 0.png", photos / "images" / "photo 2.png")
    assert "photo 2: its picture differs from the photo" in refused(
        capsys, *IMPORT_PHOTOS, "--annotations", str(photos)
    )


def test_w_plus_is_refused_with_the_way_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, *IMPORT_PHOTOS, "--annotations", str(photos), "--run", "plus")
    assert "W+" in text
    assert "--method w" in text
    beside = ("--run", "plus", "--annotations", "nothing", "--labels", "own")
    own = Path("own")
    shades = LabelSet.load("labels")
    replace(shades, generator_sha256=load_gan("photo-gan").sha256).save(own)
    shutil.copytree(own / "masks", "nothing")
    text = refused(capsys, "import-labels", "--gan", "photo-gan", *beside)
    assert "latent-differs" in text, "the labels of another generator, but not the photos, are what is wrong"
    rows = json.loads(Path("outputs/plus/import-labels/validation.json").read_text())["findings"]
    assert ["photos-left-out" for row in rows if row["code"] == "photos-left-out" and "W+" in row["message"]]
