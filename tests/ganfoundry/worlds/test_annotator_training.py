from dataclasses import replace

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.worlds.annotator import Annotation, Annotator
from ganfoundry.worlds.annotator_data import Renders, augment, mirror, recolour, smear, to_batch, warp
from ganfoundry.worlds.annotator_net import AnnotatorConfig, AnnotatorNet, decode_keypoints
from ganfoundry.worlds.annotator_training import (
    Recipe,
    annotator_losses,
    evaluate,
    fit,
    keypoint_targets,
    one_cycle,
    part_weights,
)

SIDE = 32
SCHEMA = PartSchema(
    name="blobs",
    parts=("background", "left", "right"),
    levels={"parts2": ("background", "blob", "blob")},
    keypoints=("left", "right", "middle"),
    flip_pairs=((0, 1),),
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def tiny_config():
    return AnnotatorConfig(
        world="blobs",
        parts=SCHEMA.parts,
        keypoints=SCHEMA.keypoints,
        body_types=("round", "square"),
        keypoint_mirror=tuple(SCHEMA.flip_permutation().tolist()),
        mean_distance=8.0,
        channels=(4, 8, 8, 8, 8),
        resolution=SIDE,
    )


def blobs(count, seed=0):
    """Two-coloured discs; colour, place and size are their labels, and the azimuth is their place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    images, parts, points, azimuths, distances, bodies, paints = [], [], [], [], [], [], []
    for _ in range(count):
        cx, cy, radius = rng.uniform(11, 21), rng.uniform(12, 20), rng.uniform(5, 8)
        paint = rng.uniform(0.3, 1, 3)
        square = rng.random() < 0.5
        inside = np.maximum(abs(x - cx), abs(y - cy)) < radius if square else np.hypot(x - cx, y - cy) < radius
        label = np.where(inside, np.where(x < cx, 1, 2), 0)
        image = np.where((label > 0)[..., None], paint * np.where(label == 1, 1.0, 0.6)[..., None], 0.1)
        images.append(np.round(image * 255))
        parts.append(label)
        points.append([[cx - radius / 2, cy, 2], [cx + radius / 2, cy, 1], [cx, cy, 2]])
        azimuths.append((cx - 16) * 15)
        distances.append(50 / radius)
        bodies.append(int(square))
        paints.append(paint)
    return Renders(
        image=np.array(images, np.uint8),
        parts=np.array(parts, np.uint8),
        keypoints=np.array(points, np.float32),
        azimuth=np.array(azimuths, np.float32),
        elevation=np.full(count, 9, np.float32),
        distance=np.array(distances, np.float32),
        body=np.array(bodies, np.int64),
        paint=np.array(paints, np.float32),
    )


def test_mirror_changes_all_labels_together():
    batch = to_batch(blobs(6))
    rows = torch.tensor([True, False, True, True, False, True])
    order = torch.from_numpy(SCHEMA.flip_permutation())
    once = mirror(batch, rows, order)
    torch.testing.assert_close(once.azimuth, torch.where(rows, -batch.azimuth, batch.azimuth))
    torch.testing.assert_close(once.image[0], batch.image[0].flip(2))
    torch.testing.assert_close(once.image[1], batch.image[1])
    for row in range(6):
        # The left keypoint of the mirrored object lies on the mirrored image of its right keypoint.
        source = order if rows[row] else torch.arange(3)
        expected = batch.keypoints[row, source].clone()
        if rows[row]:
            expected[:, 0] = SIDE - expected[:, 0]
        torch.testing.assert_close(once.keypoints[row], expected)
    twice = mirror(once, rows, order)
    for name in ("image", "parts", "keypoints", "azimuth"):
        torch.testing.assert_close(getattr(twice, name), getattr(batch, name))


def test_warp_moves_pixels_and_keypoints_alike():
    batch = to_batch(blobs(8))
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(8, generator=generator) * 0.2 + 0.9
    shift = torch.rand(8, 2, generator=generator) * 4 - 2
    wobble = torch.randn(8, 2, 4, 4, generator=generator) * 0.6
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    batch = replace(batch, image=torch.stack([x, y, y])[None].expand(8, -1, -1, -1) / SIDE)
    moved = warp(batch, scale, shift, wobble)
    torch.testing.assert_close(moved.distance, batch.distance / scale)
    # The image spells every pixel's own position, so that a moved keypoint can read where it came from.
    grid = (moved.keypoints[:, None, :, :2] - SIDE / 2) * (2 / SIDE)
    read = torch.nn.functional.grid_sample(moved.image[:, :2], grid, align_corners=False)[:, :, 0].transpose(1, 2)
    assert (read * SIDE - batch.keypoints[..., :2]).abs().max() < 0.4
    assert (moved.keypoints[..., :2] - batch.keypoints[..., :2]).abs().max() > 2


def test_warp_by_whole_pixels_is_a_shift():
    batch = to_batch(blobs(2))
    moved = warp(batch, torch.ones(2), torch.tensor([[3.0, -2.0]] * 2), torch.zeros(2, 2, 3, 3))
    torch.testing.assert_close(moved.image[:, :, 2:-4, 5:], batch.image[:, :, 4:-2, 2:-3], atol=1e-5, rtol=0)
    assert torch.equal(moved.parts[:, 2:-4, 5:], batch.parts[:, 4:-2, 2:-3])
    torch.testing.assert_close(moved.keypoints[..., :2], batch.keypoints[..., :2] + torch.tensor([3.0, -2.0]))
    gone = warp(batch, torch.ones(2), torch.tensor([[40.0, 0.0]] * 2), torch.zeros(2, 2, 3, 3))
    assert gone.keypoints[..., 2].eq(0).all()


def test_paint_follows_the_colours():
    batch = to_batch(blobs(4))
    changed = recolour(batch, torch.full((4, 3), 0.8), torch.full((4, 3), -0.1))
    for row in range(4):
        pixel = changed.image[row][:, batch.parts[row] == 1].mean(1)
        torch.testing.assert_close((pixel + 1) / 2, changed.paint[row], atol=0.01, rtol=0)


def test_smear():
    image = torch.rand(2, 3, SIDE, SIDE)
    zero = torch.zeros_like(image)
    torch.testing.assert_close(smear(image, torch.zeros(2, 1, 2, 2), zero), image)
    soft = smear(image, torch.ones(2, 1, 2, 2), zero)
    torch.testing.assert_close(soft[:, :, 10, 12], image[:, :, 8:13, 10:15].mean((2, 3)))


def test_augmentation_is_a_function_of_its_seed():
    batch, order = to_batch(blobs(4)), torch.from_numpy(SCHEMA.flip_permutation())
    first, again, other = (augment(batch, order, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.keypoints, again.keypoints)
    assert not torch.equal(first.image, other.image)


def test_heat_map_targets_decode_to_their_keypoints():
    points = torch.rand(5, 7, 2, generator=torch.Generator().manual_seed(0)) * 40 + 12
    target = keypoint_targets(points, 32, 64)
    torch.testing.assert_close(target.sum((2, 3)), torch.ones(5, 7))
    torch.testing.assert_close(decode_keypoints(target.clamp(min=1e-12).log(), 64), points, atol=0.15, rtol=0)


def test_one_cycle_rises_then_falls():
    rates = [one_cycle(step, 1000, 4e-3) for step in range(1000)]
    assert max(rates) == pytest.approx(4e-3, rel=1e-3)
    assert int(np.argmax(rates)) in (199, 200)
    assert np.all(np.diff(rates[:199]) > 0)
    assert np.all(np.diff(rates[201:]) < 0)
    assert rates[-1] < 1e-6


def test_rare_parts_weigh_more():
    parts = np.zeros((1, 10, 10), np.uint8)
    parts[0, 0, :5], parts[0, 1, 0] = 1, 2
    weights = part_weights(parts, 4)
    assert weights[0] < weights[1] < weights[2]
    assert torch.isfinite(weights).all()


def exact_annotation(renders):
    return Annotation(
        parts=renders.parts,
        part_confidence=np.ones(len(renders), np.float32),
        keypoints=renders.keypoints,
        azimuth=renders.azimuth,
        azimuth_confidence=np.ones(len(renders), np.float32),
        elevation=renders.elevation,
        distance=renders.distance,
        body_type=renders.body,
        body_probabilities=np.eye(2, dtype=np.float32)[renders.body],
        paint=renders.paint,
    )


def test_evaluation_of_exact_and_of_wrong_annotations():
    renders = blobs(10)
    figures = evaluate(exact_annotation(renders), renders, SCHEMA)
    assert figures["miou_fine"] == figures["miou_parts2"] == figures["pck_5"] == figures["body_type_accuracy"] == 1
    assert figures["azimuth_median_error"] == figures["elevation_mean_error"] == figures["paint_error"] == 0
    wrong = exact_annotation(renders)
    object.__setattr__(wrong, "azimuth", (renders.azimuth + 180) % 360)
    object.__setattr__(wrong, "keypoints", renders.keypoints + np.float32([0.07 * SIDE, 0, 0]))
    object.__setattr__(wrong, "parts", np.where(renders.parts > 0, 3 - renders.parts, 0).astype(np.uint8))
    figures = evaluate(wrong, renders, SCHEMA)
    assert figures["azimuth_flip_share"] == 1
    assert figures["azimuth_median_error"] == pytest.approx(180)
    assert (figures["pck_5"], figures["pck_10"]) == (0, 1)
    assert figures["miou_fine"] == pytest.approx(1 / 3)
    assert figures["miou_parts2"] == 1


def test_loss_is_smallest_at_the_labels():
    batch = to_batch(blobs(3))
    torch.manual_seed(0)
    net = AnnotatorNet(tiny_config())
    output = net(batch.image)
    radians = torch.deg2rad(batch.azimuth)
    target = keypoint_targets(batch.keypoints[..., :2], SIDE // 2, SIDE)
    best = output._replace(
        parts=torch.nn.functional.one_hot(batch.parts, 3).permute(0, 3, 1, 2) * 20.0,
        heatmaps=target.clamp(min=1e-9).log(),
        visibility=torch.nn.functional.one_hot(batch.keypoints[..., 2].long(), 3) * 20.0,
        direction=torch.stack([radians.sin(), radians.cos()], 1),
        elevation=batch.elevation / 45,
        distance=(batch.distance / 8).log(),
        body=torch.nn.functional.one_hot(batch.body, 2) * 20.0,
        paint=batch.paint,
    )
    weights = torch.ones(3)
    losses, lowest = annotator_losses(output, batch, weights, 8.0), annotator_losses(best, batch, weights, 8.0)
    assert all(lowest[name] < losses[name] for name in losses)
    assert all(lowest[name] < 1e-6 for name in losses if name != "keypoints")


def test_interrupted_training_continues_exactly(tmp_path):
    data, recipe = blobs(40), Recipe(steps=6, batch_size=8, checkpoint_every=2, seed=3)

    def start():
        torch.manual_seed(1)
        return AnnotatorNet(tiny_config())

    class Killed(Exception):
        pass

    def kill(step, losses):
        if step == 5:
            raise Killed

    whole = start()
    fit(whole, data, recipe, checkpoint=tmp_path / "whole.safetensors")
    with pytest.raises(Killed):
        fit(start(), data, recipe, checkpoint=tmp_path / "part.safetensors", on_step=kill)
    seen = []
    continued = start()
    fit(
        continued,
        data,
        recipe,
        checkpoint=tmp_path / "part.safetensors",
        on_step=lambda step, losses: seen.append(step),
    )
    assert seen == [5, 6]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name


def test_foreign_and_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    net = AnnotatorNet(tiny_config())
    fit(net, blobs(16), Recipe(steps=1, batch_size=4), checkpoint=path)
    with pytest.raises(InputError, match="other options"):
        fit(net, blobs(16), Recipe(steps=2, batch_size=4), checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        fit(net, blobs(16), Recipe(steps=1, batch_size=4), checkpoint=path)


def test_a_short_training_learns_to_see():
    torch.manual_seed(0)
    net = AnnotatorNet(tiny_config())
    fit(net, blobs(300), Recipe(steps=150, batch_size=16, peak_rate=1e-2))
    unseen = blobs(60, seed=1)
    figures = evaluate(Annotator(net).annotate(unseen.image), unseen, SCHEMA)
    assert figures["miou_parts2"] > 0.7
    assert figures["azimuth_median_error"] < 25  # a blind guess: about 35
    assert figures["elevation_mean_error"] < 5
