"""One training image: whatever a file or an array holds becomes an RGB square, and what was irregular is named.

Irregularities: "grey", "alpha", "palette", "16-bit", "CMYK", "rotated" (by EXIF, set upright), "not square" (the
largest centred square is taken), "small" (enlarged). An image may have several.
"""

import io
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

from ganfoundry.errors import InputError
from ganfoundry.gan.train_sources import Content

Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 80_000_000  # of one image; more is a decompression bomb
ORIENTATION = 0x0112  # EXIF tag; 1 is upright


def parse_colour(text: str) -> tuple[int, int, int]:
    """(R, G, B) in [0, 255] of a CSS colour.

    Raises
    ------
    InputError
        If there is no such colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise InputError(f"background {text!r} is not a colour; give a name such as white, or #rrggbb") from error
    return red, green, blue


def square(content: Content, resolution: int, background: tuple[int, int, int]) -> tuple[Pixels, list[str]]:
    """Make one image a square of the resolution: upright, RGB, the largest centred square, Lanczos.

    Parameters
    ----------
    content : bytes or (H, W, C) uint8
        A PNG, JPEG or WebP file, or an array with C from 1 to 4 (grey, grey and alpha, RGB, RGB and alpha).
    resolution : int
        Side in pixels.
    background : (R, G, B)
        Behind what is transparent.

    Returns
    -------
    pixels : (resolution, resolution, 3) uint8
    irregularities : list of str
        See above; empty for an 8-bit RGB square of at least the resolution.

    Raises
    ------
    Exception
        Of any kind, if it cannot be decoded or is too large.
    """
    if not isinstance(content, bytes):
        image = Image.fromarray(content[:, :, 0] if content.shape[2] == 1 else content)
        return _finish(image, resolution, background, bits=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images (refused below) and of corrupt EXIF
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
            bits = content[24] if image.format == "PNG" else 8  # Pillow reads 16-bit colours as 8-bit ones
            return _finish(image, resolution, background, bits=bits)


def _finish(
    image: Image.Image, resolution: int, background: tuple[int, int, int], *, bits: int
) -> tuple[Pixels, list[str]]:
    kinds = list(irregularities(image, resolution, bits))
    upright = to_rgb(ImageOps.exif_transpose(image), background)
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    cropped = upright.crop((left, top, left + side, top + side))
    return np.asarray(cropped.resize((resolution, resolution), Image.Resampling.LANCZOS)), kinds


def irregularities(image: Image.Image, resolution: int, bits: int) -> Iterator[str]:
    """Name what is not regular about an image; see above."""
    checks: Mapping[str, bool] = {
        "grey": image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I"),
        "alpha": _has_alpha(image),
        "palette": image.mode in ("P", "PA"),
        "16-bit": bits == 16,
        "CMYK": image.mode == "CMYK",
        "rotated": image.getexif().get(ORIENTATION, 1) not in (0, 1),
        "not square": image.width != image.height,
        "small": min(image.size) < resolution,
    }
    return (kind for kind, found in checks.items() if found)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """8-bit RGB of an image of any mode, laid on a colour where it is transparent."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip, not scale
        wide: NDArray[np.float64] = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.round(wide / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if _has_alpha(image):
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
