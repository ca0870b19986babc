"""Pieces that a thread makes ahead: all, in order, a bounded number, errors and ends included."""

import threading

import pytest

from svp_jax.rendering.ahead import ahead


def test_all_pieces_in_order():
    with ahead(iter(range(50)), 3) as pieces:
        assert list(pieces) == list(range(50))


def test_no_more_than_so_many_are_made_ahead():
    made, asked = [], threading.Event()

    def pieces():
        for number in range(10):
            made.append(number)
            if number == 3:
                asked.set()
            yield number

    with ahead(pieces(), 2) as taken:
        assert next(taken) == 0
        # Two lie ready, the third is made and waits for a place.
        assert asked.wait(10) and made == [0, 1, 2, 3]
        assert list(taken) == list(range(1, 10))


def test_an_error_comes_where_its_piece_would_have_come():
    def pieces():
        yield 1
        raise ZeroDivisionError("second")

    with ahead(pieces()) as taken:
        assert next(taken) == 1
        with pytest.raises(ZeroDivisionError, match="second"):
            next(taken)


@pytest.mark.parametrize("taken_before", [0, 1])
def test_an_early_end_ends_the_threads_of_a_chain(taken_before):
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    before = threading.active_count()
    with (
        pytest.raises(KeyboardInterrupt),
        ahead(endless()) as first,
        ahead(2 * number for number in first) as second,
    ):
        for number in range(taken_before):
            assert next(second) == 2 * number
        raise KeyboardInterrupt
    assert threading.active_count() == before
