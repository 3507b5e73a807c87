"""TensorBoard's view of a training run: the scalars of the log and the grids of samples, over images shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganfoundry.errors import InputError
from ganfoundry.pictures import Pixels


class Board:
    """Event files in a folder; `tensorboard --logdir FOLDER` shows them.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    images : int
        Images shown when writing begins: what an interrupted run wrote beyond them is hidden.

    Raises
    ------
    InputError
        If the optional package is not installed.
    """

    def __init__(self, folder: Path, images: int = 0) -> None:
        self._writer = _summary_writer()(str(folder), purge_step=images + 1, flush_secs=30)

    def scalars(self, images: int, values: Mapping[str, float]) -> None:
        """Write one value a name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, images)

    def picture(self, images: int, name: str, pixels: Pixels) -> None:
        """Write a picture (H, W, 3) uint8."""
        self._writer.add_image(name, pixels, images, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


def require_tensorboard() -> None:
    """Check that events can be written.

    Raises
    ------
    InputError
        If the optional package is not installed.
    """
    _summary_writer()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            'TensorBoard was asked for and is not installed; pip install "ganfoundry[tensorboard]", or leave '
            "--tensorboard out: log.jsonl and report.html hold the same"
        ) from error
    return SummaryWriter
