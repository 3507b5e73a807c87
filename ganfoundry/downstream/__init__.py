"""Training on labelled images: what a data set is worth is what a network learns from it."""

from ganfoundry.downstream.evaluation import Found, keypoint_figures, part_figures, predict
from ganfoundry.downstream.examples import Examples, ExampleSource, StoredExamples
from ganfoundry.downstream.networks import NetConfig, build_net
from ganfoundry.downstream.training import Recipe, Supervised, fit

__all__ = [
    "ExampleSource",
    "Examples",
    "Found",
    "NetConfig",
    "Recipe",
    "StoredExamples",
    "Supervised",
    "build_net",
    "fit",
    "keypoint_figures",
    "part_figures",
    "predict",
]
