"""Annotations become labels: names, sizes and keypoints mapped, and every kind of finding found."""

import io
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.labels.formats import AnnotatedImage
from ganfoundry.labels.importing import Importer, NameMap, Rules, merged, parse_aliases, resized
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.pairing import Pool, Sample
from ganfoundry.labels.schema import PartSchema
from ganfoundry.labels.validation import CODES, drawn, page, summary, write_report

SCHEMA = PartSchema(
    "thing", ("background", "Left wing", "body", "BODY2"), {}, keypoints=("nose", "tail"), flip_pairs=()
)
SIDE = 8


def sample(name: str, *, origin="exported samples", weight=1.0, sha256="1" * 64) -> Sample:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    image = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    w = random.normal(size=4).astype(np.float32)
    return Sample(name, image, image, w, sha256, origin, None, weight)


def importer(*names: str, **rules) -> Importer:
    return Importer(Pool([sample(name) for name in names or ("a", "b")]), SCHEMA, Rules(**rules))


def annotated(name: str = "a.png", label=None, classes=("background", "body"), **more) -> AnnotatedImage:
    blob = np.zeros((SIDE, SIDE), np.uint16)
    blob[2:6, 2:6] = 1
    return AnnotatedImage(name, blob if label is None else label, classes, **more)


def codes(take: Importer) -> list[str]:
    return [finding.code for finding in take.result.findings]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("Left wing", 1), ("left_wing", 1), ("LEFT-WING ", 1), ("left  wing", 1), ("body", 2), ("Body", 2),
        ("_background_", 0), ("Background", 0), ("tyre", 3), ("TYRE", 3), ("leftwing", None), ("", None),
    ],
)  # fmt: skip
def test_names_are_found_whatever_their_spelling(name: str, index: int | None) -> None:
    assert NameMap(SCHEMA.parts, {"Tyre": "BODY2"}).find(name) == index


def test_names_that_differ_in_case_only_must_be_exact() -> None:
    names = NameMap(("background", "Wing", "wing"), {})
    assert (names.find("Wing"), names.find("wing"), names.find("WING")) == (1, 2, None)


def test_aliases() -> None:
    assert parse_aliases(["tyre=body", " sky = background", "snout=nose"], SCHEMA)["sky"] == "background"
    for text in ("tyre", "=body", "tyre="):
        with pytest.raises(InputError, match="old=new"):
            parse_aliases([text], SCHEMA)
    with pytest.raises(InputError, match="neither a part nor a keypoint"):
        parse_aliases(["tyre=wheel"], SCHEMA)


def test_an_annotation_becomes_a_label_set(tmp_path: Path) -> None:
    points = {"NOSE": (3.5, 2.5, 2.0)}
    take = importer()
    take.take_all([annotated("b.png", keypoints=points), annotated("a.jpg", classes=("background", "left wing"))])
    labels = take.labels({"labels": "by hand"})
    labels.save(tmp_path)
    again = LabelSet.load(tmp_path)
    assert again.names == ("a", "b")
    assert (again.masks[0, 2:6, 2:6] == 1).all()
    assert (again.masks[1, 2:6, 2:6] == 2).all()
    assert again.keypoints is not None
    np.testing.assert_array_equal(again.keypoints, [[[0, 0, 0]] * 2, [[3.5, 2.5, 2], [0, 0, 0]]])
    assert again.weights is None
    assert codes(take) == ["class-never-labelled"]


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


ALL_BACKGROUND = np.zeros((SIDE, SIDE), np.uint16)
SPECK = ALL_BACKGROUND.copy()
SPECK[0, 0] = SPECK[4:7, 4:7] = 1
FINDINGS = {
    "unknown-class": [annotated(classes=("background", "boddy"))],
    "size-mismatch": [annotated(label=np.ones((SIDE, 2 * SIDE), np.uint16))],
    "no-sample": [annotated(), annotated("c.png")],
    "duplicate-name": [annotated("a.png"), annotated("a.jpg")],
    "picture-differs": [annotated(picture=png(np.zeros((SIDE, SIDE, 3), np.uint8)))],
    "unreadable": [annotated(picture=b"\x89PNG torn")],
    "nothing-imported": [],
    "not-labelled": [annotated()],
    "missing-picture": [annotated("a.png"), annotated("b.png", picture=png(np.full((SIDE, SIDE, 3), 9, np.uint8)))],
    "left-out-shape": [annotated(notes=("a line of body has no area",))],
    "empty-mask": [annotated(label=ALL_BACKGROUND)],
    "tiny-region": [annotated(label=SPECK)],
    "keypoint-outside": [annotated(keypoints={"nose": (9.0, 1.0, 1.0)})],
    "keypoint-on-background": [annotated(keypoints={"nose": (0.5, 0.5, 2.0)})],
    "class-never-labelled": [annotated()],
}


@pytest.mark.parametrize("code", FINDINGS)
def test_every_kind_of_finding(code: str, tmp_path: Path) -> None:
    take = importer()
    result = take.take_all(FINDINGS[code])
    assert code in codes(take)
    assert result.count("error") > 0 or CODES[code][0] == "warning"
    write_report(tmp_path, result, "Labels <of> a test")
    table = json.loads((tmp_path / "validation.json").read_text())
    assert code in [row["code"] for row in table["findings"]]
    text = (tmp_path / "validation.html").read_text()
    assert CODES[code][1] in text
    assert "&lt;of&gt;" in text
    assert code in summary(result)


def test_every_code_is_tested_here() -> None:
    assert set(CODES) - set(FINDINGS) == {"latent-differs", "other-generator", "photos-left-out"}


