"""Parts of the worlds: ids and schemas agree."""

from enum import IntEnum

import pytest

from ganfoundry.labels.schema import PartSchema
from ganfoundry.worlds import car_parts, face_parts


@pytest.mark.parametrize(
    ("parts", "schema"),
    [(car_parts.Part, car_parts.CAR_SCHEMA), (face_parts.Part, face_parts.FACE_SCHEMA)],
    ids=["cars", "faces"],
)
def test_a_part_s_id_is_its_place_in_the_schema(parts: type[IntEnum], schema: PartSchema) -> None:
    assert [*parts] == [*range(len(parts))]
    assert [part.name.lower() for part in parts] == [*schema.parts]
