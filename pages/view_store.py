"""A person's answers to "from where is the object seen?", one for each viewpoint code.

The answers change codes.json in place (bins, how they came about, which codes there are); the latents stay, since
`ViewCodeSet.load` picks their rows by the codes' ids. Beside it stands bins.toml, the same answers as `annotate-views
--bins` takes them. What was proposed is kept in .page/proposed.json, so that every answer can be taken back.
"""

import contextlib
import json
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ganfoundry.data.integrity import write_whole
from ganfoundry.errors import InputError
from ganfoundry.views import ViewCode, ViewCodeSet
from ganfoundry.views.codes import HOW
from pages.label_store import HIDDEN

DROP = -1
"""Answer that drops a code, and with it the code at the same place of every other shape."""


class ViewStore:
    """Viewpoint codes of one folder and a person's answers; its methods may be called from any thread.

    Parameters
    ----------
    folder : path
        A folder of viewpoint codes.
    generator_sha256 : str, optional
        Refuse codes of another generator.

    Raises
    ------
    InputError
        If the folder holds no readable codes, or codes of another generator.
    """

    def __init__(self, folder: str | Path, generator_sha256: str | None = None) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._own = self.folder / HIDDEN
        found = ViewCodeSet.load(self.folder)
        if generator_sha256 is not None and found.generator_sha256 != generator_sha256:
            raise InputError(
                f"the viewpoint codes in {self.folder} belong to the generator {found.generator_sha256[:12]}, "
                f"not to {generator_sha256[:12]}; name their generator"
            )
        self._table = json.loads((self.folder / "codes.json").read_text("utf-8"))
        self._own.mkdir(exist_ok=True)
        kept = self._read_kept()
        self._proposed: list[dict[str, Any]] = kept["codes"]
        self.answers: dict[int, int] = {int(code): k for code, k in kept["answers"].items()}
        self.codes = replace(found, codes=self._codes_of(self._proposed), w=self._all_latents())
        self.bins = found.bins

    def _read_kept(self) -> dict[str, Any]:
        """What was proposed and answered, if it belongs to these latents; else what codes.json says now."""
        path = self._own / "proposed.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no file yet, or a damaged one
            kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if kept["latents_sha256"] == self._table["latents_sha256"]:
                return kept
        return {"codes": self._table["codes"], "answers": {}}

    def _all_latents(self) -> Any:
        from safetensors.numpy import load_file

        w = load_file(self.folder / "codes.safetensors")["w_view"]
        return w[[code["id"] for code in self._proposed]]

    @staticmethod
    def _codes_of(entries: list[dict[str, Any]]) -> tuple[ViewCode, ...]:
        return tuple(ViewCode(**{**entry, "id": number}) for number, entry in enumerate(entries))

    def answer(self, code: int, k: int | None) -> None:
        """Take a person's answer and write it, unless a bin would stay without a code (see `missing`).

        Parameters
        ----------
        code : int
            Number of the code in `codes`.
        k : int or None
            Its bin, DROP, or None to take the answer back.

        Raises
        ------
        InputError
            If there is no such code or bin.
        RunError
            If the files cannot be written.
        """
        if not 0 <= code < len(self.codes) or not (k is None or DROP <= k < self.bins.count):
            raise InputError(f"there is no code {code} or no bin {k}; reload the page")
        with self._lock:
            if k is None:
                self.answers.pop(code, None)
            else:
                self.answers[code] = k
            kept = {"latents_sha256": self._table["latents_sha256"], "codes": self._proposed, "answers": self.answers}
            write_whole(self._own / "proposed.json", _dump(kept))
            if not self.missing():
                write_whole(self.folder / "codes.json", _dump(self._table | {"codes": self._answered()}))
                lines = [f"{code} = {k}\n" for code, k in sorted(self.answers.items())]
                write_whole(self.folder / "bins.toml", "".join(lines).encode())

    def missing(self) -> list[str]:
        """Bins that the answers leave without a code, in words; while there are any, nothing is written."""
        found = {(entry["shape"], entry["bin"]) for entry in self._answered()}
        return [
            f"{shape + ': ' if shape else ''}bin {self.bins.name(k)}"
            for shape in self.codes.shapes
            for k in range(self.bins.count)
            if (shape, k) not in found
        ]

    def _answered(self) -> list[dict[str, Any]]:
        """Entries of codes.json with the answers, shape by shape, in a shape by bin; ids are rows of the latents."""
        views = self.codes.views
        dropped = {code % views for code, k in self.answers.items() if k == DROP}
        result = []
        for number, entry in enumerate(self._proposed):
            if number % views in dropped:
                continue
            k = self.answers.get(number, entry["bin"])
            agreed = HOW[1] if number in self.answers and entry["how"] == HOW[2] else entry["how"]
            result.append(entry | {"bin": k, "how": HOW[0] if k != entry["bin"] else agreed})
        order = {shape: place for place, shape in enumerate(self.codes.shapes)}
        return sorted(result, key=lambda entry: (order[entry["shape"]], entry["bin"]))

    def project(self) -> dict[str, Any]:
        """All that the page shows."""
        return {
            "bins": [{"number": k, "azimuth": self.bins.first + k * self.bins.width} for k in range(self.bins.count)],
            "width": self.bins.width,
            "codes": [asdict(code) | {"answer": self.answers.get(code.id)} for code in self.codes.codes],
            "views": self.codes.views,
            "missing": self.missing(),
        }


def _dump(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=1) + "\n").encode("utf-8")
