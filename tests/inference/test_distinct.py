"""A list never repeats a query, and what begins like a listed one is not held up by it."""

from hypothesis import given
from hypothesis import strategies as st

from inference.distinct import Listed

SEP = 0


def write(wanted: list[int]) -> list[int]:
    """Writes wanted tokens one after another, but the next number wherever one is banned."""
    written: list[int] = []
    listed = Listed(frozenset({SEP}), written)
    for best in wanted:
        token = best
        while token in listed.banned():
            token += 1  # the next best: here simply the next number
        written.append(token)
    return written


def queries(written: list[int]) -> list[tuple[int, ...]]:
    found, query = [], []
    for token in [*written, SEP]:
        if token == SEP:
            found.append(tuple(query))
            query = []
        else:
            query.append(token)
    return [each for each in found if each]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_no_query_is_completed_twice(wanted):
    done = queries(write(wanted))[:-1]  # the last one is not complete yet
    assert len(set(done)) == len(done)


def test_only_the_last_token_of_a_repeat_is_taken_away():
    assert write([1, 2, 3, SEP, 1, 2, 3, SEP, 1, 2]) == [1, 2, 3, SEP, 1, 2, 4, SEP, 1, 2]


def test_a_list_without_repeats_is_left_as_it_is():
    wanted = [1, SEP, 2, SEP, 2, 1, SEP, 2, 3, SEP, 3]
    assert write(wanted) == wanted
