"""Invented records, filters and sorts, on which SQLite and the pure semantics could differ."""

from __future__ import annotations

from hypothesis import strategies as st

# Few names and few values, so that what is asked for is there; and those on which
# the two sides could differ: kinds that look alike, the edges of numbers, odd text.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 9.223372036854775807e18])
    | st.sampled_from([0.5, -0.0, 1.0, 0.1, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1e-7])
    | st.sampled_from(
        ["", "a", "A", "b", "ä", "a\0", "a\0b", "1", "true", "null", "ß", "\U0001f600", "\uffff", '"', "\\"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "0", "ab"]), inner, max_size=2)
    ),
    max_leaves=5,
)
DATA = st.dictionaries(st.sampled_from(["a", "b", "c", "0"]), VALUES, max_size=4)
PATHS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "a.a",
        "a.b",
        "a.0",
        "a.0.b",
        "b.ab",
        "a.a.b",
        "id",
        "version",
        "created_at",
        "updated_at",
        "id.x",
    ]
)
OPERANDS = VALUES | st.sampled_from(["r0", "r3", 2**64, "2026-01-01T00:00:00.000000Z"])
CONDITIONS = st.one_of(
    st.tuples(
        PATHS, OPERANDS.filter(lambda v: not (isinstance(v, dict) and any(k.startswith("$") for k in v)))
    ).map(lambda pair: {pair[0]: pair[1]}),
    st.tuples(
        PATHS, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains"]), OPERANDS
    ).map(lambda triple: {triple[0]: {triple[1]: triple[2]}}),
    st.tuples(PATHS, st.sampled_from(["$in", "$nin"]), st.lists(OPERANDS, max_size=4)).map(
        lambda triple: {triple[0]: {triple[1]: triple[2]}}
    ),
    st.tuples(PATHS, st.booleans()).map(lambda pair: {pair[0]: {"$exists": pair[1]}}),
    st.tuples(PATHS, st.sampled_from(["a", "^a$", "[0-9]", "(?i)Ä", ""])).map(
        lambda pair: {pair[0]: {"$regex": pair[1]}}
    ),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"$and": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"$or": parts}),
        inner.map(lambda part: {"$not": part}),
        st.tuples(inner, inner).map(lambda two: {**two[0], **two[1]}),
    ),
    max_leaves=5,
)
SORTS = st.lists(st.tuples(st.sampled_from(["", "-"]), PATHS).map("".join), max_size=3)
