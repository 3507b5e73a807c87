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
        mask.reshape(-1)[:pixels] = True
    count = len(sizes)
    return Instances(
        masks,
        np.array(scores, np.float32),
        np.zeros((count, 4), np.float32),
        np.array(labels if labels is not None else [1] * count, np.int64),
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(1, 3)), max_size=5),
    st.integers(0, 100),
    st.integers(0, 100),
    st.sampled_from([(), (1,), (2, 3)]),
)
def test_rules_against_their_wording(rows, threshold, least, labels):
    found = squares([r[0] for r in rows], [r[1] / 100 for r in rows], [r[2] for r in rows])
    rule = FilterRule(float(np.float32(threshold / 100)), least / 100, labels)
    decision = decide(found, rule)
    wanted = labels or (1, 2, 3)
    counted = [(score, pixels) for pixels, score, label in rows if score >= threshold and label in wanted]
    assert decision.instances == len(counted)
    assert decision.keep == (len(counted) == 1 and counted[0][1] / 100 >= least / 100)
    if counted:
        score = max(counted)[0]
        assert decision.score == pytest.approx(score / 100)
        assert decision.area == decision.mask.mean()
        assert decision.area * 100 in [pytest.approx(p) for s, p in counted if s == score]
    else:
        assert decision.reason is Reason.NO_INSTANCE
        assert not decision.mask.any()


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
    rule = FilterRule()
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
