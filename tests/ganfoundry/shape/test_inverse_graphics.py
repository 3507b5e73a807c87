"""The network, its objective and its training on a toy set: shapes, symmetries, gradients, learning, resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.config import DiscriminatorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.train_log import read_log
from ganfoundry.images import network_images
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.inverse_graphics import ObjectiveConfig, camera_head_loss, cross_pairs, infer, read
from ganfoundry.shape.inverse_training import InverseTrainer, InverseTraining, train
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig
from ganfoundry.shape.regularisers import mirrored
from tests.ganfoundry.shape.toys import toy_views

NETWORK = NetworkConfig(num_parts=3, num_keypoints=2, level=2, width=8, code=32, basis=4, texture=(16, 32))
TRAINING = InverseTraining(steps=6, objects=2, bf16=False, turn_every=2, camera_from=1)


@pytest.fixture(scope="module")
def views() -> MultiView:
    return toy_views()


@pytest.fixture
def trainer(views: MultiView) -> InverseTrainer:
    return InverseTrainer(NETWORK, TRAINING, views)


def test_cross_pairs() -> None:
    def pairs(*arguments: object) -> list[tuple[int, int]]:
        sources, targets = cross_pairs(*arguments)  # type: ignore[arg-type]
        return sorted(zip(sources.tolist(), targets.tolist(), strict=True))

    assert pairs(4, 2, "all", True) == [(i, j) for i in range(4) for j in range(4) if i // 2 == j // 2]
    assert pairs(4, 2, "all", False) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert pairs(6, 3, "pairs", True) == sorted(
        [(i, i) for i in range(6)] + [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    )
    assert len(pairs(6, 3, "all", False)) == 12
    assert pairs(2, 1, "all", False) == [(0, 0), (1, 1)]


def test_the_untrained_network_draws_its_ellipsoid(views: MultiView) -> None:
    network = InverseGraphicsNetwork(NETWORK)
    with torch.no_grad():
        network.basis.zero_()
        reading = read(network, network_images(views.images[:3]), None)
    assert torch.allclose(reading.shape.vertices, network.start.expand(3, -1, -1))
    assert torch.allclose(reading.shape.keypoint_weights.sum(2), torch.ones(3, 2))
    assert reading.surface.colours.shape == (3, 3, 16, 32)
    assert float(reading.surface.colours.abs().max()) <= 1
    assert reading.surface.parts.shape == (3, 2, 16, 32)


def test_mirror_images_of_keypoints_are_told_by_their_names(views: MultiView) -> None:
    """Left and right share one distribution, mirrored; what is in the middle stays in the middle."""
    names = ("wheel_left", "plate", "wheel_right", "left_over")
    data = replace(views, keypoints=np.zeros((len(views), 4, 3), np.float32), keypoint_names=names)
    network = InverseTrainer(replace(NETWORK, num_keypoints=4), TRAINING, data).network
    assert network.config.keypoint_mirror == (2, 1, 0, 3)
    with torch.no_grad():
        start = network.shape(network.encode(network_images(views.images[:1]))).keypoints[0]
    assert float(start[0, 0]) > 0.1  # left is +X
    assert float(start[1, 0].abs()) < 1e-5
    with torch.no_grad():
        network.keypoint_logits.normal_()
        shape = network.shape(network.encode(network_images(views.images[:2])))
    left, plate, right, _ = shape.keypoints.unbind(1)
    assert torch.allclose(left, right * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-5)
    assert plate[:, 0].abs().max() < 1e-5
    free = InverseTrainer(replace(NETWORK, num_keypoints=4, symmetric_shape=False), TRAINING, data).network
    assert free.config.keypoint_mirror == ()


def test_keypoints_do_not_move_the_surface_or_the_cameras(trainer: InverseTrainer) -> None:
    batch = trainer.batch(trainer.data.draw(np.random.default_rng(0), 2, 2).ravel())
    terms = trainer.objective(trainer.network, trainer.table, batch, 10_000)
    terms["keypoints"].backward()
    assert trainer.network.keypoint_logits.grad is not None
    assert trainer.network.keypoint_logits.grad.abs().max() > 0
    assert trainer.network.mean.grad is None
    assert trainer.table.codes.grad is None


@pytest.mark.parametrize("symmetric", [True, False])
def test_symmetry_is_an_option(symmetric: bool, views: MultiView) -> None:
    network = InverseGraphicsNetwork(replace(NETWORK, symmetric_shape=symmetric))
    with torch.no_grad():
        network.mean.normal_()
        vertices = network.shape(network.encode(network_images(views.images[:2]))).vertices
    same = torch.allclose(vertices, mirrored(vertices, network.mirror), atol=1e-5)
    assert same == symmetric


def test_an_image_and_its_mirror_image_are_read_as_one_shape_from_mirrored_cameras(views: MultiView) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(num_parts=3, num_keypoints=2, level=2, width=8, code=32, basis=8, keypoint_mirror=(1, 0))
    network, images = InverseGraphicsNetwork(config).eval(), network_images(views.images[:5])
    torch.nn.init.normal_(network.keypoint_coefficients.weight)
    with torch.no_grad():
        one, other = infer(network, images), infer(network, images.flip(3))
        alone = read(network, images, None)
    assert torch.allclose(one.shape.vertices, other.shape.vertices, atol=1e-6)
    assert not torch.allclose(one.shape.vertices, alone.shape.vertices, atol=1e-6), "both images count"
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(one.shape.keypoints, other.shape.keypoints[:, [1, 0]] * flip, atol=1e-5)
    assert torch.allclose(one.guess.direction, other.guess.direction * torch.tensor([-1.0, 1.0]), atol=1e-5)
    assert torch.allclose(one.guess.shift, other.guess.shift * torch.tensor([-1.0, 1.0]), atol=1e-6)
    assert torch.allclose(one.guess.elevation, other.guess.elevation, atol=1e-4)
    lopsided = InverseGraphicsNetwork(replace(config, symmetric_shape=False, keypoint_mirror=())).eval()
    with torch.no_grad():
        one, alone = infer(lopsided, images), read(lopsided, images, None)
    assert torch.equal(one.shape.vertices, alone.shape.vertices), "nothing is known of its mirror image"


def test_what_the_image_shows_is_on_the_texture(views: MultiView) -> None:
    """Seen texels have the image's colours; with a symmetric texture their mirror images have them too."""
    table = CameraTable([60.0], 0, 4.0, 30.0)
    image = network_images(views.images[1:2])
    both = {}
    for symmetric in (True, False):
        torch.manual_seed(0)
        network = InverseGraphicsNetwork(replace(NETWORK, symmetric_texture=symmetric))
        with torch.no_grad():
            both[symmetric] = read(network, image, table(torch.tensor([0]))).surface
    seen = both[False].seen[0, 0] == 1
    assert seen.any()
    assert torch.allclose(both[True].colours[0, :, seen], both[False].colours[0, :, seen])
    only_mirrored = seen.flip(1) & (both[False].seen[0, 0] == 0)
    expected = both[False].colours.flip(3)[0, :, only_mirrored]
    assert torch.allclose(both[True].colours[0, :, only_mirrored], expected)


