import importlib.util
import json
import pickle  # noqa: TID251  what an attacker would send
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ganfoundry import weights
from ganfoundry.detect.backends import TorchvisionDetector, from_detectron2, open_detector, resolve_weights
from ganfoundry.detect.filtering import FilterRule, decide
from ganfoundry.detect.mask_rcnn import load_detector
from ganfoundry.detect.torchvision_shim import import_torchvision
from ganfoundry.errors import InputError
from ganfoundry.worlds import get_world

UNSEEN = range(900_000_000, 900_000_010)


@pytest.fixture(scope="module")
def shipped():
    return open_detector("cars-detector")


@pytest.fixture(scope="module")
def renders():
    samples = [get_world("cars").render(seed, 64) for seed in UNSEEN]
    return np.stack([s.image for s in samples]), np.stack([s.instances for s in samples])


def test_shipped_weights_are_those_of_their_card():
    card = weights.read_card("cars-detector")
    assert load_detector(resolve_weights("cars-detector")).sha256 == card["sha256"]
    assert card["bytes"] < 20e6
    assert {"mask_ap", "filter_precision", "filter_recall"} <= card["figures"].keys()
    weights.verify("cars-detector")


def test_shipped_detector_finds_the_car_of_unseen_renders(shipped, renders):
    images, instances = renders
    decisions = [decide(found, FilterRule()) for found in shipped.detect(images)]
    assert sum(decision.instances == 1 for decision in decisions) >= 9
    overlaps = [
        (decision.mask & (ids == 1)).sum() / (decision.mask | (ids == 1)).sum()
        for decision, ids in zip(decisions, instances, strict=True)
    ]
    assert np.median(overlaps) > 0.85


def test_shipped_detector_sees_nothing_and_several(shipped):
    plain = np.full((1, 64, 64, 3), 150, np.uint8)
    assert len(shipped.detect(plain)[0].rows(shipped.detect(plain)[0].scores > 0.5)) == 0
    scene = get_world("cars").render_scene(900_000_020, 128, num_objects=4)
    found = shipped.detect(scene.image[None])[0]
    assert (found.scores > 0.5).sum() >= 2
    assert (np.diff(found.scores) <= 0).all()


def test_detections_do_not_depend_on_the_batch(shipped, renders):
    images, _ = renders
    together = shipped.detect(images)
    for image, found in zip(images, together, strict=True):
        alone = shipped.detect(image[None])[0]
        assert np.array_equal(alone.masks, found.masks)
        assert np.allclose(alone.scores, found.scores, atol=1e-5)


def test_shapes_of_the_result(shipped):
    found = shipped.detect(np.zeros((2, 48, 80, 3), np.uint8))
    assert len(found) == 2
    assert found[0].masks.shape[1:] == (48, 80)
    assert found[0].masks.dtype == bool
    assert shipped.detect(np.zeros((0, 48, 80, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 64, 64), (1, 3, 64, 64)])
def test_wrong_images_are_refused(shipped, shape):
    with pytest.raises(InputError, match="uint8 images"):
        shipped.detect(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="float64"):
        shipped.detect(np.zeros((1, 64, 64, 3)))


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_absent_detectron2_says_what_to_install():
    with pytest.raises(InputError, match="detectron2") as caught:
        open_detector("", backend="detectron2", config_file="mask_rcnn.yaml")
    assert "--backend torchvision" in str(caught.value)
    assert caught.value.exit_code == 2


def test_detectron2_results_are_turned_into_ours():
    result = SimpleNamespace(
        scores=torch.tensor([0.2, 0.9]),
        pred_masks=torch.stack([torch.zeros(4, 5), torch.ones(4, 5)]) > 0,
        pred_boxes=SimpleNamespace(tensor=torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2]])),
        pred_classes=torch.tensor([0, 2]),
    )
    result.to = lambda device: result
    found = from_detectron2(result)
    assert found.labels.tolist() == [3, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.2])
    assert found.boxes.tolist() == [[1, 1, 2, 2], [0, 0, 1, 1]]
    assert found.masks[0].all()


def test_unknown_names():
    with pytest.raises(InputError, match="cars-detector"):
        open_detector("cats-detector")
    with pytest.raises(InputError, match="torchvision, detectron2"):
        open_detector("cars-detector", backend="yolo")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a weights file ran code",))


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 damaged")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 100)
    for name, words in {
        "trap.pth": "cannot be read",
        "damaged.pth": "cannot be read",
        "other.pth": "no torchvision Mask R-CNN",
        "list.pth": "not a state dict",
        "damaged.safetensors": "damaged",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            open_detector(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_own_weights_of_torchvision_models(tmp_path, version):
    build = getattr(import_torchvision().models.detection, version)
    torch.manual_seed(0)
    net = build(weights=None, weights_backbone=None, num_classes=5)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    detector = open_detector(tmp_path / "own.pth", score_threshold=0.0)
    assert isinstance(detector, TorchvisionDetector)
    detector.net.transform.min_size = (128,)
    found = detector.detect(np.full((1, 64, 64, 3), 100, np.uint8))[0]
    assert set(found.labels.tolist()) <= {1, 2, 3, 4}
    incomplete = dict(list(net.state_dict().items())[:-1])
    torch.save(incomplete, tmp_path / "incomplete.pth")
    with pytest.raises(InputError, match="do not fit"):
        open_detector(tmp_path / "incomplete.pth")


def test_card_and_weights_must_agree(tmp_path):
    source = resolve_weights("cars-detector")
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="not those of their card"):
        open_detector(tmp_path)
