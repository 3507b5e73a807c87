import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ganfoundry import weights
from ganfoundry.data.seeds import LABEL, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.images import stored_images
from ganfoundry.labels.active import Candidates
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.worlds.annotator import Annotator
from pipeline.artifacts import Gan, Writer
from pipeline.stage import Context
from stages.annotate_parts import Config, run, shipped_annotators
from tests.stages.viewhelp import tiny_annotator, tiny_gan

SMALL = {"num_samples": 4, "num_candidates": 12}


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return tiny_annotator(tmp_path_factory.mktemp("annotator"))


def annotate(folder, gan, annotator, **options):
    out = Writer(folder)
    run(Config(**{**SMALL, **options}), gan, annotator, out, Context())
    return out


def test_labels_belong_to_their_images_and_latents(tmp_path, gan, annotator):
    out = annotate(tmp_path, gan, annotator)
    loaded = load_gan(gan.path)
    labels = LabelSet.load(tmp_path, loaded.sha256)
    assert len(labels) == out.figures["samples"] == 4
    import torch

    again = stored_images(loaded.generator.synthesis(torch.from_numpy(labels.w)))
    assert np.abs(again.astype(int) - labels.images).max() <= 1
    found = Annotator.load(annotator.path).annotate(labels.images, two_grids=True)
    assert (found.parts == labels.masks).mean() > 0.99
    assert labels.keypoints.shape == (4, len(labels.schema.keypoints), 3)
    assert "proposed by tiny-annotator (part mIoU on unseen renders 0.01)" in labels.provenance["labels"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 8 * (384 + 2) - 2


@pytest.mark.parametrize("choose", ["balanced", "medoids", "first"])
def test_every_way_of_choosing_gives_distinct_samples(tmp_path, gan, annotator, choose):
    annotate(tmp_path, gan, annotator, choose=choose, exclude=(0, 3))
    labels = LabelSet.load(tmp_path)
    assert len(set(labels.names)) == 4
    assert not {"sample-0000", "sample-0003"} & set(labels.names)
    if choose == "first":
        assert labels.names == ("sample-0001", "sample-0002", "sample-0004", "sample-0005")


def test_samples_that_select_chose_are_labelled_beside_those_before(tmp_path, gan, annotator):
    sha256 = load_gan(gan.path).sha256
    Candidates(sha256, 3, 0.5, 30, (17, 4), (0, 0), None, "core-set", (21,)).save(tmp_path / "candidates.json")
    annotate(tmp_path / "out", gan, annotator, candidates=tmp_path / "candidates.json")
    labels = LabelSet.load(tmp_path / "out", sha256)
    assert labels.names == ("sample-0004", "sample-0017", "sample-0021")
    assert labels.seeds.tolist() == [sample_integer(3, LABEL, number) for number in (4, 17, 21)]
    assert labels.provenance["chosen"] == "select, of 30 samples"
    Candidates("0" * 64, 3, 0.5, 30, (17,), (0,), None, "core-set").save(tmp_path / "candidates.json")
    with pytest.raises(InputError, match="run select for this generator"):
        annotate(tmp_path / "other", gan, annotator, candidates=tmp_path)


def test_corrected_masks_replace_proposed_ones(tmp_path, gan, annotator):
    annotate(tmp_path / "proposed", gan, annotator, choose="first")
    before = LabelSet.load(tmp_path / "proposed")
    corrected = tmp_path / "corrected"
    corrected.mkdir()
    shutil.copy(tmp_path / "proposed" / "masks" / "sample-0002.png", corrected)
    with Image.open(corrected / "sample-0002.png") as picture:
        edited = picture.copy()
    edited.paste(7, (4, 4, 20, 12))
    edited.save(corrected / "sample-0002.png")
    out = annotate(tmp_path / "final", gan, annotator, choose="first", corrections=corrected)
    after = LabelSet.load(tmp_path / "final")
    assert (after.masks[2, 4:12, 4:20] == 7).all()
    np.testing.assert_array_equal(after.masks[[0, 1, 3]], before.masks[[0, 1, 3]])
    assert after.provenance["corrected"] == ["sample-0002"]
    assert out.figures["corrected"] == 1
    assert json.loads((tmp_path / "final" / "labels.json").read_text())["provenance"]["corrected"] == ["sample-0002"]


@pytest.mark.parametrize("problem", ["empty", "name", "size", "part", "mode", "torn"])
def test_bad_corrections_are_refused(tmp_path, gan, annotator, problem):
    folder = tmp_path / "corrected"
    folder.mkdir()
    mask = np.zeros((32, 32), np.uint8)
    if problem == "name":
        Image.fromarray(mask).save(folder / "other.png")
    elif problem == "size":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "sample-0000.png")
    elif problem == "part":
        Image.fromarray(mask + 200).save(folder / "sample-0000.png")
    elif problem == "mode":
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "sample-0000.png")
    elif problem == "torn":
        Image.fromarray(mask).save(folder / "sample-0000.png")
        path = folder / "sample-0000.png"
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(InputError, match="corrected"):
        annotate(tmp_path / "out", gan, annotator, choose="first", corrections=folder)


def test_too_few_candidates(tmp_path, gan, annotator):
    with pytest.raises(InputError, match="--num-candidates"):
        annotate(tmp_path, gan, annotator, exclude=tuple(range(9)))


def test_without_an_annotator_the_one_of_the_generators_world_labels(tmp_path, gan, annotator, monkeypatch):
    monkeypatch.setattr(weights, "ROOT", tmp_path / "shipped")
    shutil.copytree(annotator.path, tmp_path / "shipped" / "boats-annotator")
    boats = shutil.copytree(gan.path, tmp_path / "boats")
    for world, sentence in (("", "names no world.*--annotator"), ("trams", r"no trams-annotator .*--annotator")):
        rewrite(boats / "card.json", world=world)
        with pytest.raises(InputError, match=sentence):
            annotate(tmp_path / "refused", Gan(boats), None)
    rewrite(boats / "card.json", world="boats")
    annotate(tmp_path / "out", Gan(boats), None)
    assert "proposed by tiny-annotator" in LabelSet.load(tmp_path / "out").provenance["labels"]
    assert list(shipped_annotators(Config())) == ["boats-annotator"]


def rewrite(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
