"""Damaged and hostile folders of shards: every damage is noticed, and nothing outside the folder is read."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import warnings

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_shards import make_folder, make_rows

from ganfoundry.data import integrity, manifest
from ganfoundry.data.reader import _has_zero_chunk
from ganfoundry.data.shards import ShardFolder, ShardReader, write_shard
from ganfoundry.errors import InputError

TRUTH = make_rows(range(50))


def damage(data, rng, kind):
    damaged = bytearray(data)
    if kind == "flip":
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind == "flip in head":
        damaged[rng.integers(4096)] ^= 1 << rng.integers(8)
    elif kind == "zeros":
        start = rng.integers(max(1, len(data) - 512))
        damaged[start : start + 512] = bytes(512)
    else:
        del damaged[rng.integers(len(data)) :]
    return bytes(damaged)


def read_or_message(reader, name):
    try:
        return reader.read(name), None
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", ["flip", "flip in head", "zeros", "truncation"])
def test_no_damage_is_silent(tmp_path, kind):
    make_folder(tmp_path)
    path = tmp_path / "shard-00001.h5"
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    detected = 0
    for _ in range(50):
        bad = damage(good, rng, kind)
        if bad == good:
            continue
        path.write_bytes(bad)
        reader = ShardReader(tmp_path)
        for name, values in TRUTH.items():
            got, message = read_or_message(reader, name)
            if message is None:
                assert np.array_equal(got, values), "silent damage"
            else:
                detected += 1
                assert re.fullmatch(f"shard {path} is damaged .*; run the stage .* with --verify, .*", message)
        with pytest.raises(InputError, match=r"shard-00001.h5 is damaged"):
            reader.verify()
    assert detected >= 20


def test_a_wiped_chunk_is_noticed_though_its_checksum_is_right(tmp_path):
    """The fletcher32 of zeros is zero."""
    with ShardFolder(tmp_path, 4, 4, "k") as shards:
        arrays = {"image": np.full((4, 8, 8, 3), 9, np.uint8), "flag": np.ones(4, bool)}
        shards.acknowledge(write_shard(tmp_path, 0, arrays, 0))
        shards.finish()
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        chunk = file["image"].id.get_chunk_info(2)
    with open(tmp_path / "shard-00000.h5", "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        assert not file["image"][2].any()  # plain HDF5 notices nothing
    with pytest.raises(InputError, match="sha256"):
        ShardReader(tmp_path).read("image")
    assert ShardReader(tmp_path).row(1)["image"].all()


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.integers(0, 1)), st.data())
def test_zero_chunks_are_found(rows, data):
    chunk_rows = data.draw(st.integers(1, 16))
    offset = data.draw(st.integers(0, 50))
    chunk_of_row = (np.arange(len(rows)) + offset) // chunk_rows
    expected = any(not rows[chunk_of_row == chunk].any() for chunk in set(chunk_of_row))
    assert _has_zero_chunk(rows, offset, chunk_rows) == expected


def test_undamaged_shards_of_a_damaged_folder_stay_readable(folder):
    (folder / "shard-00001.h5").write_bytes(b"")
    reader = ShardReader(folder)
    assert np.array_equal(reader.read("image", 0, 16), TRUTH["image"][:16])
    with pytest.raises(InputError, match="has 0 bytes instead of"):
        reader.read("image", 15, 17)


def test_missing_shard_is_an_error_not_zeros(folder):
    (folder / "shard-00002.h5").unlink()
    reader = ShardReader(folder)
    with pytest.raises(InputError, match=r"shard-00002.h5 is missing; run the stage .* --verify"):
        reader.row(40)
    with pytest.raises(InputError, match="missing"):
        reader.verify()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_text_files_never_crash_or_lie(shared_folder, tmp_path_factory, data):
    work = tmp_path_factory.mktemp("mutated")
    name = data.draw(st.sampled_from(["config.json", "manifest.jsonl"]))
    for other in ("config.json", "manifest.jsonl"):
        shutil.copy(shared_folder / other, work)
    for index in range(4):
        os.symlink(shared_folder / f"shard-{index:05d}.h5", work / f"shard-{index:05d}.h5")
    text = bytearray((work / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 8))
        text[start : start + length] = data.draw(
            st.sampled_from([b"", b"0", b"-1", b"1e9", b"9" * 30, b"null", b'"', b"[", b"{}", b"\xff", b"\n", b'"O"'])
        )
    (work / name).write_bytes(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of odd type names
        with contextlib.suppress(InputError):
            reader = ShardReader(work)
            for field in reader.fields:
                if field in TRUTH and len(reader) == 50:
                    assert np.array_equal(reader.read(field), TRUTH[field])


# Attacks: the folder comes from a stranger, who can write a fitting manifest


def replace_shard(folder, build):
    """Put another HDF5 file in the place of shard 1, with the manifest to match."""
    path = folder / "shard-00001.h5"
    path.unlink()
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        build(file)
    records = manifest.load_records(folder, manifest.load_plan(folder))
    records[1] = dataclasses.replace(records[1], bytes=path.stat().st_size, sha256=integrity.sha256_file(path))
    manifest.save_records(folder, records)


SHAPE = (16, 16, 16, 3)


def external_storage(file):
    file.create_dataset("image", SHAPE, "u1", external=[("secret.txt", 0, h5py.h5f.UNLIMITED)])


def external_link(file):
    file["image"] = h5py.ExternalLink("neighbour.h5", "image")


def soft_link(file):
    file["other"] = np.zeros(SHAPE, np.uint8)
    file["image"] = h5py.SoftLink("/other")


def foreign_virtual(file):
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[...] = h5py.VirtualSource("neighbour.h5", "image", SHAPE)
    file.create_virtual_dataset("image", layout)


def three_terabytes(file):
    file.create_dataset("image", (1 << 20, 1024, 1024, 3), "u1", chunks=(1, 64, 64, 3))


def huge_chunk(file):
    file.create_dataset("image", (1, 9000, 9000, 3), "u1", chunks=(1, 9000, 9000, 3), compression="gzip")


def contiguous(file):
    file["image"] = np.zeros(SHAPE, np.uint8)


def lzf(file):
    file.create_dataset("image", data=np.zeros(SHAPE, np.uint8), chunks=(1, 16, 16, 3), compression="lzf")


def sparse(file):
    file.create_dataset("image", SHAPE, "u1", chunks=(1, 16, 16, 3))


def strings(file):
    file.create_dataset("image", (16,), h5py.string_dtype())


def references(file):
    file.create_dataset("image", (16,), h5py.ref_dtype)


def compound(file):
    file.create_dataset("image", (16,), np.dtype([("a", "u1"), ("b", "f4")]))


def a_group(file):
    file.create_group("image")


def other_shape(file):
    file["image"] = np.zeros((16, 8, 8, 3), np.uint8)


def other_type(file):
    file["image"] = np.zeros(SHAPE, np.float32)


def unknown_filter(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 16, 16, 3))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # zstd's registered number; optional, so creation passes
    h5py.h5d.create(file.id, b"image", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(SHAPE), plist)
    file["image"].id.get_space()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (external_storage, "external storage"),
        (external_link, r"link to somewhere else \(ExternalLink\)"),
        (soft_link, r"link to somewhere else \(SoftLink\)"),
        (foreign_virtual, "virtual dataset"),
        (three_terabytes, "claims 3,298,534,883,328 bytes"),
        (huge_chunk, "chunks of 243,000,000 bytes"),
        (contiguous, "stored without checksums"),
        (lzf, "needs HDF5 filter 32000"),
        (sparse, "lacks some of its 16 chunks"),
        (strings, "only fixed-size numbers"),
        (references, "only fixed-size numbers"),
        (compound, "only fixed-size numbers"),
        (a_group, "not a dataset"),
        (other_shape, "the manifest says otherwise"),
        (other_type, "the manifest says otherwise"),
        (unknown_filter, "needs HDF5 filter 32015"),
        (lambda file: None, 'has no dataset "image"'),
    ],
)
def test_hostile_shard_is_refused(folder, build, sentence):
    (folder / "secret.txt").write_bytes(b"s" * 12288)
    with h5py.File(folder / "neighbour.h5", "w") as file:
        file["image"] = np.full(SHAPE, 7, np.uint8)
    replace_shard(folder, build)
    with pytest.raises(InputError, match=sentence) as caught:
        ShardReader(folder).read("image")
    assert "shard-00001.h5" in str(caught.value)


def test_a_pipe_in_the_place_of_a_shard_does_not_hang(folder):
    (folder / "shard-00001.h5").unlink()
    os.mkfifo(folder / "shard-00001.h5")
    with pytest.raises(InputError):
        ShardReader(folder).read("image")


@pytest.mark.parametrize(
    "config",
    [
        {"rows": 1 << 60},
        {"rows": -1},
        {"rows": 1.5},
        {"rows_per_shard": 0},
        {"key": 3},
        {"rows": True},
    ],
)
def test_absurd_plans_are_refused(folder, config):
    table = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(table))
    with pytest.raises(InputError):
        ShardReader(folder)


def test_plugins_are_off():
    code = "import ganfoundry.data.shards, os; print(os.environ['HDF5_PLUGIN_PRELOAD'])"
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PRELOAD"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "::"
