"""Round trips, resuming, the manifest, the lock and the index."""

import json
import os
import string

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_shards import KEY, folder_bytes, make_folder, make_rows

from ganfoundry.data.index import check_index
from ganfoundry.data.manifest import Plan, load_plan, load_records
from ganfoundry.data.shards import ShardFolder, ShardReader, ShardTask, write_shard
from ganfoundry.errors import InputError, RunError

names = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=12).map(lambda s: "f" + s)
dtypes = st.sampled_from(["?", "u1", "i1", "<u2", ">i2", "<i4", "<u8", "<i8", "<f2", "<f4", ">f4", "<f8"])


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 20))
    fields = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        row = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=5))
        fields[name] = draw(hnp.arrays(draw(dtypes), (rows, *row)))
    return fields


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(), st.integers(1, 8))
def test_what_is_written_is_read_bit_by_bit(tmp_path_factory, table, rows_per_shard):
    folder = tmp_path_factory.mktemp("t")
    rows = len(next(iter(table.values())))
    with ShardFolder(folder, rows, rows_per_shard, "k") as shards:
        for task in shards.pending():
            part = {name: array[task.first : task.stop] for name, array in table.items()}
            shards.acknowledge(write_shard(folder, task.index, part, task.first))
        shards.finish()
    reader = ShardReader(folder)
    reader.verify()
    assert len(reader) == rows
    assert set(reader.fields) == set(table)
    for name, array in table.items():
        expected = array.astype(array.dtype.newbyteorder("<"))
        got = reader.read(name)
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        assert got.tobytes() == expected.tobytes()
        with h5py.File(folder / "index.h5") as index:
            assert index[name][...].tobytes() == expected.tobytes()


def test_receipt_is_json_and_the_same_bytes_twice(tmp_path):
    arrays = make_rows(range(32, 48))
    first = write_shard(tmp_path, 2, arrays, 32)
    bytes_before = (tmp_path / "shard-00002.h5").read_bytes()
    again = write_shard(tmp_path, 2, dict(reversed(arrays.items())), 32)
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(again))
    assert (tmp_path / "shard-00002.h5").read_bytes() == bytes_before
    assert first["bytes"] == len(bytes_before)
    assert os.listdir(tmp_path) == ["shard-00002.h5"]


def test_chunks_are_one_image_and_carry_checksums(shared_folder):
    with h5py.File(shared_folder / "shard-00000.h5") as file:
        assert file["image"].chunks == (1, 16, 16, 3)
        assert file["label"].chunks == (1, 16, 16)
        assert file["w"].chunks == (16, 12)
        assert file["score"].chunks == (16,)
        assert all(dataset.fletcher32 for dataset in file.values())
        assert file.libver == ("v110", "v110") or file.id.get_create_plist().get_version()[0] >= 2


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({}, ValueError),
        ({"a": np.zeros((0, 2))}, ValueError),
        ({"a": np.zeros(3), "b": np.zeros(4)}, ValueError),
        ({"../a": np.zeros(3)}, ValueError),
        ({"A": np.zeros(3)}, ValueError),
        ({"a": np.array(["x", "y"])}, ValueError),
        ({"a": np.zeros(3, object)}, ValueError),
        ({"a": np.zeros(3, complex)}, ValueError),
    ],
)
def test_what_shards_do_not_store_is_refused(tmp_path, arrays, error):
    with pytest.raises(error):
        write_shard(tmp_path, 0, arrays, 0)
    assert os.listdir(tmp_path) == []


@given(st.integers(1, 500), st.integers(1, 600))
def test_plan_covers_every_row_once(rows, rows_per_shard):
    plan = Plan(rows, rows_per_shard, "k")
    covered = [row for task in plan for row in task.rows]
    assert covered == list(range(rows))
    assert [task.index for task in plan] == list(range(len(plan)))


def test_interrupted_after_every_shard_gives_the_same_bytes(tmp_path, shared_folder):
    class Stop(Exception):
        pass

    def stop(index):
        raise Stop

    restarts = 0
    while True:
        try:
            make_folder(tmp_path / "a", report=stop)
            break
        except Stop:
            restarts += 1
    assert restarts == 4
    assert folder_bytes(tmp_path / "a") == folder_bytes(shared_folder)


def test_order_of_acknowledgement_leaves_no_trace(tmp_path, shared_folder):
    with ShardFolder(tmp_path, 50, 16, KEY) as shards:
        for task in reversed(shards.pending()):
            shards.acknowledge(write_shard(tmp_path, task.index, make_rows(task.rows), task.first))
        shards.finish()
    assert folder_bytes(tmp_path) == folder_bytes(shared_folder)


def test_finished_folder_has_nothing_pending(folder):
    before = folder_bytes(folder)
    assert make_folder(folder) == []
    assert make_folder(folder, verify=True) == []
    assert folder_bytes(folder) == before


def test_verify_rewrites_exactly_the_damaged_shards(folder):
    before = folder_bytes(folder)
    flipped = bytearray(before["shard-00001.h5"])
    flipped[5000] ^= 4
    (folder / "shard-00001.h5").write_bytes(flipped)
    (folder / "shard-00002.h5").unlink()
    (folder / "shard-00003.h5").write_bytes(before["shard-00003.h5"][:-1])
    with ShardFolder(folder, 50, 16, KEY) as shards:
        assert [task.index for task in shards.pending()] == [2, 3]
        assert shards.pending(verify=True) == [ShardTask(1, 16, 32), ShardTask(2, 32, 48), ShardTask(3, 48, 50)]
    assert make_folder(folder, verify=True) == [1, 2, 3]
    assert folder_bytes(folder) == before


