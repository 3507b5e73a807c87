from dataclasses import replace

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.labels.direction import DirectionHead, coarse_layers, make_network
from ganfoundry.labels.labelset import LabelSet
from pages import assistant as module
from pages.assistant import Assistant, Networks
from pages.label_store import LabelStore
from tests.pages.pagehelp import SCHEMA, SIDE, shaded_labels, until
from tests.stages.labelhelp import shades_gan

NOWHERE = np.zeros((3, 3), np.float32)


@pytest.fixture
def truth(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 60)
    gan = shades_gan(tmp_path / "gan")
    labels = shaded_labels(tmp_path / "labels", gan)
    networks = Networks(load_gan(gan.path).generator.synthesis)
    return tmp_path / "labels", labels, networks


def trained(assistant):
    until(lambda: assistant.progress.state != "running")
    return assistant.progress


def share(proposal, mask):
    return float((proposal.mask == mask).mean())


def test_it_learns_from_what_is_done_and_labels_the_rest(truth):
    folder, labels, networks = truth
    store = LabelStore(folder)
    for name in labels.names[2:]:  # what is not done is wrong, and must not be learnt
        store.save(name, 1, np.full((SIDE, SIDE), 9, np.uint8), NOWHERE, False)
    for name, mask in zip(labels.names[:2], labels.masks, strict=False):
        store.save(name, 1, mask, NOWHERE, True)
    assistant = Assistant(store, lambda: networks)
    assert assistant.sources == []
    assert assistant.train().samples == 2
    progress = trained(assistant)
    assert (progress.state, progress.step) == ("done", 60)
    assert assistant.sources == ["trained"]
    assert (
        min(
            share(assistant.propose("trained", name), mask)
            for name, mask in zip(labels.names, labels.masks, strict=True)
        )
        > 0.7
    )
    # another server on the same folder finds the interpreter again
    again = Assistant(LabelStore(folder), lambda: networks)
    first, second = again.propose("trained", "sample-5"), assistant.propose("trained", "sample-5")
    np.testing.assert_array_equal(first.mask, second.mask)
    assert LabelSet.load(folder).masks[5].min() == 9  # a proposal changes nothing


def test_keypoints_are_learnt_where_there_are_any(truth):
    folder, labels, networks = truth
    store = LabelStore(folder)
    points = np.array([[4, 4, 2], [8, 8, 1], [0, 0, 0]], np.float32)
    for name, mask in zip(labels.names, labels.masks, strict=True):
        store.save(name, 1, mask, points, False)
    assistant = Assistant(store, lambda: networks)
    assistant.train()
    assert trained(assistant).state == "done"
    found = assistant.propose("trained", "sample-0").keypoints
    assert found.shape == (3, 3)
    assert ((found >= 0) & (found[:, :2].max() <= SIDE)).all()
    np.testing.assert_array_equal(found[2], points[2])  # nothing was learnt of it: it stays as it is
    store.save("sample-0", 2, labels.masks[0], found, False)  # what is proposed can be saved


def test_stopping_keeps_what_was_trained_before(truth):
    folder, _, networks = truth
    assistant = Assistant(LabelStore(folder), lambda: networks)
    assistant.train()
    trained(assistant)
    before = (folder / ".page" / "interpreter.safetensors").read_bytes()
    module.STEPS = 100_000  # undone by the fixture's monkeypatch
    assistant.train()
    with pytest.raises(InputError, match="runs already"):
        assistant.train()
    until(lambda: assistant.progress.step > 0)
    assert assistant.stop().state == "stopped"
    assert (folder / ".page" / "interpreter.safetensors").read_bytes() == before
    assert assistant.train().state == "running"
    assistant.stop()


def test_a_coarse_interpreter_proposes_fine_parts(truth):
    folder, _, networks = truth
    store = LabelStore(folder)
    assistant = Assistant(store, lambda: networks)
    assistant.train()
    trained(assistant)
    coarse = SCHEMA.merge("two")
    other = Assistant(
        store, lambda: Networks(networks.synthesis, None, assistant._trained_interpreter(), "two"), ("interpreter",)
    )
    # the interpreter says 0 to 3; read as classes of the level "two", 0 to 2 have fine parts that are near
    mask = other.propose("interpreter", "sample-0").mask
    assert set(np.unique(coarse[mask])) <= {0, 1, 2}


def test_the_preview_knows_the_directions_that_the_runs_interpreter_learnt(truth):
    folder, _, networks = truth
    store = LabelStore(folder)
    layers = coarse_layers(networks.synthesis.feature_dims)
    channels = sum(count for _, count in layers)
    head = DirectionHead(layers, make_network(channels), torch.zeros(channels), torch.ones(channels))
    plain = Assistant(store, lambda: networks)
    plain.train()
    trained(plain)
    assert plain._trained_interpreter().direction is None
    known = plain._trained_interpreter()
    known.direction = head
    assistant = Assistant(store, lambda: replace(networks, interpreter=known), ("interpreter",))
    assistant.train()
    trained(assistant)
    assert assistant._trained_interpreter().direction is head
    assert assistant.propose("trained", "sample-0").mask.shape == (SIDE, SIDE)
    again = Assistant(store, lambda: networks)._trained_interpreter().direction
    assert again is not None, "it is kept in the preview's file"


def test_no_annotator_for_this_class(truth):
    folder, _, networks = truth
    assistant = Assistant(LabelStore(folder), lambda: networks, ("annotator",))
    with pytest.raises(InputError, match="--annotator"):
        assistant.propose("annotator", "sample-0")
    with pytest.raises(InputError, match="nothing proposes"):
        assistant.propose("trained", "sample-0")
