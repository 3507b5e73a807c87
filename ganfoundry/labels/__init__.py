"""Labels: part schemas, and what is learnt from labelled images."""

from ganfoundry.labels.schema import PartSchema

__all__ = ["PartSchema"]