@pytest.mark.parametrize("change", [{"key": "0" * 64}, {"rows": 51}, {"rows_per_shard": 8}])
def test_another_configuration_is_refused(folder, change):
    arguments = {"rows": 50, "rows_per_shard": 16, "key": KEY} | change
    before = folder_bytes(folder)
    with pytest.raises(InputError, match="another configuration") as caught:
        ShardFolder(folder, **arguments)
    assert caught.value.exit_code == 2
    assert folder_bytes(folder) == before
    make_folder(folder)  # the refusal let go of the lock


def test_second_writer_is_refused(folder):
    with ShardFolder(folder, 50, 16, KEY):
        with pytest.raises(InputError, match="another run is writing"):
            ShardFolder(folder, 50, 16, KEY)
        ShardReader(folder).verify()  # readers are not kept out
    ShardFolder(folder, 50, 16, KEY).close()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^cannot write into .*/file: File exists; check its permissions"):
        ShardFolder(tmp_path / "file", 50, 16, KEY)


def test_left_over_temporary_files_are_deleted(folder):
    (folder / ".tmp-123-00001-abcd").write_bytes(b"half a shard")
    make_folder(folder)
    assert not list(folder.glob(".tmp-*"))


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_torn_last_line_costs_one_shard(folder, cut):
    before = folder_bytes(folder)
    (folder / "manifest.jsonl").write_bytes(before["manifest.jsonl"][:-cut])
    with pytest.raises(InputError, match="1 of 4 shards are not there"):
        ShardReader(folder)
    assert make_folder(folder) == [3]
    assert folder_bytes(folder) == before


def test_damaged_line_is_an_error_for_readers_and_costs_the_writer_one_shard(folder):
    before = folder_bytes(folder)
    lines = before["manifest.jsonl"].splitlines(keepends=True)
    lines[1] = b'{"shard": 1, "sha256": \n'
    (folder / "manifest.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"line 2 of .*manifest.jsonl is damaged"):
        ShardReader(folder)
    assert make_folder(folder) == [1]
    assert folder_bytes(folder) == before


def test_unfinished_folder_does_not_finish(tmp_path):
    with ShardFolder(tmp_path, 50, 16, KEY) as shards:
        task = shards.pending()[1]
        shards.acknowledge(write_shard(tmp_path, task.index, make_rows(task.rows), task.first))
        with pytest.raises(RunError, match=r"3 of 4 shards .* are missing \(0, 2, 3\)") as caught:
            shards.finish()
    assert caught.value.exit_code == 1
    with pytest.raises(InputError, match="unfinished"):
        ShardReader(tmp_path)


def test_receipt_of_other_rows_is_refused(tmp_path):
    with ShardFolder(tmp_path, 50, 16, KEY) as shards:
        receipt = write_shard(tmp_path, 1, make_rows(range(16)), 0)
        with pytest.raises(RunError, match="instead of 16 to 32"):
            shards.acknowledge(receipt)


def test_shards_with_other_fields_do_not_finish(tmp_path):
    with ShardFolder(tmp_path, 4, 2, KEY) as shards:
        shards.acknowledge(write_shard(tmp_path, 0, {"a": np.zeros((2, 3))}, 0))
        shards.acknowledge(write_shard(tmp_path, 1, {"a": np.zeros((2, 4))}, 2))
        with pytest.raises(RunError, match="other fields"):
            shards.finish()


def test_index_reads_as_one_file_and_is_rebuilt(folder):
    before = folder_bytes(folder)
    with h5py.File(folder / "index.h5") as index:
        assert np.array_equal(index["image"][14:19], make_rows(range(14, 19))["image"])
        assert index["keep"].dtype == bool
    (folder / "index.h5").unlink()
    ShardReader(folder).verify()
    make_folder(folder)
    assert folder_bytes(folder) == before


def tampered_index(path, source="shard-00001.h5", shift=0, name="image"):
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((50, 16, 16, 3), "u1")
        for index, first in enumerate(range(0, 50, 16)):
            count = min(16, 50 - first)
            selected = h5py.VirtualSource(source if index == 1 else f"shard-{index:05d}.h5", name, (count, 16, 16, 3))
            layout[first + shift * (index == 1) : first + count] = selected[shift * (index == 1) :]
        del file["image"]
        file.create_virtual_dataset("image", layout)


@pytest.mark.parametrize("change", [{"source": "../secret.h5"}, {"shift": 1}, {"name": "label"}])
def test_tampered_index_is_noticed_and_never_used(folder, change):
    tampered_index(folder / "index.h5", **change)
    reader = ShardReader(folder)
    assert np.array_equal(reader.read("image"), make_rows(range(50))["image"])
    with pytest.raises(InputError, match="does not match manifest"):
        reader.verify()
    make_folder(folder)
    ShardReader(folder).verify()


def test_a_damaged_index_is_noticed_without_opening_it(folder):
    """HDF5 2.0 dies of a segmentation fault at some of these."""
    records = load_records(folder, load_plan(folder))
    check_index(folder, records)
    content = (folder / "index.h5").read_bytes()
    for at in range(0, len(content), len(content) // 50):
        (folder / "index.h5").write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        with pytest.raises(InputError, match="does not match"):
            check_index(folder, records)
