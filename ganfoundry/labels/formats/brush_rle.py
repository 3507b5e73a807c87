"""Label Studio's run lengths of brush masks: the bit stream of thi.ng's rle-pack, over RGBA bytes.

    32 bits   number of words N (height * width * 4)
     5 bits   word size - 1 (7: bytes)
    4 x 4     the four sizes of run counts - 1 (2, 3, 7, 15: counts of 3, 4, 8 or 16 bits)
    blocks    1 bit: 1 a run of one word, 0 words one by one; 2 bits: which count size; count - 1; the word or words

until N words are made; zero bits fill up the last byte. The mask is the alpha channel.

Source: github.com/thi-ng/umbrella, packages/rle-pack; labelstud.io, "brush RLE".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError

_SIZES = (3, 4, 8, 16)
OPAQUE = 128  # alpha from which on a pixel is inside; brushes have soft edges


class _Bits:
    """Reads whole numbers from a stream of bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self.weights = 1 << np.arange(31, -1, -1, dtype=np.int64)
        self.at = 0

    def take(self, size: int, count: int = 1) -> NDArray[np.int64]:
        """The next `count` numbers of `size` bits."""
        stop = self.at + size * count
        if stop > len(self.bits):
            raise InputError("a brush mask ends too early; export it again")
        rows = self.bits[self.at : stop].reshape(count, size).astype(np.int64)
        self.at = stop
        values: NDArray[np.int64] = rows @ self.weights[32 - size :]
        return values

    def one(self, size: int) -> int:
        """The next number."""
        return int(self.take(size)[0])


def decode(rle: object, height: int, width: int) -> NDArray[np.bool_]:
    """Mask (H, W) of a brush annotation.

    Parameters
    ----------
    rle : list of int in [0, 255]
    height, width : int
        Size of the picture; the stream must be of that size.

    Raises
    ------
    InputError
        If it is no such stream, ends early or is of another size.
    """
    stream = _Bits(_as_bytes(rle))
    words, size = stream.one(32), stream.one(5) + 1
    if words != height * width * 4 or size != 8:
        raise InputError(
            f"a brush mask holds {words} words of {size} bits, but a picture of {width} x {height} has "
            f"{height * width * 4} bytes; export it again"
        )
    sizes = [stream.one(4) + 1 for _ in _SIZES]
    values, lengths, done = [], [], 0
    while done < words:
        head = stream.one(3)
        count = stream.one(sizes[head & 3]) + 1
        if done + count > words:
            raise InputError("a brush mask has more words than its size; export it again")
        repeated = head >= 4
        values.append(stream.take(8, 1 if repeated else count))
        lengths.append(np.array([count]) if repeated else np.ones(count, np.int64))
        done += count
    if not values:
        return np.zeros((height, width), bool)
    rgba = np.repeat(np.concatenate(values), np.concatenate(lengths))
    return rgba.reshape(height, width, 4)[:, :, 3] >= OPAQUE


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """Stream of a mask (H, W): opaque white inside, 0 outside."""
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    pieces = [_number(flat.size * 4, 32), _number(7, 5), *(_number(size - 1, 4) for size in _SIZES)]
    for start, length in zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True):
        remaining = 4 * length
        while remaining:
            count = min(remaining, 1 << _SIZES[-1])
            size = next(index for index, bits in enumerate(_SIZES) if count <= 1 << bits)
            pieces += [_number(4 + size, 3), _number(count - 1, _SIZES[size]), _number(255 if flat[start] else 0, 8)]
            remaining -= count
    bits = np.frombuffer("".join(pieces).encode("ascii"), np.uint8) - ord("0")
    packed: list[int] = np.packbits(bits).tolist()
    return packed


def _number(value: int, bits: int) -> str:
    return f"{value:0{bits}b}"


def _as_bytes(rle: object) -> bytes:
    try:
        if isinstance(rle, Sequence) and not isinstance(rle, str):
            return bytes(rle)
    except (TypeError, ValueError):
        pass
    raise InputError("a brush mask is not a list of bytes (0 to 255); export it again")
