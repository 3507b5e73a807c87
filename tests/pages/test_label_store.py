import json

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.labels.labelset import LabelSet
from pages import label_store
from pages.label_store import ConflictError, LabelStore, mask_png
from pipeline import manifest
from tests.pages.pagehelp import SCHEMA, SIDE, plain_labels

POINTS = np.array([[1.5, 2.25, 2], [3, 4, 1], [0, 0, 0]], np.float32)


@pytest.fixture
def folder(tmp_path):
    plain_labels(tmp_path)
    return tmp_path


def painted(value=3):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:5, 3:9] = value
    return mask


def test_a_save_is_what_train_interpreter_loads(folder):
    before = LabelSet.load(folder)
    saved = LabelStore(folder).save("sample-1", 1, painted(), POINTS, True)
    assert saved.revision == 2
    after = LabelSet.load(folder)
    np.testing.assert_array_equal(after.masks[1], painted())
    np.testing.assert_array_equal(after.keypoints[1], POINTS)
    np.testing.assert_array_equal(after.masks[[0, 2]], before.masks[[0, 2]])
    np.testing.assert_array_equal(after.keypoints[[0, 2]], before.keypoints[[0, 2]])
    np.testing.assert_array_equal(after.images, before.images)
    assert after.provenance == {"labels": "none", "corrected": ["sample-1"], "checked": ["sample-1"]}
    with Image.open(folder / "masks" / "sample-1.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:36] == SCHEMA.palette.ravel().tolist()


def test_masks_are_written_as_the_label_set_writes_them(folder, tmp_path):
    for name, mask in zip(("sample-0", "sample-1"), (np.zeros((SIDE, SIDE), np.uint8), painted(11)), strict=True):
        LabelStore(folder).save(name, 1, mask, POINTS, False)
    LabelSet.load(folder).save(tmp_path / "again")
    for name in ("sample-0", "sample-1"):
        ours = (folder / "masks" / f"{name}.png").read_bytes()
        assert ours == (tmp_path / "again" / "masks" / f"{name}.png").read_bytes()


def test_taking_a_change_back_leaves_the_artifact_as_it_was(folder):
    original = LabelSet.load(folder)
    content = manifest.content_digest(folder)
    store = LabelStore(folder)
    assert manifest.content_digest(folder) == content  # opening changes nothing
    store.save("sample-0", 1, painted(), POINTS, True)
    assert manifest.content_digest(folder) != content
    assert store.corrected("sample-0")
    store.save("sample-0", 2, original.masks[0], original.keypoints[0], False)
    assert not store.corrected("sample-0")
    assert LabelSet.load(folder).provenance["corrected"] == []
    (folder / "labels.json").write_text(
        json.dumps(
            json.loads((folder / "labels.json").read_text()) | {"provenance": dict(original.provenance)}, indent=1
        )
        + "\n"
    )
    assert manifest.content_digest(folder) == content


def test_what_was_corrected_before_stays_listed(folder):
    table = json.loads((folder / "labels.json").read_text())
    table["provenance"]["corrected"] = ["sample-2"]
    (folder / "labels.json").write_text(json.dumps(table))
    store = LabelStore(folder)
    store.save("sample-2", 1, painted(), POINTS, False)
    store.save("sample-0", 1, painted(), POINTS, False)
    assert LabelSet.load(folder).provenance["corrected"] == ["sample-0", "sample-2"]


def test_an_old_revision_is_refused_and_writes_nothing(folder):
    store = LabelStore(folder)
    store.save("sample-0", 1, painted(3), POINTS, False)
    content = manifest.content_digest(folder)
    with pytest.raises(ConflictError) as caught:
        store.save("sample-0", 1, painted(5), POINTS, True)
    assert caught.value.newest.revision == 2
    np.testing.assert_array_equal(caught.value.newest.mask, painted(3))
    assert manifest.content_digest(folder) == content


def test_saving_the_same_again_is_no_new_revision(folder):
    store = LabelStore(folder)
    store.save("sample-0", 1, painted(), POINTS, False)
    assert store.save("sample-0", 2, painted(), POINTS, False).revision == 2
    assert (
        store.save("sample-0", 1, painted(), POINTS, False).revision == 2
    )  # the answer was lost, and it is sent again


@pytest.mark.parametrize("open_again", [False, True])
def test_a_paint_program_makes_a_new_revision(folder, open_again):
    store = LabelStore(folder)
    store.save("sample-0", 1, painted(3), POINTS, False)
    (folder / "masks" / "sample-0.png").write_bytes(mask_png(painted(7), SCHEMA))
    store = LabelStore(folder) if open_again else store
    assert store.get("sample-0").revision == 3
    np.testing.assert_array_equal(store.get("sample-0").mask, painted(7))
    assert store.get("sample-1").revision == 1
    with pytest.raises(ConflictError):
        store.save("sample-0", 2, painted(9), POINTS, False)


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("survived", range(5))
def test_killed_at_any_write_a_save_is_whole_or_has_not_begun(folder, monkeypatch, survived):
    store = LabelStore(folder)
    write, written = label_store.write_whole, []

    def dying(path, data):
        if len(written) == survived:
            (path.parent / ".tmp-1-torn").write_bytes(data[:5])
            raise Killed
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(label_store, "write_whole", dying)
    if survived == 4:
        store.save("sample-1", 1, painted(), POINTS, True)
        assert written == ["pending.json", "sample-1.png", "labels.json", "state.json"]
    else:
        with pytest.raises(Killed):
            store.save("sample-1", 1, painted(), POINTS, True)
    monkeypatch.undo()
    again = LabelStore(folder)
    sample = again.get("sample-1")
    begun = survived > 0
    assert (sample.revision, sample.done) == ((2, True) if begun else (1, False))
    np.testing.assert_array_equal(sample.mask, painted() if begun else 0 * painted())
    np.testing.assert_array_equal(
        LabelSet.load(folder).keypoints[1], POINTS if begun else again.get("sample-0").keypoints
    )
    assert again.corrected("sample-1") == begun
    assert not list(folder.rglob(".tmp-*"))
    assert not (folder / ".page" / "pending.json").exists()


def test_a_finished_save_is_not_repeated_over_newer_work(folder, monkeypatch):
    store = LabelStore(folder)
    monkeypatch.setattr(label_store.Path, "unlink", lambda path, missing_ok=False: None)
    store.save("sample-0", 1, painted(3), POINTS, False)
    monkeypatch.undo()
    assert (folder / ".page" / "pending.json").exists()  # killed just before it was removed
    (folder / "masks" / "sample-0.png").write_bytes(mask_png(painted(7), SCHEMA))
    np.testing.assert_array_equal(LabelStore(folder).get("sample-0").mask, painted(7))


def test_a_full_disk_keeps_the_old_labels(folder, monkeypatch):
    store = LabelStore(folder)

    def full(path, data):
        raise RunError("cannot write it: No space left on device; free some space")

    monkeypatch.setattr(label_store, "write_whole", full)
    with pytest.raises(RunError, match="free some space"):
        store.save("sample-0", 1, painted(), POINTS, False)
    monkeypatch.undo()
    assert store.save("sample-0", 1, painted(), POINTS, False).revision == 2


@pytest.mark.parametrize(
    ("mask", "points", "sentence"),
    [
        (np.zeros((8, 8), np.uint8), POINTS, "mask"),
        (np.zeros((SIDE, SIDE), np.int64), POINTS, "mask"),
        (painted(12), POINTS, "holds part 12, the last is 11"),
        (painted(), POINTS[:2], "keypoints"),
        (painted(), POINTS * [[1, 1, np.nan]] * 3, "keypoints"),
        (painted(), np.array([[99, 0, 2], [0, 0, 0], [0, 0, 0]], np.float32), "outside"),
        (painted(), np.array([[1, 1, 3], [0, 0, 0], [0, 0, 0]], np.float32), "visibility"),
    ],
)
def test_what_does_not_fit_is_refused(folder, mask, points, sentence):
    store = LabelStore(folder)
    with pytest.raises(InputError, match=sentence):
        store.save("sample-0", 1, mask, points, False)
    assert store.get("sample-0").revision == 1


@pytest.mark.parametrize("name", ["other", "../sample-0", "", "sample-0.png"])
def test_unknown_names_are_refused(folder, name):
    with pytest.raises(InputError, match="no sample"):
        LabelStore(folder).get(name)


def test_labels_without_keypoints_gain_them_only_when_one_is_placed(tmp_path):
    plain_labels(tmp_path, keypoints=False)
    store = LabelStore(tmp_path)
    store.save("sample-0", 1, painted(), np.zeros((3, 3), np.float32), False)
    assert LabelSet.load(tmp_path).keypoints is None
    store.save("sample-0", 2, painted(), POINTS, False)
    np.testing.assert_array_equal(LabelSet.load(tmp_path).keypoints[0], POINTS)
    assert not LabelSet.load(tmp_path).keypoints[1:].any()


def test_fields_that_the_page_does_not_know_stay(folder):
    table = json.loads((folder / "labels.json").read_text()) | {"weights": [1.0, 0.5, 1.0], "note": "mine"}
    (folder / "labels.json").write_text(json.dumps(table))
    LabelStore(folder).save("sample-1", 1, painted(), POINTS, True)
    after = json.loads((folder / "labels.json").read_text())
    assert (after["weights"], after["note"]) == ([1.0, 0.5, 1.0], "mine")


def test_a_damaged_state_is_named(folder):
    LabelStore(folder)
    (folder / ".page" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json.*remove it"):
        LabelStore(folder)


def test_labels_of_another_generator_are_refused(folder):
    with pytest.raises(InputError, match="belong to the generator"):
        LabelStore(folder, "f" * 64)
    assert not (folder / ".page").exists()
