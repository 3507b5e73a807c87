"""The reader of shards: any rows, in any process and thread, alone or beside others."""

import copy
import os
import threading

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_shards import KEY, folder_bytes, make_rows

from ganfoundry.data.shards import ShardReader
from ganfoundry.errors import InputError

TRUTH = make_rows(range(50))


def test_fields_and_length(shared_folder):
    reader = ShardReader(shared_folder)
    assert len(reader) == 50
    assert reader.key == KEY
    assert reader.fields["image"] == ("|u1", (16, 16, 3))
    assert reader.fields["keep"] == ("|b1", ())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_rows_in_any_order(shared_folder, data):
    reader = ShardReader(shared_folder, max_open=data.draw(st.integers(1, 4)))
    indices = data.draw(st.lists(st.integers(0, 49), max_size=30))
    got = reader.rows(indices, ["image", "w"])
    assert np.array_equal(got["image"], TRUTH["image"][indices])
    assert np.array_equal(got["w"], TRUTH["w"][indices])
    start = data.draw(st.integers(0, 50))
    stop = data.draw(st.integers(start, 50))
    assert np.array_equal(reader.read("label", start, stop), TRUTH["label"][start:stop])


def test_single_rows(shared_folder):
    reader = ShardReader(shared_folder)
    for index in (0, 15, 16, 49, -1):
        row = reader.row(index)
        for name, values in TRUTH.items():
            assert np.array_equal(row[name], values[index])


@pytest.mark.parametrize("index", [50, -51])
def test_row_out_of_range(shared_folder, index):
    with pytest.raises(IndexError):
        ShardReader(shared_folder).row(index)
    with pytest.raises(IndexError):
        ShardReader(shared_folder).read("image", 0, 51)


def test_unknown_field_names_the_known(shared_folder):
    with pytest.raises(InputError, match=r'no field "imgae"; it has image, keep'):
        ShardReader(shared_folder).read("imgae")


def test_copied_and_lazy(shared_folder):
    reader = ShardReader(shared_folder)
    reader.row(3)
    other = copy.copy(reader)  # goes through __reduce_ex__, as pickling does
    assert not other._open
    assert np.array_equal(other.row(20)["w"], TRUTH["w"][20])


def test_open_files_are_limited(shared_folder):
    reader = ShardReader(shared_folder, max_open=2)
    for index in (0, 16, 32, 48, 0):
        reader.row(index)
        assert len(reader._open) <= 2
    descriptors = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if fd.isdigit() and os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert sum(str(shared_folder) in path for path in descriptors) == 2
    reader.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork_parent_and_child_both_read(shared_folder):
    reader = ShardReader(shared_folder)
    reader.row(0)
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(reader.row(i)["image"], TRUTH["image"][i]) for i in range(50))
        os._exit(0 if good else 1)
    for index in range(49, -1, -1):
        assert np.array_equal(reader.row(index)["image"], TRUTH["image"][index])
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(reader.row(7)["image"], TRUTH["image"][7])


def test_threads_share_a_reader(shared_folder):
    reader = ShardReader(shared_folder, max_open=1)
    wrong = []

    def work(seed):
        for index in np.random.default_rng(seed).integers(0, 50, 60):
            if not np.array_equal(reader.row(index)["image"], TRUTH["image"][index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_plain_h5py_may_read_beside(shared_folder):
    reader = ShardReader(shared_folder)
    reader.row(0)
    with h5py.File(shared_folder / "index.h5") as index, h5py.File(shared_folder / "shard-00000.h5") as shard:
        assert np.array_equal(index["image"][:16], shard["image"][...])


def test_other_folders_are_no_shards(tmp_path):
    with pytest.raises(InputError, match="holds no shards"):
        ShardReader(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        ShardReader(tmp_path)


def test_reading_changes_nothing(shared_folder):
    before = folder_bytes(shared_folder)
    reader = ShardReader(shared_folder)
    reader.verify()
    reader.read("image")
    assert folder_bytes(shared_folder) == before
