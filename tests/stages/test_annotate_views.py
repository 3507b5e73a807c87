import pickle  # noqa: TID251  what workers are sent
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.views import ALL_AROUND, AzimuthBins, PoseEstimates, ViewCodeSet, search
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator as Network
from pipeline.artifacts import Writer
from pipeline.stage import Context
from stages.annotate_views import Config, read_bins, run
from tests.stages.viewhelp import tiny_annotator, tiny_gan

SMALL = {"num_candidates": 110, "screen_contents": 3, "num_contents": 3, "codes_per_bin": 1}


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return tiny_annotator(tmp_path_factory.mktemp("annotator"))


BODY_TYPES = get_world("cars").body_types


@pytest.fixture
def turning(monkeypatch):
    """A pose estimator that sees candidate i at 7 i degrees as body type i modulo 2, whatever the images.

    It remembers what it was shown, and answers for the short list as it did for the same candidates before.
    """
    calls, answers = [], {}

    def estimate(network, images):
        calls.append(images)
        keys = [image.tobytes() for image in images]
        if images.shape[0] % SMALL["num_contents"]:
            raise AssertionError("candidates of unequal numbers of contents")
        for first in range(0, len(images), SMALL["num_contents"]):
            answers.setdefault(keys[first], len(answers))
        number = np.repeat([answers[keys[i]] for i in range(0, len(images), 3)], 3)
        ones = np.ones(len(images))
        shape = np.eye(len(BODY_TYPES))[number % 2]
        colour = np.zeros((len(images), 3))
        return PoseEstimates(7.0 * number % 360, 9 * ones, 11 * ones, 0.9 * ones, 0.3 * ones, 0.8 * ones, shape, colour)

    monkeypatch.setattr(search, "estimate_pose", estimate)
    return calls


def annotate(folder, gan, annotator, shapes=0, **options):
    out = Writer(folder)
    run(Config(**SMALL, shapes=shapes, **options), gan, annotator, out, Context())
    return out


def test_proposed_codes_cover_all_bins(tmp_path, gan, annotator, turning):
    out = annotate(tmp_path, gan, annotator)
    codes = ViewCodeSet.load(tmp_path)
    loaded = load_gan(gan.path)
    codes.check_generator(loaded.sha256, loaded.generator.synthesis.layer_names, 8)
    assert codes.missing_bins == ()
    assert [code.bin for code in codes.codes] == list(range(12))
    assert all(code.bin == ALL_AROUND.of(code.azimuth) and code.how == "proposed" for code in codes.codes)
    assert {code.elevation for code in codes.codes} == {9.0}
    assert out.figures["azimuth_bins"] == "12 of 12"
    assert sum(len(images) for images in turning) == 3 * (110 + 36)  # all, then three of every bin
    assert turning[0].shape[1:] == (32, 32, 3)
    assert out.figures["body_types"] == "not told apart"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 12 * 34 - 2


def test_confirmed_codes_are_the_same_codes(tmp_path, gan, annotator, turning):
    annotate(tmp_path / "proposed", gan, annotator)
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
    with pytest.raises(InputError, match=r"\[2\] without a code"):
        annotate(tmp_path / "gap", gan, annotator, bins=bins)


def test_body_types_have_codes_of_their_own(tmp_path, gan, annotator, turning):
    out = annotate(tmp_path, gan, annotator, shapes=3)
    codes = ViewCodeSet.load(tmp_path)
    assert codes.shapes == BODY_TYPES[:2]  # the estimator knows two
    assert codes.views == 12
    assert codes.missing_bins == ()
    numbers = np.round([code.azimuth / 7 for code in codes.codes], 6)
    assert out.figures["body_type_share"] == 1
    assert not set(numbers[:12].tolist()) & set(numbers[12:].tolist())
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"sheet-{name}.png" for name in sorted(BODY_TYPES[:2])
    ]