def test_labels_without_fault_have_no_findings() -> None:
    quarters = np.zeros((SIDE, SIDE), np.uint16)
    quarters[:4, :4], quarters[:4, 4:], quarters[4:, :4] = 1, 2, 3
    take = importer("a")
    points = {"nose": (4.5, 4.5, 2.0), "tail": (7.5, 7.5, 1.0)}  # a pixel off the object; hidden
    picture = png(sample("a").image)
    take.take_all([annotated("a.png", quarters, SCHEMA.parts, keypoints=points, picture=picture)])
    assert codes(take) == []
    assert take.result.compared == 1
    assert "None." in page(take.result, "t")


def test_latents_are_compared_with_what_the_generator_makes() -> None:
    pool = [sample("a"), sample("b"), sample("c", sha256="2" * 64)]
    take = Importer(Pool(pool), SCHEMA)
    take.take_all([annotated(f"{name}.png") for name in "abc"])
    drawn_from = []

    def draw(w: np.ndarray) -> np.ndarray:
        drawn_from.append(w)
        return np.stack([pool[0].image, 255 - pool[1].image])

    take.check_latents("1" * 64, draw)
    np.testing.assert_array_equal(drawn_from[0], [pool[0].w, pool[1].w])
    found = [(finding.code, finding.sample) for finding in take.result.findings if finding.severity == "error"]
    assert found == [("other-generator", "c"), ("latent-differs", "b")]


def test_an_unknown_class_names_the_nearest_and_its_pixels() -> None:
    take = importer()
    take.take(annotated(classes=("background", "boddy")))
    assert take.result.findings[0].message == (
        "the schema has no part 'boddy' (16 pixels); the nearest is body (--alias boddy=body)"
    )
    take = importer()
    take.take(annotated(keypoints={"tial": (1.0, 1.0, 1.0)}))
    assert "no keypoint 'tial'; the nearest is tail" in take.result.findings[0].message


def test_resizing_keeps_ids_and_undoes_an_enlargement() -> None:
    label = np.random.default_rng(0).integers(0, 4, (SIDE, SIDE)).astype(np.uint16)
    for factor in (1, 2, 3, 5):
        np.testing.assert_array_equal(resized(label.repeat(factor, 0).repeat(factor, 1), SIDE), label)
    wide = np.pad(label, ((0, 0), (3, 4)), constant_values=9)
    np.testing.assert_array_equal(resized(wide, SIDE), label)
    assert set(np.unique(resized(label, 5))) <= set(np.unique(label))
    take = importer(resize=True)
    points = {"nose": (6.0, 12.0, 2.0)}
    take.take(annotated(label=np.full((24, 24), 1, np.uint16), keypoints=points))
    np.testing.assert_allclose(take.labels({}).keypoints[0, 0], [2, 4, 2])
    take.take(annotated("b.png", label=np.full((24, 26), 1, np.uint16)))
    assert codes(take)[-1] == "size-mismatch", "a generated picture is square, so its mask is"


def test_photos_are_cropped_as_invert_does_and_carry_weights() -> None:
    pool = Pool([sample("a", origin="photos", weight=0.25), sample("b")])
    take = Importer(pool, SCHEMA, Rules(resize=True))
    label = np.zeros((16, 20), np.uint16)
    label[4:12, 6:14] = 1
    take.take_all([annotated(label=label, keypoints={"nose": (10.0, 8.0, 2.0)}), annotated("b.png")])
    labels = take.labels({})
    assert labels.weights is not None
    assert labels.weights.tolist() == [0.25, 1.0]
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[2:6, 2:6] = 2
    np.testing.assert_array_equal(labels.masks[0], expected)
    np.testing.assert_allclose(labels.keypoints[0, 0], [4, 4, 2])
    photo, generated = take.result.checked
    assert photo.inverted is not None
    assert generated.inverted is None
    assert "weight 0.25" in photo.caption


def test_nothing_can_be_imported() -> None:
    with pytest.raises(InputError, match="no annotation"):
        importer().labels({})


def label_set(*names: str, **more) -> LabelSet:
    take = importer(*names)
    take.take_all([annotated(f"{name}.png") for name in names])
    return replace(take.labels({}), **more)


def test_two_sets_become_one() -> None:
    base = label_set("a", "b", keypoints=np.ones((2, 2, 3), np.float32), seeds=np.array([1, 2]))
    new = label_set("b", "c", masks=np.full((2, SIDE, SIDE), 3, np.uint8), weights=np.array([0.5, 0.7], np.float32))
    both = merged(base, new)
    assert both.names == ("a", "b", "c")
    assert both.masks.max((1, 2)).tolist() == [2, 3, 3]
    np.testing.assert_allclose(both.weights, [1, 0.5, 0.7])
    assert both.keypoints is not None
    assert both.keypoints.sum((1, 2)).tolist() == [6, 0, 0]
    assert both.seeds is None
    np.testing.assert_array_equal(both.w[0], base.w[0])
    with pytest.raises(InputError, match="generator or schema"):
        merged(base, label_set("c", generator_sha256="3" * 64))


def test_hidden_and_visible_keypoints_are_drawn_apart() -> None:
    take = importer("a")
    take.take(annotated(keypoints={"nose": (2.0, 2.0, 2.0), "tail": (6.0, 6.0, 1.0)}))
    tile = drawn(take.result.checked[0], SCHEMA.palette)
    assert tile.shape == (192, 192, 3)
    assert (tile[48, 48] == 255).all()
    assert not (tile[144, 144] == 255).all()
    assert (tile[48, 45] == (200, 0, 0)).all()
