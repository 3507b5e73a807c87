"""The torch data set, in this process and in loader workers started by fork and by spawn."""

import numpy as np
import pytest
import torch
from make_shards import make_rows
from torch.utils.data import DataLoader

from ganfoundry.data.dataset import ShardDataset
from ganfoundry.errors import InputError

TRUTH = make_rows(range(50))


class ToNetwork:
    """Stored image to network image, as docs/conventions.md defines it."""

    def __call__(self, sample):
        image = sample["image"].permute(2, 0, 1).float().div(127.5).sub(1)
        return image, sample["label"].long()


def test_samples_are_the_rows(shared_folder):
    dataset = ShardDataset(shared_folder)
    assert len(dataset) == 50
    for index in (0, 31, 49, -1):
        sample = dataset[index]
        assert set(sample) == set(TRUTH)
        for name, values in TRUTH.items():
            assert np.array_equal(sample[name].numpy(), values[index])
            assert sample[name].numpy().dtype == values.dtype


def test_fields_rows_and_where(shared_folder):
    rows = [40, 3, 3, 17, 22]
    dataset = ShardDataset(shared_folder, ["w"], rows=rows)
    assert [sample["w"].tolist() for sample in dataset.__getitems__(range(5))] == TRUTH["w"][rows].tolist()
    kept = ShardDataset(shared_folder, ["score"], where="keep")
    assert torch.equal(kept.batch(range(len(kept)))["score"], torch.from_numpy(TRUTH["score"][TRUTH["keep"]]))


def test_unknown_field(shared_folder):
    with pytest.raises(InputError, match='no field "mask"; it has image'):
        ShardDataset(shared_folder, ["mask"])
    with pytest.raises(IndexError):
        ShardDataset(shared_folder)[50]


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_with_two_workers(shared_folder, start):
    dataset = ShardDataset(shared_folder, ["image", "label"], transform=ToNetwork())
    dataset[0]  # opens files in this process first: they must not be used in the workers
    loader = DataLoader(dataset, 8, num_workers=2, multiprocessing_context=start, generator=torch.Generator())
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    expected = torch.from_numpy(TRUTH["image"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(images, expected)
    assert torch.equal(labels, torch.from_numpy(TRUTH["label"]).long())


def test_shuffled_loader_gives_every_row_once(shared_folder):
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(ShardDataset(shared_folder, ["seed", "score"]), 7, shuffle=True, generator=generator)
    batches = list(loader)
    assert sorted(torch.cat([batch["seed"] for batch in batches]).tolist()) == sorted(TRUTH["seed"].tolist())
    assert batches[0]["score"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_damage_reaches_the_caller_from_a_worker(folder):
    (folder / "shard-00001.h5").write_bytes(b"")
    loader = DataLoader(ShardDataset(folder, ["image"]), 8, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(InputError, match=r"shard-00001.h5 is damaged"):
        list(loader)
