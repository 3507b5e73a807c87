"""Shared steps: the same gradients, the same checkpoints, resuming, workers that die."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_log import read_log
from ganfoundry.shape.inverse_graphics import ObjectiveConfig
from ganfoundry.shape.inverse_processes import train_in_processes
from ganfoundry.shape.inverse_training import InverseTrainer, InverseTraining
from ganfoundry.shape.networks import NetworkConfig
from tests.ganfoundry.shape.toys import toy_views

NETWORK = NetworkConfig(num_parts=3, num_keypoints=2, level=1, width=8, code=16, basis=4, texture=(16, 32))
TRAINING = InverseTraining(
    steps=4, objects=4, bf16=False, turn_every=1, camera_from=0, objective=ObjectiveConfig(input_from=0)
)


class Recorder(Group):
    """A process of a group whose others are not there: it keeps what it would have sent."""

    def mean_gradients(self, parameters: Sequence[Tensor], phase: str, *, flag: bool = False) -> bool:
        """Keep the gradients."""
        self.sent = [None if p.grad is None else p.grad.clone() for p in parameters]
        return flag

    def mean_(self, tensor: Tensor) -> Tensor:
        """Keep the tensor."""
        self.shared = tensor.clone()
        return tensor


def make_toy(training: InverseTraining, group: Group) -> InverseTrainer:
    """The trainer of a process."""
    return InverseTrainer(NETWORK, training, toy_views(), group=group)


def make_mortal(step: int, training: InverseTraining, group: Group) -> InverseTrainer:
    """The second process is killed before a step."""
    trainer = make_toy(training, group)
    take = trainer.take_step

    def mortal(*, stop: bool = False) -> dict[str, float]:
        if group.rank == 1 and trainer.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(stop=stop)

    trainer.take_step = mortal  # type: ignore[method-assign]
    return trainer


def test_the_shares_gradients_average_to_the_whole_batchs() -> None:
    groups = [Recorder(0, 1), Recorder(0, 2), Recorder(1, 2)]
    for group in groups:
        trainer = make_toy(TRAINING, group)
        trainer.step = 1  # steps look behind too
        trainer.take_step()
    whole, first, second = (group.sent for group in groups)
    assert sum(g is not None for g in whole) > 20
    for one, a, b in zip(whole, first, second, strict=True):
        assert (one is None) == (a is None) == (b is None)
        if one is not None and a is not None and b is not None:
            assert torch.allclose(one, (a + b) / 2, rtol=1e-3, atol=1e-5 * float(one.abs().max().clamp(min=0.1)))


def test_the_shares_looks_behind_join_to_the_whole_batchs() -> None:
    groups = [Recorder(0, 1), Recorder(0, 2), Recorder(1, 2)]
    training = replace(TRAINING, steps=10, learning_rate=0.0, camera_rate=0.0)  # looks follow a step
    for group in groups:
        trainer = make_toy(training, group)
        trainer.step = 2
        trainer.take_step()
    whole, first, second = (group.shared for group in groups)
    assert whole.shape == (2, 8)
    assert not first[:, 4:].any()
    assert not second[:, :4].any()
    assert torch.allclose(whole, first + second, rtol=1e-4)


def test_objects_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(InputError, match="4 objects a step cannot be shared evenly by 3"):
        make_toy(TRAINING, Group(0, 3))


def test_one_process_is_this_one(tmp_path: Path) -> None:
    shown: list[int] = []
    found = train_in_processes(partial(make_toy, TRAINING), tmp_path, 1, checkpoint_steps=2, on_progress=shown.append)
    assert found.step == 4
    assert shown == [1, 2, 3, 4]
    assert [line["step"] for line in read_log(tmp_path)] == [2, 4]


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    alone = make_toy(TRAINING, Group())
    for _ in range(TRAINING.steps):
        alone.take_step()
    both = train_in_processes(partial(make_toy, TRAINING), tmp_path, 2, checkpoint_steps=2)
    for name, value in alone.tensors().items():
        if name.startswith(("network.", "table.")):
            # Adam's first steps are as long for gradients near 0 as for others: those may differ by a step or two
            assert float((value - both.tensors()[name]).abs().median()) < 1e-5, name
    assert [line["step"] for line in read_log(tmp_path)] == [2, 4]


@pytest.mark.slow
def test_a_killed_process_is_a_sentence_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    straight = train_in_processes(partial(make_toy, TRAINING), whole, 2, checkpoint_steps=2)
    with pytest.raises(RunError, match=r"process 1 was killed by SIGKILL; run the same command again"):
        train_in_processes(partial(make_mortal, 3, TRAINING), halves, 2, checkpoint_steps=2)
    assert [line["step"] for line in read_log(halves)] == [2]
    resumed = train_in_processes(partial(make_toy, TRAINING), halves, 2, checkpoint_steps=2)
    for name, value in straight.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name
    # and a run of two processes is continued by one
    again = make_toy(TRAINING, Group())
    again.load(halves)
    assert again.step == 4
    assert np.isfinite(float(again.take_step()["total"]))
