import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import manifest
from pipeline.artifacts import Gan, ViewCodes, Writer, artifact_kinds
from pipeline.errors import UserError


def committed(folder: Path, kind: str = "view-codes") -> Path:
    folder.mkdir(parents=True)
    (folder / "codes.json").write_text("[1]", "utf-8")
    (folder / "codes.safetensors").write_bytes(b"weights")
    manifest.write_json(folder / "run.json", {"kind": kind, "schema": 1})
    return folder


def finished(folder: Path) -> Path:
    committed(folder)
    record = {"kind": "view-codes", "schema": 1, "fingerprint": "f" * 64, "files": manifest.payload_listing(folder)}
    manifest.write_json(folder / "run.json", record)
    return folder


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such folder; expected viewpoint codes \(view-codes\)"):
        ViewCodes.open(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds a generator \(gan\), expected viewpoint codes"):
        ViewCodes.open(committed(tmp_path / "gan", "gan"))
    with pytest.raises(UserError, match=r"not viewpoint codes \(view-codes\): codes.json is missing"):
        ViewCodes.open(tmp_path)
    newer = committed(tmp_path / "newer")
    manifest.write_json(newer / "run.json", {"kind": "view-codes", "schema": 2})
    with pytest.raises(UserError, match=r"newer version \(schema 2\)"):
        ViewCodes.open(newer)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    manifest.write_json(unfinished / "progress.json", {"fingerprint": "1"})
    with pytest.raises(UserError, match="is unfinished"):
        ViewCodes.open(unfinished)


def test_a_folder_without_a_record_is_known_by_its_payload(tmp_path: Path) -> None:
    (tmp_path / "generator.safetensors").write_bytes(b"abc")
    gan = Gan.open(tmp_path)
    assert gan.record == {}
    assert gan.generator_sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(gan.fingerprint) == 64


def test_committed_folders_are_identified_by_content_not_by_place(tmp_path: Path) -> None:
    one = committed(tmp_path / "one")
    shutil.copytree(one, tmp_path / "sub" / "two")
    assert ViewCodes(one).fingerprint == ViewCodes(tmp_path / "sub" / "two").fingerprint
    (one / "codes.json").write_text("[2]", "utf-8")
    assert ViewCodes(one).fingerprint != ViewCodes(tmp_path / "sub" / "two").fingerprint


def test_an_edit_by_hand_changes_the_fingerprint_and_undoing_it_restores_it(tmp_path: Path) -> None:
    folder = finished(tmp_path / "views")
    assert ViewCodes(folder).fingerprint == "f" * 64
    (folder / "codes.json").write_text("[2]", "utf-8")
    edited = ViewCodes(folder)
    assert edited.edited == ("codes.json",)
    assert edited.fingerprint != "f" * 64
    (folder / "codes.json").write_text("[1]", "utf-8")
    assert ViewCodes(folder).fingerprint == "f" * 64


def test_figures_are_plain_json(tmp_path: Path) -> None:
    out: Writer[Gan] = Writer(tmp_path / "new" / "folder")
    for name, value in {"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": "x", "e": 7}.items():
        out.figure(name, value)
    assert json.loads(json.dumps(out.figures, allow_nan=False)) == {"a": 0.5, "b": 3, "c": "nan", "d": "x", "e": 7}


def test_every_kind_says_what_it_is_and_who_makes_it() -> None:
    kinds = artifact_kinds()
    assert {"gan", "view-codes", "view-set", "filtered-views", "labels", "interpreter", "labelled-set"} <= set(kinds)
    for kind, artifact in kinds.items():
        assert artifact.kind == kind
        assert artifact.title
        assert artifact.__doc__
