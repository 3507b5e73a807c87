from dataclasses import replace

import numpy as np
import pytest
import torch

from ganfoundry.downstream import Examples, Recipe, Supervised, build_net, fit, keypoint_figures, part_figures, predict
from ganfoundry.downstream.augmentation import Batch
from ganfoundry.downstream.methods import MeanTeacher, painter, reconstruction, with_backbone
from ganfoundry.downstream.training import rarity_weights, task_losses
from ganfoundry.errors import InputError, RunError
from tests.ganfoundry.downstream.toys import MIRROR, toy_examples, toy_net

RECIPE = Recipe(steps=60, batch_size=8, peak_rate=1e-2, precision="fp32", average=0.9)
SHORT = replace(RECIPE, steps=6, checkpoint_every=2)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Stopped(Exception):
    pass


def trained(task, recipe=RECIPE, examples=None, **options):
    net = build_net(toy_net(task), recipe.seed)
    fit(net, Supervised(examples or toy_examples(), recipe, MIRROR), recipe, **options)
    return net


def weights(net):
    return torch.cat([value.float().flatten() for value in net.state_dict().values()])


def test_parts_are_learnt():
    unseen = toy_examples(20, seed=1)
    found = predict(trained("parts"), unseen.image)
    assert part_figures(unseen.label, found.label, 3)["miou"] > 0.75


def test_keypoints_and_visibility_are_learnt():
    data = toy_examples(24)
    data.keypoints[data.label.max((1, 2)) == 2, :, 2] = 0  # those of blue squares are hidden
    net = trained("keypoints", replace(RECIPE, steps=120), data)
    unseen = toy_examples(20, seed=1)
    found = predict(net, unseen.image).keypoints
    red = unseen.label.max((1, 2)) == 1
    assert found[red, :, 2].min() > 0.5 > found[~red, :, 2].max()
    figures = keypoint_figures(unseen.rows(np.flatnonzero(red)), found[red])
    assert figures["pck10"] > 0.9


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (weights(trained("parts", replace(SHORT, seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("task", ["parts", "keypoints"])
def test_an_interrupted_training_takes_the_same_steps(task, tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    def stop(step, terms):
        if step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        trained(task, SHORT, checkpoint=path, on_step=stop)
    steps = []
    continued = trained(task, SHORT, checkpoint=path, on_step=lambda step, terms: steps.append(step))
    assert steps == [5, 6]
    assert torch.equal(weights(continued), weights(trained(task, SHORT)))


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained("parts", SHORT, checkpoint=path, key="a")
    with pytest.raises(InputError, match="another training"):
        trained("parts", SHORT, checkpoint=path, key="b")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        trained("parts", SHORT, checkpoint=path, key="a")


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(RunError, match="cannot write the checkpoint"):
        trained("parts", SHORT, checkpoint=tmp_path / "missing" / "checkpoint.safetensors")


def test_a_loss_that_is_no_number():
    net = build_net(toy_net("parts"))
    with pytest.raises(RunError, match="not a number at step 1"):
        fit(net, lambda *_: {"loss": torch.tensor(float("nan"))}, SHORT)


def test_no_images_and_no_keypoints_are_refused():
    with pytest.raises(InputError, match="no labelled image"):
        Supervised(toy_examples(1).rows(slice(0, 0)), RECIPE)
    data = toy_examples(4)
    with pytest.raises(InputError, match="no keypoints"):
        trained("keypoints", SHORT, Examples(data.image, data.label))


def test_rare_classes_weigh_more_and_weights_are_used():
    data = toy_examples(8)
    weight = rarity_weights(data, 3)
    assert weight[0] < min(weight[1], weight[2])
    one = rarity_weights(data.rows(slice(0, 1)), 12)  # hardly a class is there
    assert torch.isfinite(one).all()
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 0] = 1.0
    label = torch.tensor([[[0, 0], [0, 2]]])
    found = task_losses(logits, Batch(torch.zeros(1, 3, 2, 2), label, None), torch.tensor([1.0, 1.0, 3.0]))["parts"]
    right, wrong = -torch.log_softmax(torch.tensor([1.0, 0, 0]), 0)[[0, 2]]
    assert found == pytest.approx(float((3 * right + 3 * wrong) / 6), abs=1e-6)


def test_a_frozen_backbone_keeps_its_parameters():
    before = [p.clone() for p in build_net(toy_net("parts"), 0).backbone.parameters()]
    after = trained("parts", replace(SHORT, backbone_rate=0.0)).backbone.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("task", ["parts", "keypoints"])
def test_mean_teacher_learns_and_agrees(task):
    data, unlabelled = toy_examples(8), toy_examples(30, seed=2)
    terms, recipe = [], replace(RECIPE, steps=100)
    net = build_net(toy_net(task))
    objective = MeanTeacher(Supervised(data, recipe, MIRROR), unlabelled.image)
    fit(net, objective, recipe, on_step=lambda step, found: terms.append(found))
    assert terms[0]["agreement"] < terms[30]["agreement"]  # it is switched on slowly
    assert np.isfinite(terms[-1]["total"])
    unseen = toy_examples(20, seed=1)
    found = predict(net, unseen.image)
    if task == "parts":
        assert part_figures(unseen.label, found.label, 3)["miou"] > 0.6
    else:
        assert keypoint_figures(unseen, found.keypoints)["pck10"] > 0.5


def test_mean_teacher_and_self_training_need_images():
    none = toy_examples(1).image[:0]
    with pytest.raises(InputError, match="at least one"):
        MeanTeacher(Supervised(toy_examples(2), RECIPE), none)
    with pytest.raises(InputError, match="at least one"):
        painter(toy_net("parts"), none, RECIPE, 0)


def test_self_training_paints_and_hands_on_its_backbone():
    images, losses = toy_examples(30).image, []
    net = build_net(replace(toy_net("parts"), outputs=("red", "green", "blue")))
    fit(net, reconstruction(images, RECIPE), RECIPE, on_step=lambda step, terms: losses.append(terms["total"]))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    first, again = (painter(toy_net(task), images, SHORT, 0) for task in ("parts", "keypoints"))
    assert torch.equal(weights(first), weights(again)), "one painter serves both tasks"
    net = with_backbone(toy_net("keypoints"), first, 0)
    fresh = build_net(toy_net("keypoints"), 0)
    assert torch.equal(weights(net.backbone), weights(first.backbone))
    assert not torch.equal(weights(net.backbone), weights(fresh.backbone))
    assert torch.equal(net.heat.weight, fresh.heat.weight)
