"""One-file HTML reports that open from disk."""

from ganfoundry.report.page import Bar, Figure, Section, render_page

__all__ = ["Bar", "Figure", "Section", "render_page"]
