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
    choose_codes,
    empty_bins,
    make_codes,
    measure_candidates,
)

__all__ = [
    "BINS",
    "Candidates",
    "PoseEstimates",
    "ViewCode",
    "ViewCodeSet",
    "azimuth_bin",
    "choose_codes",
    "early_layers",
    "empty_bins",
    "make_codes",
    "measure_candidates",
]
