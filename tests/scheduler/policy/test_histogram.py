"""The histogram: exact extremes and mean, quantiles within their error bound, bounded memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.policy.histogram import SUB, Histogram


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_empty_histogram_has_zero_for_everything():
    histogram = Histogram()
    assert (histogram.count, histogram.total, histogram.least, histogram.most) == (0, 0, 0, 0)
    assert histogram.mean == 0.0
    assert histogram.quantile(0.5) == 0


def test_small_values_are_exact():
    histogram = filled(range(2 * SUB))
    assert [histogram.quantile((value + 1) / (2 * SUB)) for value in range(2 * SUB)] == list(range(2 * SUB))


def test_negative_value_counts_as_zero():
    histogram = filled([-5, 3])
    assert (histogram.least, histogram.most, histogram.total) == (0, 3, 3)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_single_value_is_every_quantile(fraction):
    assert filled([123_456_789]).quantile(fraction) == 123_456_789


@given(
    st.lists(st.integers(0, 2**60), min_size=1, max_size=200),
    st.floats(0.0, 1.0),
)
def test_quantile_is_never_too_low_and_at_most_a_sixteenth_too_high(values, fraction):
    histogram = filled(values)
    rank = max(math.ceil(fraction * len(values)), 1)
    exact = sorted(values)[rank - 1]
    found = histogram.quantile(fraction)
    assert exact <= found <= exact + exact / SUB


@given(st.lists(st.integers(-10, 2**60), min_size=1, max_size=200))
def test_extremes_and_mean_are_exact(values):
    values_counted = [max(value, 0) for value in values]
    histogram = filled(values)
    assert (histogram.least, histogram.most) == (min(values_counted), max(values_counted))
    assert histogram.count == len(values)
    assert histogram.total == sum(values_counted)
    assert histogram.mean == sum(values_counted) / len(values)


@given(st.lists(st.integers(0, 2**40), max_size=300))
def test_memory_is_bounded(values):
    assert len(filled(values)._cells) <= min(len(values), 41 * SUB * 2)
