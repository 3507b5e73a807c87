"""Damaged folders of shards: every damage is found and named, whatever it is."""

import hashlib
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.data.checksums import Damage, check_files
from ganfoundry.data.verification import check_artifact, check_shards
from tests.ganfoundry.data.make_shards import folder_bytes, make_folder, make_row


def found(folder):
    return {damage.file: damage.what for damage in check_shards(folder)}


def test_whole(shared_folder):
    seen = []
    assert check_shards(shared_folder, seen.append) == []
    assert len(seen) == 4


@settings(max_examples=20)
@given(st.data())
def test_any_flipped_bits_are_found_and_the_file_is_named(shared_folder, tmp_path_factory, data):
    name = data.draw(st.sampled_from([f"shard-0000{i}.h5" for i in range(4)]))
    content = bytearray((shared_folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    if bytes(content) == (shared_folder / name).read_bytes():
        return
    folder = tmp_path_factory.mktemp("flipped") / "shards"
    shutil.copytree(shared_folder, folder)
    (folder / name).write_bytes(content)
    damage = found(folder)
    assert list(damage) == [name]
    assert damage[name].startswith("its sha256 is not the manifest's: ")
    shutil.rmtree(folder)


def test_the_lost_rows_are_named(folder):
    path = folder / "shard-00001.h5"
    content = bytearray(path.read_bytes())
    at = content.find(make_row(20)["image"].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert found(folder)["shard-00001.h5"].endswith('"image" cannot be read at row 20')


def test_missing_and_truncated_shards(folder):
    (folder / "shard-00002.h5").unlink()
    (folder / "shard-00000.h5").write_bytes((folder / "shard-00000.h5").read_bytes()[:-7])
    damage = found(folder)
    assert damage["shard-00002.h5"] == "is missing"
    assert "bytes instead of" in damage["shard-00000.h5"]
    assert len(damage) == 2


def test_strangers(folder):
    (folder / "shard-00099.h5").write_bytes(b"")
    (folder / ".tmp-1").write_bytes(b"")
    assert found(folder) == {"shard-00099.h5": "does not belong to the data set"}


@settings(max_examples=20)
@given(st.integers(0, 100_000))
def test_a_manifest_cut_anywhere(shared_folder, tmp_path_factory, at):
    manifest = (shared_folder / "manifest.jsonl").read_bytes()
    at %= len(manifest)
    folder = tmp_path_factory.mktemp("cut") / "shards"
    shutil.copytree(shared_folder, folder)
    (folder / "manifest.jsonl").write_bytes(manifest[:at])
    damage = found(folder)
    whole = manifest[:at].count(b"\n")
    lost = {f"shard-0000{i}.h5" for i in range(whole, 4)}
    torn = at > 0 and not manifest[:at].endswith(b"\n")
    assert set(damage) == lost | ({"manifest.jsonl"} if torn else set())
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: [*lines, lines[1]], "line 5 is about shard 1, as an earlier one is"),
        (lambda lines: [lines[0], b"{}\n", *lines[2:]], "line 2 is damaged"),
        (lambda lines: [lines[0], lines[1].replace(b'"first": 16', b'"first": 17'), *lines[2:]], "line 2 is damaged"),
        (lambda lines: [b"[" * 100_000 + b"\n", *lines[1:]], "line 1 is damaged"),
    ],
)
def test_lines_of_the_manifest(folder, change, sentence):
    path = folder / "manifest.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    assert sentence in found(folder)["manifest.jsonl"]


@pytest.mark.parametrize("text", ["", "{", '{"format": 9}', "null"])
def test_a_damaged_plan(folder, text):
    (folder / "config.json").write_text(text)
    assert list(found(folder)) == ["config.json"]
    (folder / "config.json").unlink()
    assert "is missing" in found(folder)["config.json"]


def test_another_index(folder, tmp_path):
    make_folder(tmp_path / "other", rows=50, rows_per_shard=25)
    shutil.copy(tmp_path / "other" / "index.h5", folder / "index.h5")
    assert "does not match" in found(folder)["index.h5"]


def test_repair_by_the_writer_gives_the_same_bytes(folder):
    before = folder_bytes(folder)
    path = folder / "manifest.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[0], lines[2][:-9]]))
    (folder / "shard-00000.h5").write_bytes(b"damaged")
    assert make_folder(folder, verify=True) == [0, 1, 2, 3]
    assert folder_bytes(folder) == before
    assert check_shards(folder) == []


def test_an_artifact_is_its_list_and_its_shards(tmp_path):
    make_folder(tmp_path / "shards")
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "run.json").write_text("not looked at")
    names = ["labels.json", *(f"shards/{path.name}" for path in (tmp_path / "shards").glob("[!.]*"))]
    files = {}
    for name in names:
        data = (tmp_path / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert check_artifact(tmp_path, files) == []
    (tmp_path / "labels.json").write_text("[]")
    (tmp_path / "shards" / "shard-00001.h5").write_bytes(b"")
    (tmp_path / "stranger.txt").write_text("")
    damage = {entry.file: entry.what for entry in check_artifact(tmp_path, files)}
    assert set(damage) == {"labels.json", "shards/shard-00001.h5", "stranger.txt"}
    assert damage["stranger.txt"] == "does not belong to the data set"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_bytes(b"b")
    entry = {"bytes": (tmp_path / "a").stat().st_size, "sha256": "0" * 64}
    damage = check_files(tmp_path, {"a": entry, "c/d": entry}, ignore=("b",))
    assert damage == [Damage("a", "cannot be read (Is a directory)"), Damage("c/d", "is missing")]
