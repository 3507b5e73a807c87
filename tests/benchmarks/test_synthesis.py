"""The benchmarks of the label factory: the plain form is the same network, the plan adds up, curves are read right."""

import pytest
import torch

from benchmarks.selection import labels_needed
from benchmarks.synthesis import plan, tally_concatenated
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.interpreter_config import InterpreterConfig
from ganfoundry.labels.member_networks import initial_parameters

torch.set_num_threads(1)


def test_the_concatenated_form_says_what_the_interpreter_says() -> None:
    random = torch.Generator().manual_seed(0)
    maps = {f"m{side}": torch.randn(1, 5, side, side, generator=random) for side in (4, 8, 16)}
    config = InterpreterConfig(4, tuple((name, 5) for name in maps), 16, members=3, hidden=(12, 8), num_keypoints=2)
    weights, biases = initial_parameters(config.widths, 3, random)
    interpreter = StyleInterpreter(config, weights, biases)
    (ours,) = interpreter.tallies(maps)
    plain = tally_concatenated(interpreter, [m[0] for m in maps.values()])
    for name in ("probability", "entropy", "heat"):
        assert (getattr(ours, name) - getattr(plain, name)).abs().max() < 1e-5


def test_a_plan_adds_up() -> None:
    found = plan(10_000, rate=20, workers=2, rows_per_shard=100, side=16, w_dim=8, keypoints=2)
    raw = 16 * 16 * (3 + 1 + 2) + 4 + 4 * 8 + 8 + 2 * 12 + 2 * 4
    assert raw < found["bytes_per_image"] < raw * 1.2
    assert found["shards"] == 100
    assert found["total_gb"] == pytest.approx(found["bytes_per_image"] * 1e-5)
    assert found["hours"] * 3600 == pytest.approx(10_000 / 40)
    assert found["shards_per_second"] * found["hours"] * 3600 == pytest.approx(100)
    twice = plan(20_000, rate=20, workers=2, rows_per_shard=100, side=16, w_dim=8, keypoints=2)
    for name in ("total_gb", "hours", "index_mb", "selection_mb"):
        assert twice[name] == pytest.approx(2 * found[name])


@pytest.mark.parametrize(
    ("goal", "expected"), [(0.4, 1.0), (0.5, 1.0), (0.65, 2.83), (0.7, 4.0), (0.8, 8.0), (0.9, 0.0)]
)
def test_labels_needed(goal: float, expected: float) -> None:
    curve = {1: 0.5, 2: 0.6, 4: 0.7, 8: 0.8, 16: 0.75}
    assert labels_needed(curve, goal) == pytest.approx(expected, abs=0.01)
