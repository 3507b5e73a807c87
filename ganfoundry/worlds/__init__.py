"""Worlds: parametric classes of objects that render with exact ground truth."""

from __future__ import annotations

from ganfoundry.errors import InputError
from ganfoundry.worlds.base import Sample, World


def get_world(name: str) -> World:
    """Return the world of a name ("cars", "faces").

    Raises
    ------
    InputError
        If there is no such world.
    """
    if name == "cars":
        from ganfoundry.worlds.cars import CarWorld

        return CarWorld()
    if name == "faces":
        from ganfoundry.worlds.faces import FaceWorld

        return FaceWorld()
    raise InputError(f"no world is called {name!r}; choose one of: cars, faces")


__all__ = ["Sample", "World", "get_world"]
