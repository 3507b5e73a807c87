"""An export takes the place of the earlier one whole, whatever interrupts it."""

import contextlib
import os

import pytest

from ganfoundry.data.staging import Staging

NAMES = ("a.txt", "folder", "other", "z.txt")


def fill(folder, text):
    for name in ("a.txt", "folder/b.txt", "folder/c.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + name)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def earlier(folder):
    folder.mkdir()
    fill(folder, "old ")
    (folder / "other").mkdir()
    (folder / "other" / "d.txt").write_text("only in the old one")
    (folder / "run.json").write_text("not the export's")


NEW = {name: "new " + name for name in ("a.txt", "folder/b.txt", "folder/c.txt")} | {"run.json": "not the export's"}


def test_replaces_everything_of_its_own_and_nothing_else(tmp_path):
    earlier(tmp_path / "out")
    staging = Staging(tmp_path / "out", "key", NAMES)
    fill(staging.folder, "new ")
    staging.commit()
    assert content(tmp_path / "out") == NEW
    assert not list((tmp_path / "out").glob(".*"))


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", range(6))
def test_stopped_at_any_rename_it_is_carried_through(tmp_path, monkeypatch, stop):
    earlier(tmp_path / "out")
    before = content(tmp_path / "out")
    staging = Staging(tmp_path / "out", "key", NAMES)
    fill(staging.folder, "new ")
    rename, done = os.replace, []

    def stopping(source, target):
        if len(done) == stop:
            raise Stop
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with contextlib.suppress(Stop):
        staging.commit()
    monkeypatch.setattr(os, "replace", rename)
    if stop == 0:
        assert {name: text for name, text in content(tmp_path / "out").items() if ".new" not in name} == before
    again = Staging(tmp_path / "out", "key", NAMES)
    if stop == 0:  # not committed: the work is still there
        assert content(again.folder).keys() >= {"a.txt", "folder/b.txt"}
        again.commit()
    assert {name: text for name, text in content(tmp_path / "out").items() if not name.startswith(".")} == NEW


@pytest.mark.parametrize(("key", "kept"), [("key", True), ("another", False), ("", False)])
def test_only_the_same_work_is_gone_on_with(tmp_path, key, kept):
    staging = Staging(tmp_path, "key", NAMES)
    (staging.parts / "png-000000.files").write_text("[]\n")
    (staging.folder / ".tmp-1").write_text("torn")
    again = Staging(tmp_path, key, NAMES)
    assert (again.parts / "png-000000.files").exists() == kept
    assert not (again.folder / ".tmp-1").exists()
