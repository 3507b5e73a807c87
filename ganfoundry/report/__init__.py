"""One-file HTML reports that open from disk."""

from ganfoundry.report.charts import Chart, Series
from ganfoundry.report.page import Bar, Figure, Section, render_page

__all__ = ["Bar", "Chart", "Figure", "Section", "Series", "render_page"]
