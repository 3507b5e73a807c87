import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.detect.filtering import (
    REASONS,
    FilterRule,
    Instances,
    Reason,
    count_reasons,
    decide,
    explain,
    true_decision,
)

SIDE = 10


def squares(sizes, scores, labels=None):
    masks = np.zeros((len(sizes), SIDE, SIDE), bool)
    for mask, pixels in zip(masks, sizes, strict=True):
        mask.reshape(-1)[:pixels] = True  # each lies inside all larger ones
    count = len(sizes)
    return Instances(
        masks,
        np.array(scores, np.float32),
        np.zeros((count, 4), np.float32),
        np.array(labels if labels is not None else [1] * count, np.int64),
    )


def naive_decision(rows, threshold, least, labels, max_overlap):
    """The rules as a person would apply them: detections as (pixel set, score, label)."""
    counted = []
    for pixels, score, label in sorted(rows, key=lambda row: -row[1]):
        if score < threshold or (labels and label not in labels):
            continue
        if all(len(pixels & other) <= max_overlap * len(pixels) for other, _ in counted):
            counted.append((pixels, score))
    if not counted:
        return Reason.NO_INSTANCE, 0, set()
    if len(counted) > 1:
        return Reason.SEVERAL_INSTANCES, len(counted), counted[0][0]
    small = len(counted[0][0]) < least * SIDE * SIDE
    return Reason.SMALL_MASK if small else Reason.KEPT, 1, counted[0][0]


_span = st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)).map(sorted)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_span, _span, st.integers(0, 8), st.integers(1, 3)), max_size=5),
    st.integers(0, 8),
    st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    st.sampled_from([(), (1,), (2, 3)]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_rules_against_their_wording(rows, threshold, least, labels, max_overlap):
    masks = np.zeros((len(rows), SIDE, SIDE), bool)
    for mask, ((top, bottom), (left, right), _, _) in zip(masks, rows, strict=True):
        mask[top:bottom, left:right] = True
    scores = np.array([row[2] / 8 for row in rows], np.float32)  # eighths are exact in float32
    found = Instances(masks, scores, np.zeros((len(rows), 4), np.float32), np.array([row[3] for row in rows], np.int64))
    decision = decide(found, FilterRule(threshold / 8, least, labels, max_overlap))
    sets = [(set(np.flatnonzero(m)), s, row[3]) for m, s, row in zip(masks, scores, rows, strict=True)]
    reason, count, pixels = naive_decision(sets, threshold / 8, least, labels, max_overlap)
    assert (decision.reason, decision.instances) == (reason, count)
    assert set(np.flatnonzero(decision.mask)) == pixels
    assert decision.area == len(pixels) / SIDE**2
    assert decision.keep == (reason == 0)


def test_parts_of_an_object_do_not_count():
    found = squares([50, 20], [0.9, 0.8])  # the second lies inside the first
    assert decide(found, FilterRule()).keep
    assert decide(found, FilterRule(max_overlap=1.0)).instances == 2


@pytest.mark.parametrize(
    ("sizes", "scores", "reason", "text"),
    [
        ([], [], Reason.NO_INSTANCE, "no instance"),
        ([50], [0.3], Reason.NO_INSTANCE, "no instance"),
        ([50, 20], [0.9, 0.8], Reason.SEVERAL_INSTANCES, "2 instances"),
        ([7], [0.9], Reason.SMALL_MASK, "mask 7.0 % < 10 %"),
        ([10], [0.5], Reason.KEPT, "kept"),
        ([50, 20], [0.9, 0.2], Reason.KEPT, "kept"),
    ],
)
def test_examples(sizes, scores, reason, text):
    rule = FilterRule(max_overlap=1.0)
    decision = decide(squares(sizes, scores), rule)
    assert decision.reason is reason
    assert explain(decision.reason, decision.instances, decision.area, rule) == text


def test_codes_are_the_ones_on_disk():
    assert [int(reason) for reason in Reason] == [0, 1, 2, 3]
    assert REASONS == ("kept", "no instance", "several instances", "mask too small")
    assert count_reasons([0, 2, 2]) == {"kept": 1, "no instance": 0, "several instances": 2, "mask too small": 0}


def test_true_decision_ignores_slivers():
    ids = np.zeros((20, 20), np.uint8)
    ids[2:12, 2:12] = 1
    assert true_decision(ids, FilterRule()).keep
    ids[19, 19] = 2
    assert true_decision(ids, FilterRule()).reason is Reason.SEVERAL_INSTANCES
    assert true_decision(ids, FilterRule(), min_share=0.005).keep
