"""Generated views that the inverse-graphics benchmark learns from: stages of the pipeline made them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks._inverse_data import SIZE
from ganfoundry.errors import InputError
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.multiview_loading import load_multiview
from ganfoundry.views.codes import ViewCodeSet


@dataclass(frozen=True)
class Sources:
    """Folders of a multi-view set, its filter's result and its labels."""

    views: Path
    filtered: Path
    labels: Path

    @classmethod
    def find(cls, runs: Sequence[Path]) -> Self:
        """The first of each kind in some run folders.

        Raises
        ------
        InputError
            If one is missing.
        """
        found = []
        for stage in ("generate-views", "filter-views", "label-views"):
            places = [run / stage for run in runs if (run / stage / "run.json").exists()]
            if not places:
                searched = ", ".join(map(str, runs))
                raise InputError(
                    f"{searched} holds no {stage}; run `make demo` and `python cli.py label-views --run demo "
                    "--views annotations/cars/views`, or name other runs with --runs"
                )
            found.append(places[0])
        return cls(*found)

    def codes(self) -> ViewCodeSet:
        """The viewpoint codes that the set was made with, where its run.json says they are.

        Raises
        ------
        InputError
            If they are no longer there.
        """
        record = json.loads((self.views / "run.json").read_text("utf-8"))
        return ViewCodeSet.load((self.views / record["inputs"]["views"]["path"]).resolve())


def generated(sources: Sources, *, everything: bool = False) -> MultiView:
    """The labelled multi-view set, larger views halved; `everything`: what the filter dropped, too."""
    data = load_multiview(
        sources.views, sources.filtered, sources.codes(), sources.labels, everything=everything, size=SIZE
    )
    return data.take(data.usable())