def test_every_parameter_takes_a_gradient(trainer: InverseTrainer) -> None:
    batch = trainer.batch(trainer.data.draw(np.random.default_rng(0), 2, 2).ravel())
    terms = trainer.objective(trainer.network, trainer.table, batch, 0)
    terms |= trainer.objective(trainer.network, trainer.table, batch, 10_000)
    trainer.objective.total(terms).backward()
    for name, parameter in [*trainer.network.named_parameters(), *trainer.table.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_perceptual_loss_is_zero_for_the_same_pictures_only(views: MultiView) -> None:
    channels = {4: 8, 8: 8, 16: 8, 32: 8}
    discriminator = Discriminator(DiscriminatorConfig(resolution=32, channels=channels))
    objective = ObjectiveConfig(perceptual_from=0, perceptual_share=1.0)
    trainer = InverseTrainer(NETWORK, replace(TRAINING, objective=objective), views, discriminator)
    batch = trainer.batch(trainer.data.draw(np.random.default_rng(0), 1, 2).ravel())
    assert float(trainer.objective(trainer.network, trainer.table, batch, 0)["perceptual"].detach()) > 0.01
    assert not any(p.requires_grad for p in discriminator.parameters())


def test_camera_head_loss_is_zero_for_the_right_camera() -> None:
    from ganfoundry.shape.networks import CameraGuess

    parameters = torch.tensor([[40.0, 5.0, 0.1, 0.01, 0.02], [200.0, -5.0, 0.0, 0.0, 0.0]])
    angle = torch.deg2rad(parameters[:, 0])
    guess = CameraGuess(
        torch.stack([angle.sin(), angle.cos()], 1), parameters[:, 1], parameters[:, 2], parameters[:, 3:]
    )
    assert float(camera_head_loss(guess, parameters)) == pytest.approx(0, abs=1e-10)
    assert torch.allclose(guess.azimuth % 360, parameters[:, 0], atol=1e-3)
    assert float(camera_head_loss(guess._replace(elevation=parameters[:, 1] + 10), parameters)) == pytest.approx(1)


def test_a_continued_run_takes_the_same_steps(views: MultiView, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    straight = InverseTrainer(NETWORK, TRAINING, views)
    train(straight, whole, checkpoint_steps=3)

    class KilledError(Exception):
        pass

    def kill(trainer: InverseTrainer) -> dict[str, float]:
        raise KilledError

    with pytest.raises(KilledError):
        train(InverseTrainer(NETWORK, TRAINING, views), halves, checkpoint_steps=3, show=kill)
    resumed = InverseTrainer(NETWORK, TRAINING, views)
    counted: list[int] = []
    train(resumed, halves, checkpoint_steps=3, advance=counted.append)
    assert counted == [3, 1, 1, 1]
    for name, value in straight.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name
    assert [line["step"] for line in read_log(whole)] == [3, 6]


def test_a_checkpoint_of_another_recipe_is_refused(views: MultiView, trainer: InverseTrainer, tmp_path: Path) -> None:
    trainer.take_step()
    trainer.save(tmp_path)
    other = InverseTrainer(NETWORK, replace(TRAINING, learning_rate=1.0), views)
    with pytest.raises(InputError, match="other options"):
        other.load(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="delete it"):
        trainer.load(tmp_path)


def test_divergence_is_a_sentence_and_keeps_the_checkpoint(trainer: InverseTrainer, tmp_path: Path) -> None:
    trainer.save(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with torch.no_grad():
        trainer.network.mean.fill_(float("nan"))
    with pytest.raises((RunError, InputError), match="finite"):
        trainer.take_step()
    with torch.no_grad():
        trainer.network.mean.zero_()
        trainer.network.mean += 40 * torch.randn(trainer.network.mean.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RunError, match=r"exploded.*--learning-rate"):
        trainer.check_meshes()
    with torch.no_grad():
        trainer.network.mean.copy_(torch.linalg.solve(trainer.network.smooth, -trainer.network.start))
        trainer.network.basis.zero_()
    with pytest.raises(RunError, match="collapsed"):
        trainer.check_meshes()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.slow
def test_it_learns_the_toy_bodies(views: MultiView) -> None:
    """Silhouettes, colours, parts and keypoints improve on views that are drawn from another view's code."""
    objective = ObjectiveConfig(pull_steps=20, input_from=0)
    training = InverseTraining(
        steps=150, objects=3, bf16=False, learning_rate=3e-3, camera_from=10, objective=objective
    )
    trainer = InverseTrainer(replace(NETWORK, radii=(0.5, 0.5, 0.6)), training, views)
    history: list[dict[str, float]] = [trainer.take_step() for _ in range(150)]

    def mean(name: str, rows: slice) -> float:
        return float(np.mean([h[name] for h in history[rows] if name in h]))

    for name, gain in (("iou", 0.5), ("colour", 0.75), ("parts", 0.5), ("keypoints", 0.3)):
        assert mean(name, slice(-10, None)) < gain * mean(name, slice(0, 5)), name


def test_cameras_find_their_place(views: MultiView) -> None:
    """A camera 12 degrees off moves towards the truth when the shape is right: the sign of its gradient."""
    wrong = 12.0
    network = InverseGraphicsNetwork(NETWORK)
    table = CameraTable(views.azimuths, 0, 4.0, 30.0)
    with torch.no_grad():
        network.basis.zero_()
        table.codes[1, 0] = wrong / 10
    from ganfoundry.shape.inverse_graphics import Mesh, draw
    from ganfoundry.shape.losses import silhouette_loss

    mesh = Mesh.of_level(2)
    texture = torch.zeros(1, 3, 16, 32)
    vertices = network.start[None] * torch.tensor([0.6, 1.0, 1.2])

    def mask(cameras: object) -> Tensor:
        return draw(network, mesh, vertices, texture, cameras, 64).mask  # type: ignore[arg-type]

    truth = mask(CameraTable(views.azimuths, 0, 4.0, 30.0)(torch.tensor([1]))).detach()
    silhouette_loss(mask(table(torch.tensor([1]))), truth).sum().backward()  # type: ignore[no-untyped-call]
    assert table.codes.grad is not None
    assert float(table.codes.grad[1, 0]) > 0
