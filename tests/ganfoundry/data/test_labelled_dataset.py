"""The torch data set over a labelled set and over its export: the same samples, in this process and in workers."""

import json

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ganfoundry.data.dataset import LabelledDataset, to_network
from ganfoundry.data.export_reader import ExportReader
from ganfoundry.errors import InputError
from pipeline.artifacts import Export, Writer
from pipeline.stage import Context
from stages.export import Config, run
from tests.stages.exporthelp import CLASSES, KEPT, POINTS, make_arrays, make_set

TRUTH = make_arrays(KEPT)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A labelled set and its export."""
    root = tmp_path_factory.mktemp("places")
    labelled = make_set(root / "set")
    config = Config(formats=("hdf5",), include_dropped=True, val_fraction=0.25)
    run(config, labelled, Writer[Export](root / "export"), Context())
    return root


@pytest.mark.parametrize("name", ["set", "export", "export/dataset.h5"])
def test_the_same_samples_from_shards_and_file(places, name):
    dataset = LabelledDataset(places / name)
    assert len(dataset) == len(KEPT)
    assert dataset.description.classes == tuple(CLASSES)
    assert dataset.description.keypoints == tuple(POINTS)
    found = dataset.batch([20, 3, 3, 0])
    assert set(found) == {"image", "label", "keypoints"}
    for field, values in found.items():
        assert np.array_equal(values.numpy(), TRUTH[field][[20, 3, 3, 0]])
        assert values.numpy().dtype == TRUTH[field].dtype


def test_splits_share_nothing_and_leave_nothing_out(places):
    parts = {name: LabelledDataset(places / "export", split=name) for name in ("train", "val")}
    rows = {name: set(part.reader.read("row")[part.rows].tolist()) for name, part in parts.items()}
    assert not rows["train"] & rows["val"]
    assert rows["train"] | rows["val"] == set(KEPT)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_with_two_workers(places, start):
    dataset = LabelledDataset(places / "export", transform=to_network)
    dataset[0]  # opens the file in this process first: the workers must not use it
    loader = DataLoader(dataset, 8, num_workers=2, multiprocessing_context=start)
    batches = list(loader)
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, torch.from_numpy(TRUTH["image"]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), torch.from_numpy(TRUTH["label"]).long())
    assert torch.equal(torch.cat([batch["keypoints"] for batch in batches]), torch.from_numpy(TRUTH["keypoints"]))


def test_without_keypoints(tmp_path):
    make_set(tmp_path, keypoints=False)
    assert set(LabelledDataset(tmp_path)[0]) == {"image", "label"}


def test_bad_places(places, tmp_path):
    with pytest.raises(InputError, match="neither a labelled set"):
        LabelledDataset(tmp_path)
    with pytest.raises(InputError, match='no split "dev"'):
        LabelledDataset(places / "export", split="dev")
    with pytest.raises(InputError, match="--test-fraction"):
        LabelledDataset(places / "export", split="test")
    with pytest.raises(InputError, match="has no splits"):
        LabelledDataset(places / "set", split="train")
    with pytest.raises(InputError, match='no field "mask"'):
        ExportReader(places / "export" / "dataset.h5").rows([0], ["mask"])
    with pytest.raises(IndexError):
        ExportReader(places / "export" / "dataset.h5").rows([40])


def _damage_attribute(file):
    file.attrs["classes"] = json.dumps(["a", "a"])


def _damage_link(file):
    del file["label"]
    file["label"] = h5py.ExternalLink("/etc/passwd", "x")


def _damage_length(file):
    del file["score"]
    file["score"] = np.zeros(3, np.float32)


@pytest.mark.parametrize("change", [_damage_attribute, _damage_link, _damage_length])
def test_a_file_that_is_no_export_is_refused(places, tmp_path, change):
    path = tmp_path / "dataset.h5"
    path.write_bytes((places / "export" / "dataset.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=r"dataset\.h5"):
        LabelledDataset(path)


def test_a_flipped_bit_is_named(places, tmp_path):
    path = tmp_path / "dataset.h5"
    data = bytearray((places / "export" / "dataset.h5").read_bytes())
    at = data.find(make_arrays([10])["image"].tobytes())
    data[at + 100] ^= 1
    path.write_bytes(data)
    dataset = LabelledDataset(path)
    with pytest.raises(InputError, match='"image" from row 10 on'):
        list(dataset)
