"""Figures that the documentation quotes: each module prints a table, then one JSON line."""
