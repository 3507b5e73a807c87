"""Labels: part schemas, labelled samples, and the Style Interpreter that learns from them."""

import importlib
from typing import TYPE_CHECKING, Any

from ganfoundry.labels.schema import PartSchema

if TYPE_CHECKING:
    from ganfoundry.labels.feature_source import HookedNetwork
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.synthesis import images_and_features, label_samples

__all__ = ["HookedNetwork", "LabelSet", "PartSchema", "StyleInterpreter", "images_and_features", "label_samples"]

# Imported when they are asked for: a world needs the schema only, and should not wait for torch.
_LATER = {
    "HookedNetwork": "feature_source",
    "LabelSet": "labelset",
    "StyleInterpreter": "interpreter",
    "images_and_features": "synthesis",
    "label_samples": "synthesis",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
