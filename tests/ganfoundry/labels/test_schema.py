"""Part schemas: round trips, merging, refusals."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.labels import PartSchema
from ganfoundry.labels.schema import default_palette, mirror_order
from ganfoundry.worlds import get_world

ROOT = Path(__file__).parents[3]


@st.composite
def schemas(draw):
    text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    parts = draw(st.lists(text.filter(lambda t: t != "background"), max_size=6, unique=True))
    coarse = st.sampled_from(["a", "b", 'qu"ote', "back\\slash"])
    reserved = {"name", "colour", "parts", "levels"}
    levels = draw(st.lists(text.filter(lambda t: t not in reserved), max_size=2, unique=True))
    keypoints = draw(st.lists(text, max_size=5, unique=True))
    return PartSchema(
        name=draw(text),
        parts=("background", *parts),
        levels={level: ("background", *(draw(coarse) for _ in parts)) for level in levels},
        keypoints=tuple(keypoints),
        flip_pairs=((0, 1),) if len(keypoints) > 1 and draw(st.booleans()) else (),
        palette=np.array(draw(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=len(parts) + 1,
                                       max_size=len(parts) + 1)), dtype=np.uint8),
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(schema=schemas())
def test_toml_round_trip(schema, tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "schema.toml"
    schema.to_toml(path)
    again = PartSchema.from_toml(path)
    assert again == schema
    assert hash(again) == hash(schema)
    np.testing.assert_array_equal(again.palette, schema.palette)


def test_committed_schema_is_the_worlds():
    path = ROOT / "annotations" / "cars" / "schema.toml"
    assert PartSchema.from_toml(path) == get_world("cars").schema


def test_committed_schema_is_written_as_to_toml_writes(tmp_path):
    get_world("cars").schema.to_toml(tmp_path / "schema.toml")
    committed = ROOT / "annotations" / "cars" / "schema.toml"
    assert (tmp_path / "schema.toml").read_text() == committed.read_text()


def test_cars_levels_nest():
    schema = get_world("cars").schema
    twelve, five = schema.merge("parts12"), schema.merge("parts5")
    assert (len(schema.names("parts12")), len(schema.names("parts5"))) == (12, 5)
    assert twelve.dtype == five.dtype == np.uint8
    assert twelve[0] == five[0] == 0
    # Parts of one class of twelve always share their class of five.
    for index in range(12):
        assert len(set(five[twelve == index])) == 1
    np.testing.assert_array_equal(schema.merge("fine"), np.arange(len(schema.parts)))
    assert schema.names("parts12")[twelve[schema.part_id("boot")]] == "boot"


def test_merging_a_label_map_and_colours():
    schema = PartSchema("toy", ("background", "lid", "leg", "seat"), {"two": ("background", "top", "leg", "top")})
    labels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    assert schema.merge("two")[labels].tolist() == [[0, 1], [2, 1]]
    np.testing.assert_array_equal(schema.level_palette("two"), schema.palette[[0, 1, 2]])


def test_flip_permutation_is_an_involution():
    schema = get_world("cars").schema
    order = schema.flip_permutation()
    np.testing.assert_array_equal(order[order], np.arange(len(schema.keypoints)))
    for index, other in enumerate(order):
        swapped = schema.keypoints[index].replace("_left", "_?").replace("_right", "_left").replace("_?", "_right")
        assert schema.keypoints[other] == swapped


@pytest.mark.parametrize("world", ["cars", "faces"])
def test_sides_by_name_are_those_of_the_schema(world):
    schema = get_world(world).schema
    assert mirror_order(schema.keypoints) == schema.flip_permutation().tolist()


def test_a_side_without_a_partner_stays():
    assert mirror_order(["left_eye", "nose", "right_ear"]) == [0, 1, 2]


def test_palettes_are_distinct_and_frozen():
    palette = get_world("cars").schema.palette
    assert len(np.unique(palette, axis=0)) == len(palette)
    assert len(np.unique(default_palette(40), axis=0)) == 40
    with pytest.raises(ValueError, match="read-only"):
        palette[0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ("lid", "leg")}, "background"),
        ({"parts": ()}, "background"),
        ({"parts": ("background", "leg", "leg")}, "twice"),
        ({"parts": ("background", *map(str, range(255)))}, "ids end at 254"),
        ({"levels": {"one": ("background",)}}, "level 'one' names 1 of 2"),
        ({"levels": {"one": ("background", "background")}}, "for itself"),
        ({"flip_pairs": ((0, 2),)}, "flip pair"),
        ({"flip_pairs": ((0, 0),)}, "flip pair"),
        ({"keypoints": ("a", "a")}, "twice"),
        ({"palette": np.zeros((3, 3), np.uint8)}, "palette"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, message):
    good = {"name": "toy", "parts": ("background", "leg"), "levels": {}, "keypoints": ("a", "b")}
    PartSchema(**good)
    with pytest.raises(InputError, match=message):
        PartSchema(**good | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ("name = 'cars'", "'levels' is missing"),
        ("name='c'\nlevels=[]\nkeypoints=[]\nflip_pairs=[['a','b']]\nparts=[]", "not a part schema"),
        ("name='c'\nlevels=[]\nkeypoints=[]\nflip_pairs=[]\nparts=[{name='background', colour=[0, 0, 999]}]", "schema"),
        ("name='c'\nlevels=[]\nkeypoints=[]\nflip_pairs=[]\nparts=[{name='leg', colour=[0, 0, 9]}]", "background"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        PartSchema.from_toml(path)
    with pytest.raises(InputError, match=r"cannot read.*missing\.toml"):
        PartSchema.from_toml(tmp_path / "missing.toml")


def test_unknown_names_are_refused():
    schema = get_world("cars").schema
    with pytest.raises(InputError, match="parts12"):
        schema.names("parts13")
    with pytest.raises(InputError, match="bonnet"):
        schema.part_id("hood")