def test_faces_have_bins_of_their_range_and_hair_styles(tmp_path, gan, monkeypatch):
    annotator = tiny_annotator(tmp_path / "annotator", world="faces")
    styles = get_world("faces").body_types

    def estimate(network, images):
        number = np.repeat(np.arange(len(images) // 3), 3) + 5 * (len(images) % 16)
        azimuth = (number * 37.0) % 140 - 70 + images[:, 0, 0, 0] / 255
        ones = np.ones(len(images))
        shape = np.eye(len(styles))[np.zeros(len(images), int)]
        return PoseEstimates(azimuth % 360, ones, ones, ones, ones, ones, shape, np.zeros((len(images), 3)))

    monkeypatch.setattr(search, "estimate_pose", estimate)
    out = annotate(tmp_path / "out", gan, annotator, shapes=1)
    codes = ViewCodeSet.load(tmp_path / "out")
    assert codes.bins == AzimuthBins(-60, 15, 9)
    assert (codes.missing_bins, codes.shapes) == ((), styles[:1])
    assert [code.bin for code in codes.codes] == list(range(9))
    assert (out.figures["hair_styles"], out.figures["azimuth_bins"]) == (styles[0], "9 of 9")
    assert "body_types" not in out.figures


def test_any_number_of_workers_finds_the_same_codes(tmp_path, gan, annotator, monkeypatch):
    """The networks are random: every candidate counts, whatever its bin."""
    monkeypatch.setattr(search, "TASK_CANDIDATES", 7)
    networks = search.Networks.of(load_gan(gan.path), annotator.path)
    config = search.SearchConfig(num_candidates=30, num_contents=3, shapes=0)
    layers = ("b4.conv1", "b8.conv0")
    monkeypatch.setattr(search, "_choose", lambda config, candidates, names: {"": list(range(len(candidates)))})

    def backwards(function, tasks, label):
        """What two workers may do: each task from its pickle, the last first."""
        return [(k, function(pickle.loads(pickle.dumps(tasks[k])))) for k in reversed(range(len(tasks)))]

    one, two = (search.search_codes(networks, layers, config, mapped) for mapped in (search.serial, backwards))
    assert one.w.equal(two.w)
    for name, value in vars(one.candidates).items():
        np.testing.assert_array_equal(value, getattr(two.candidates, name))
    with patch.object(search, "TASK_CANDIDATES", 64):
        whole = search.search_codes(networks, layers, config)
    np.testing.assert_allclose(whole.candidates.azimuth, one.candidates.azimuth, atol=0.1)


def test_a_generator_without_views_says_which_bins_are_empty(tmp_path, gan, annotator, monkeypatch):
    def front(network, images):
        ones = np.ones(len(images))
        return PoseEstimates(0 * ones, ones, ones, ones, ones, ones, ones[:, None], np.ones((len(images), 3)))

    monkeypatch.setattr(search, "estimate_pose", front)
    with pytest.raises(RunError, match=r"bins 1 \(15 to 45 degrees\), 2 .*11 .*--num-candidates"):
        annotate(tmp_path, gan, annotator)
    assert not (tmp_path / "codes.json").exists()


def test_the_network_reads_every_quantity(gan, annotator):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    network = Network.load(annotator.path)
    pose, found = search.estimate_pose(network, images), network.annotate(images)
    np.testing.assert_array_equal(pose.azimuth, found.azimuth)
    np.testing.assert_array_equal(pose.confidence, found.azimuth_confidence)
    np.testing.assert_allclose(pose.area, (found.parts > 0).mean((1, 2)))
    np.testing.assert_array_equal(pose.shape, found.body_probabilities)
    np.testing.assert_array_equal(pose.colour, found.paint)
    assert all(len(value) == 5 for value in vars(pose).values())


@pytest.mark.parametrize("text", ["3 = 'x'", "a = 1", "3 = true", "3 =", "3 = 1.5"])
def test_bad_bins_files(tmp_path, text):
    path = tmp_path / "bins.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a bins file"):
        read_bins(path)
    with pytest.raises(InputError, match="is not a bins file"):
        read_bins(tmp_path / "missing.toml")
