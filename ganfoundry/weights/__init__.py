"""Networks that ship with the package: one folder each, safetensors and a card that says what they are.

A card (card.json) holds the sha256 of every weights file beside it, the recipe, the data and the figures. Networks that
look at the images of a generator are chosen by its world: `<world>-annotator`, `<world>-detector`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganfoundry.errors import InputError

ROOT = Path(__file__).parent


def names() -> list[str]:
    """Names of all shipped networks, sorted."""
    return sorted(folder.name for folder in ROOT.iterdir() if (folder / "card.json").is_file())


def path(name: str) -> Path:
    """Folder of a shipped network.

    Raises
    ------
    InputError
        If there is none of that name; the sentence lists those there are.
    """
    if name not in names():
        raise InputError(f"no network {name!r} ships with ganfoundry; there are: {', '.join(names()) or 'none'}")
    return ROOT / name


def read_card(name: str) -> dict[str, Any]:
    """Card of a shipped network.

    Raises
    ------
    InputError
        If there is none of that name, or its card is damaged.
    """
    return card_of(path(name))


def card_of(folder: Path) -> dict[str, Any]:
    """Card of a weights folder, empty if it has none.

    Raises
    ------
    InputError
        If card.json is not a JSON object.
    """
    file = folder / "card.json"
    if not file.is_file():
        return {}
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the card {file} cannot be read ({error}); copy it again with its weights") from error
    if not isinstance(card, dict):
        raise InputError(f"the card {file} is not a JSON object; copy it again with its weights")
    return card


def world_of(card: Mapping[str, Any]) -> str:
    """World whose class a generator shows, by its card ("cars", "faces"); empty where the card does not say.

    Cards written before the field `world` say it in the description of their data.
    """
    said = re.search(r"renders of the (\w+) world", str(card.get("data", "")))
    return str(card.get("world") or (said.group(1) if said else ""))


def network_of(world: str, kind: str, otherwise: str) -> Path:
    """Folder of the shipped network that looks at images of a world.

    Parameters
    ----------
    world : str
        As `world_of` gives it.
    kind : str
        "annotator" or "detector".
    otherwise : str
        What a user can do where there is none, as the end of a sentence: "give one with --annotator".

    Raises
    ------
    InputError
        If the world is not known or no such network ships.
    """
    if not world:
        raise InputError(
            f"the generator's card names no world, so no shipped {kind} can be chosen for it; if it shows cars or "
            f"faces, import it with --world cars or --world faces, else {otherwise}"
        )
    if f"{world}-{kind}" not in names():
        shipped = ", ".join(name for name in names() if name.endswith(f"-{kind}"))
        raise InputError(f"no {world}-{kind} ships with ganfoundry ({shipped or 'there is none'}); {otherwise}")
    return path(f"{world}-{kind}")


def digests_of(kind: str) -> dict[str, str]:
    """Digests of all shipped networks of a kind: what depends on one that a generator's card will choose."""
    return {name: str(read_card(name).get("sha256")) for name in names() if name.endswith(f"-{kind}")}


def verify(name: str) -> None:
    """Compare every weights file of a shipped network with the digests on its card.

    Raises
    ------
    InputError
        If a file is not one that the card describes, or the card describes none.
    """
    folder = path(name)
    card = read_card(name)
    recorded = {value for key, value in card.items() if key.endswith("sha256")}
    for file in sorted(folder.glob("*.safetensors")):
        if hashlib.sha256(file.read_bytes()).hexdigest() not in recorded:
            raise InputError(f"{file} is not the file that its card describes; restore it from the repository")
