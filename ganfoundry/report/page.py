"""A report is sections of text, figures, charts, bars and tables, rendered to one HTML file without scripts.

Nothing outside the file is needed to open it. Everything written into the page is escaped by the template engine, and
the page's content security policy allows nothing but its own style and data: images, so a hostile class name or path
stays text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from ganfoundry.pictures import data_url
from ganfoundry.report.charts import Chart


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    Parameters
    ----------
    image : (H, W, 3) uint8
    caption : str
        What is seen, in a sentence.
    quality : int, optional
        Of a JPEG, for large pictures of many colours; a PNG, exact, without it.
    link : str
        Relative address of the picture in full, beside the page.
    """

    image: NDArray[np.uint8]
    caption: str
    quality: int | None = None
    link: str = ""

    @property
    def url(self) -> str:
        """The picture as a data: URL."""
        return data_url(self.image, quality=self.quality)


@dataclass(frozen=True)
class Bar:
    """One row of a horizontal bar chart.

    Parameters
    ----------
    label : str
    share : float in [0, 1]
        Length of the bar.
    text : str
        The value as it is to be read.
    colour : (3,) int, RGB in [0, 255]
    """

    label: str
    share: float
    text: str
    colour: tuple[int, int, int] = (70, 110, 170)


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and what it speaks of."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    bars: Sequence[Bar] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())
    strips: Sequence[Figure] = ()  # one below the other, captions to their left
    charts: Sequence[Chart] = ()
    folded: str = ""  # words to unfold the table by; shown at once without them


def render_page(title: str, lead: str, sections: Sequence[Section], footer: str = "") -> str:
    """Render a report.

    Parameters
    ----------
    title, lead : str
        Heading of the page and the paragraph under it.
    sections : sequence of Section
    footer : str
        Provenance: versions, fingerprints.

    Returns
    -------
    str
        A complete HTML document.
    """
    source = resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(title=title, lead=lead, sections=sections, footer=footer)
