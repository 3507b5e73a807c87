"""Viewpoint codes: the styles of a generator's early layers as cameras (GANverse3D, section 3.1)."""

from ganfoundry.views.codes import (
    BINS,
    ViewCode,
    ViewCodeSet,
    azimuth_bin,
    early_layers,
)
from ganfoundry.views.proposal import (
    Candidates,
    PoseEstimates,
    make_codes,
    measure_candidates,
)
from ganfoundry.views.selection import choose_codes, choose_shapes, shortlist

__all__ = [
    "BINS",
    "Candidates",
    "PoseEstimates",
    "ViewCode",
    "ViewCodeSet",
    "azimuth_bin",
    "choose_codes",
    "choose_shapes",
    "early_layers",
    "make_codes",
    "measure_candidates",
    "shortlist",
]
