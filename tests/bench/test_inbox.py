"""The simulation of a persona under overload, and its picture in the documents."""

from __future__ import annotations

from pathlib import Path

from bench import inbox

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "inbox.svg"
"""As ``python -m bench inbox`` and ``python -m bench --docs`` draw it."""


def test_most_is_served_in_time_and_nearly_all_of_who_sends_little() -> None:
    ours = inbox.averaged(inbox.Ours)
    reference = inbox.averaged(inbox.Reference)
    assert ours["share_in_time_all"] >= 0.70
    assert ours["share_in_time_quiet"] >= 0.98
    # It does so also where each message has its own reply; one for several is so much gained.
    single = inbox.averaged(inbox.Single)
    assert single["share_in_time_all"] >= 0.70
    assert single["share_in_time_quiet"] >= 0.98
    assert ours["share_in_time_noisy"] > 2 * single["share_in_time_noisy"]
    assert ours["share_in_time_quiet"] > single["share_in_time_quiet"]
    # Dropping what is hopeless makes the one difference, and fairness the other.
    uncharged = inbox.averaged(inbox.Uncharged)
    assert reference["share_in_time_all"] < 0.5 < uncharged["share_in_time_all"]
    assert reference["share_in_time_quiet"] < uncharged["share_in_time_quiet"] < ours["share_in_time_quiet"]
    assert ours["share_in_vain"] < 0.1 < reference["share_in_vain"]


def test_the_load_is_what_is_said() -> None:
    for seed in inbox.SEEDS:
        coming = [one for one in inbox.arrivals(seed) if inbox.BEGIN <= one.item.arrived < inbox.END]
        offered = sum(one.service for one in coming) / (inbox.END - inbox.BEGIN)
        assert 0.85 < offered / inbox.OVERLOAD < 1.15
        noisy = sum(one.item.sender_id == inbox.NOISE for one in coming) / len(coming)
        assert 0.65 < noisy < 0.75


def test_the_picture_in_the_documents_is_of_this_simulation() -> None:
    assert PICTURE.read_text() == inbox.plots(None)["inbox"]
