"""Trained networks as files: one .safetensors each, whose header says what the network is."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ganfoundry.downstream.networks import Net, NetConfig, build_net
from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically

FORMAT = "ganfoundry-downstream-1"


def save_net(path: Path, net: Net) -> None:
    """Write a network, whole or not at all.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    # One entry only: safetensors writes several in no fixed order.
    header = {"downstream": json.dumps({"format": FORMAT, "config": asdict(net.config)})}
    write_atomically(path, save({k: v.contiguous() for k, v in net.state_dict().items()}, header))


def load_net(path: Path) -> Net:
    """Read what `save_net` wrote, in evaluation mode.

    Raises
    ------
    InputError
        If the file is missing, damaged or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("downstream", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("format") != FORMAT:
            raise InputError(f"{path} is no network of train-downstream; train one")
        table = header["config"]
        net = build_net(NetConfig(**table | {"outputs": tuple(table["outputs"])}))
        net.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"cannot read the network {path} ({error}); train it again") from error
    net.eval()
    return net
