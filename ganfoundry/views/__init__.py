"""Viewpoint codes: the styles of a generator's early layers as cameras (GANverse3D, section 3.1)."""

from ganfoundry.views.bins import ALL_AROUND, AzimuthBins
from ganfoundry.views.codes import ViewCode, ViewCodeSet, early_layers
from ganfoundry.views.proposal import (
    Candidates,
    PoseEstimates,
    make_codes,
    measure_candidates,
)
from ganfoundry.views.selection import choose_codes, choose_shapes, shortlist

__all__ = [
    "ALL_AROUND",
    "AzimuthBins",
    "Candidates",
    "PoseEstimates",
    "ViewCode",
    "ViewCodeSet",
    "choose_codes",
    "choose_shapes",
    "early_layers",
    "make_codes",
    "measure_candidates",
    "shortlist",
]
