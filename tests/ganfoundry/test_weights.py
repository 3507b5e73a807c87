"""Which shipped network looks at whose images."""

import json
from pathlib import Path

import pytest

from ganfoundry import weights
from ganfoundry.errors import InputError


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Networks of two worlds; that of boats has no detector."""
    for name in ("cars-annotator", "cars-detector", "boats-annotator", "cars-64"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps({"sha256": f"digest of {name}"}))
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("card", "world"),
    [
        ({"world": "boats"}, "boats"),
        ({"world": "boats", "data": {"description": "600 renders of the cars world at 64 px"}}, "boats"),
        ({"data": {"description": "600 renders of the cars world at 64 px", "seed": 1}}, "cars"),
        ({"data": "600 renders of the faces world"}, "faces"),
        ({"data": {"description": "images of the folder photos"}}, ""),
        ({"world": None}, ""),
        ({}, ""),
    ],
)
def test_a_card_says_its_world_in_a_field_or_in_the_text_of_its_data(card: dict[str, object], world: str) -> None:
    assert weights.world_of(card) == world


def test_a_network_is_chosen_by_world(shipped: Path) -> None:
    assert weights.network_of("cars", "detector", "") == shipped / "cars-detector"
    assert weights.network_of("boats", "annotator", "") == shipped / "boats-annotator"


@pytest.mark.parametrize(
    ("world", "kind", "sentence"),
    [
        ("", "annotator", "names no world, .* import it with --world cars or --world faces, else give one"),
        ("boats", "detector", r"no boats-detector ships with ganfoundry \(cars-detector\); give one"),
        ("cars", "eye", r"no cars-eye ships with ganfoundry \(there is none\); give one"),
    ],
)
def test_none_for_a_world_says_what_to_do(world: str, kind: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        weights.network_of(world, kind, "give one")


def test_what_may_be_chosen_is_what_a_result_depends_on() -> None:
    assert weights.digests_of("annotator") == {
        name: f"digest of {name}" for name in ("boats-annotator", "cars-annotator")
    }
    assert weights.digests_of("detector") == {"cars-detector": "digest of cars-detector"}
