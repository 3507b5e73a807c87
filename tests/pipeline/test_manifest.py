import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import manifest
from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 1) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@given(JSON, JSON)
def test_digests_tell_values_apart_and_nothing_else(one: object, two: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (manifest.digest(one) == manifest.digest(two)) == same


@given(st.dictionaries(st.text("abcde", min_size=1, max_size=3), st.integers(), max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter(config: dict[str, int], shuffle: random.Random) -> None:
    keys = list(config)
    shuffle.shuffle(keys)
    shuffled = {key: config[key] for key in keys}
    assert manifest.fingerprint("s", 1, config, {}) == manifest.fingerprint("s", 1, shuffled, {})


def test_every_part_of_the_identity_counts() -> None:
    prints = {
        manifest.fingerprint("s", 1, {"a": 1}, {"i": "x"}),
        manifest.fingerprint("t", 1, {"a": 1}, {"i": "x"}),
        manifest.fingerprint("s", 2, {"a": 1}, {"i": "x"}),
        manifest.fingerprint("s", 1, {"a": 2}, {"i": "x"}),
        manifest.fingerprint("s", 1, {"a": 1}, {"i": "y"}),
        manifest.fingerprint("s", 1, {"a": 1}, {"i": None}),
    }
    assert len(prints) == 6


def test_fingerprints_stay_the_same_from_release_to_release() -> None:
    value = manifest.fingerprint("generate-views", 1, {"truncation": 0.7, "layers": [4, 8]}, {"gan": "ab"})
    assert value == "338062577534393e123417d9fa7bbd638cfe731e81a85b46ea2c8887c351bcc1"


def test_payload_leaves_out_records_and_hidden_files(tmp_path: Path) -> None:
    for name in ("run.json", "progress.json", ".lock", "error.log", "track/log.jsonl", ".tmp-1", ".cache/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    for name in ("a.bin", "sub/run.json", "sub/b.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    assert manifest.payload_names(tmp_path) == ["a.bin", "sub/b.bin", "sub/run.json"]


def test_damage_is_found(tmp_path: Path) -> None:
    for name in ("kept.bin", "gone.bin", "short.bin", "flipped.bin", "edited.json"):
        (tmp_path / name).write_bytes(b"0123456789")
    record = {"files": manifest.payload_listing(tmp_path)}
    assert manifest.damaged_files(tmp_path, record, verify=True) == []
    (tmp_path / "gone.bin").unlink()
    (tmp_path / "short.bin").write_bytes(b"01234")
    (tmp_path / "flipped.bin").write_bytes(b"0123456788")
    (tmp_path / "edited.json").write_bytes(b"{}")
    gone, short = "output file gone.bin missing", "output file short.bin has 5 bytes, not 10"
    assert manifest.damaged_files(tmp_path, record) == [gone, short]
    flipped = "output file flipped.bin damaged (sha256 differs)"
    assert manifest.damaged_files(tmp_path, record, verify=True) == [flipped, gone, short]
    assert manifest.edited_files(tmp_path, record) == ("edited.json",)


def test_large_folders_are_known_by_names_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    small = manifest.content_digest(tmp_path)
    monkeypatch.setattr(manifest, "HASHED_FOLDER_BYTES", 1)
    large = manifest.content_digest(tmp_path)
    (tmp_path / "a.png").write_bytes(b"34")
    assert manifest.content_digest(tmp_path) == large
    (tmp_path / "a.png").write_bytes(b"345")
    assert len({small, large, manifest.content_digest(tmp_path)}) == 3


def test_too_many_files_to_be_edits_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    record = {"files": manifest.payload_listing(tmp_path)}
    (tmp_path / "a.png").write_bytes(b"1")
    assert manifest.damaged_files(tmp_path, record) == []
    monkeypatch.setattr(manifest, "EDITABLE_FILES", 0)
    assert manifest.damaged_files(tmp_path, record) == ["output file a.png has 1 bytes, not 2"]


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    manifest.write_json(path, {"old": 1})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            with pytest.raises(OSError, match="No space left"):
                manifest.write_json(path, {"new": 2})
        assert manifest.read_record(tmp_path) == {"old": 1}
        assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(ValueError, match="JSON"):
        manifest.write_json(path, {"figure": float("nan")})
    assert manifest.read_record(tmp_path) == {"old": 1}


def test_a_record_is_whole_at_every_moment_of_a_killed_writer(tmp_path: Path) -> None:
    manifest.write_json(tmp_path / "run.json", {"n": -1, "padding": ""})
    code = (
        "from pathlib import Path; from pipeline import manifest; import itertools\n"
        "for n in itertools.count(): "
        "manifest.write_json(Path(sys.argv[1]) / 'run.json', {'n': n, 'padding': 'x' * 20000})"
    )
    for trial in range(4):
        writer = python(code, tmp_path)
        before = (manifest.read_record(tmp_path) or {})["n"]
        while (manifest.read_record(tmp_path) or {})["n"] == before and writer.poll() is None:
            time.sleep(0.01)
        for _ in range(10 + trial):
            assert set(json.loads((tmp_path / "run.json").read_text("utf-8"))) == {"n", "padding"}
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert manifest.read_record(tmp_path) is not None
    manifest.remove_torn_writes(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"', "\x00"])
def test_a_torn_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, "utf-8")
    assert manifest.read_record(tmp_path) is None


def test_a_second_process_is_kept_out_and_told_who_is_in(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from pipeline.manifest import locked; import time\n"
        "with locked(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)"
    )
    holder = python(code, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    message = rf"is in use by another run \(process {holder.pid}\): wait for it to end or stop it, then try again"
    with pytest.raises(UserError, match=message), manifest.locked(tmp_path):
        pass
    with pytest.raises(UserError, match=message), manifest.locked(tmp_path, shared=True):
        pass
    holder.send_signal(signal.SIGKILL)  # a killed holder leaves no lock behind
    holder.communicate()
    with manifest.locked(tmp_path):
        pass


def test_readers_share_and_keep_a_writer_out(tmp_path: Path) -> None:
    with manifest.locked(tmp_path, shared=True):
        assert not (tmp_path / ".lock").exists()  # a folder no run ever wrote is left as it is
    with manifest.locked(tmp_path):
        pass
    with (
        manifest.locked(tmp_path, shared=True),
        manifest.locked(tmp_path, shared=True),
        pytest.raises(UserError, match="in use"),
        manifest.locked(tmp_path),
    ):
        pass


def test_emptying_keeps_the_lock_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("x", "utf-8")
    folder = tmp_path / "stage"
    (folder / "sub").mkdir(parents=True)
    for name in ("run.json", "progress.json", ".lock", "a.bin", "sub/b.bin", ".hidden"):
        (folder / name).write_text("x", "utf-8")
    (folder / "link").symlink_to(outside)
    manifest.empty_folder(folder)
    assert sorted(entry.name for entry in folder.iterdir()) == [".lock", "progress.json"]
    assert (outside / "precious.txt").exists()


def test_versions_and_commit() -> None:
    versions = manifest.package_versions()
    assert versions["numpy"]
    assert versions["python"].count(".") == 2
    commit = manifest.git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
