"""Rates: as a bucket of tokens, and exact about when the next one may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.rate import Rate, Rates


class Bucket:
    """The textbook's: filled lazily, never beyond its size."""

    def __init__(self, interval: int, size: int) -> None:
        self.interval, self.size = interval, size
        self.tokens, self.at = size * interval, 0

    def admit(self, now: int) -> bool:
        # In tokens times the interval, so that all of it is whole numbers.
        self.tokens = min(self.size * self.interval, self.tokens + now - self.at)
        self.at = now
        if self.tokens < self.interval:
            return False
        self.tokens -= self.interval
        return True


@given(
    interval=st.integers(1, 20),
    burst=st.integers(1, 6),
    gaps=st.lists(st.integers(0, 60), max_size=60),
)
def test_it_lets_through_what_a_bucket_of_tokens_does(interval: int, burst: int, gaps: list[int]) -> None:
    rates, bucket, now = Rates(Rate(interval, burst)), Bucket(interval, burst), 0
    for gap in gaps:
        now += gap
        expected = bucket.admit(now)
        assert (rates.next_at("x") <= now) is expected
        assert rates.admit("x", now) is expected


def test_the_next_one_may_come_at_the_instant_that_it_says_and_not_before() -> None:
    rates = Rates(Rate(10.0, 2))
    assert [rates.admit("x", 100.0) for _ in range(3)] == [True, True, False]
    assert rates.next_at("x") == 110.0
    assert not rates.admit("x", 109.9)
    assert rates.admit("x", 110.0)
    # What comes from elsewhere is another matter.
    assert rates.admit("y", 110.0)


def test_only_so_many_are_known_and_those_that_are_full_are_forgotten_first() -> None:
    rates = Rates(Rate(10.0, 2), capacity=3)
    for number, key in enumerate("abcdef"):
        rates.admit(key, float(number))
        assert len(rates) <= 3
    assert not rates.is_idle(6.0)
    for _ in range(2):
        rates.admit("f", 6.0)
    assert not rates.admit("f", 6.0)
    rates.admit("z", 1000.0)
    rates.admit("y", 1000.0)
    assert len(rates) <= 3
    assert rates.is_idle(2000.0)


@pytest.mark.parametrize("wrong", [{"interval": 0.0, "burst": 1}, {"interval": 1.0, "burst": 0}])
def test_a_senseless_rate_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be >"):
        Rate(**wrong)
