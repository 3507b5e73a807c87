import numpy as np
import pytest
from PIL import Image

import stages.annotate_views as stage
from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.views import PoseEstimates, ViewCodeSet, azimuth_bin
from ganfoundry.worlds.annotator import Annotator as Network
from pipeline.artifacts import Writer
from pipeline.stage import Context
from stages.annotate_views import Config, read_bins, run
from tests.stages.viewhelp import tiny_annotator, tiny_gan

SMALL = {"num_candidates": 60, "num_contents": 3, "codes_per_bin": 1}


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return tiny_annotator(tmp_path_factory.mktemp("annotator"))


@pytest.fixture
def turning(monkeypatch):
    """A pose estimator that sees candidate i at 7 i degrees, whatever the images."""
    calls = []

    def estimate(network, images):
        ones = np.ones(len(images))
        calls.append(images)
        angle = (7.0 * (len(calls) - 1)) % 360
        return PoseEstimates(angle * ones, 9 * ones, 11 * ones, 0.9 * ones, 0.3 * ones, 0.8 * ones)

    monkeypatch.setattr(stage, "estimate_pose", estimate)
    return calls


def annotate(folder, gan, annotator, **options):
    out = Writer(folder)
    run(Config(**SMALL, **options), gan, annotator, out, Context())
    return out


def test_proposed_codes_cover_all_bins(tmp_path, gan, annotator, turning):
    out = annotate(tmp_path, gan, annotator)
    codes = ViewCodeSet.load(tmp_path)
    loaded = load_gan(gan.path)
    codes.check_generator(loaded.sha256, loaded.generator.synthesis.layer_names, 8)
    assert codes.missing_bins == ()
    assert [code.bin for code in codes.codes] == list(range(12))
    assert all(code.bin == azimuth_bin(code.azimuth) and code.how == "proposed" for code in codes.codes)
    assert {code.elevation for code in codes.codes} == {9.0}
    assert out.figures["azimuth_bins"] == 12
    assert len(turning) == 60
    assert turning[0].shape == (3, 32, 32, 3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 12 * 34 - 2


def test_confirmed_codes_are_the_same_codes(tmp_path, gan, annotator, turning):
    annotate(tmp_path / "proposed", gan, annotator)
    turning.clear()
    annotate(tmp_path / "confirmed", gan, annotator, confirmed=True)
    first, second = ViewCodeSet.load(tmp_path / "proposed"), ViewCodeSet.load(tmp_path / "confirmed")
    np.testing.assert_array_equal(first.w, second.w)
    assert {code.how for code in second.codes} == {"proposed and confirmed"}


def test_a_persons_bins_win(tmp_path, gan, annotator, turning):
    bins = tmp_path / "bins.toml"
    bins.write_text("2 = 3\n3 = 2\n")
    annotate(tmp_path / "out", gan, annotator, bins=bins)
    codes = ViewCodeSet.load(tmp_path / "out").codes
    assert [code.how for code in codes].count("hand") == 2
    assert codes[2].azimuth == pytest.approx(90, abs=12)
    assert codes[3].azimuth == pytest.approx(60, abs=12)
    bins.write_text("2 = -1\n")
    turning.clear()
    with pytest.raises(InputError, match=r"\[2\] without a code"):
        annotate(tmp_path / "gap", gan, annotator, bins=bins)


def test_a_generator_without_views_says_which_bins_are_empty(tmp_path, gan, annotator, monkeypatch):
    def front(network, images):
        ones = np.ones(len(images))
        return PoseEstimates(0 * ones, ones, ones, ones, ones, ones)

    monkeypatch.setattr(stage, "estimate_pose", front)
    with pytest.raises(RunError, match=r"bins 1 \(15 to 45 degrees\), 2 .*11 .*--num-candidates"):
        annotate(tmp_path, gan, annotator)
    assert not (tmp_path / "codes.json").exists()


def test_the_network_reads_every_quantity(gan, annotator):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    network = Network.load(annotator.path)
    pose, found = stage.estimate_pose(network, images), network.annotate(images)
    np.testing.assert_array_equal(pose.azimuth, found.azimuth)
    np.testing.assert_array_equal(pose.confidence, found.azimuth_confidence)
    np.testing.assert_allclose(pose.area, (found.parts > 0).mean((1, 2)))
    assert all(len(value) == 5 for value in vars(pose).values())


@pytest.mark.parametrize("text", ["3 = 'x'", "a = 1", "3 = true", "3 =", "3 = 1.5"])
def test_bad_bins_files(tmp_path, text):
    path = tmp_path / "bins.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a bins file"):
        read_bins(path)
    with pytest.raises(InputError, match="is not a bins file"):
        read_bins(tmp_path / "missing.toml")
