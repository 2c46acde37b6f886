"""Seats: who gives way when all connections are taken."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.seats import LOOKS_COUNT, Seats


def filled(*held: tuple[str, int]) -> Seats[str]:
    """Seats that are all taken: `a0`, `a1` and so on of source a, the oldest first."""
    seats: Seats[str] = Seats(sum(number for _, number in held))
    for source, number in held:
        for place in range(number):
            seats.take(f"{source}{place}", source)
    assert seats.is_full
    return seats


def test_the_oldest_idle_one_of_the_largest_source_gives_way() -> None:
    seats = filled(("few", 2), ("many", 5))

    assert seats.yielding("new", lambda seat: seat not in ("many0", "few0")) == "many1"


def test_an_idle_one_of_a_smaller_source_gives_way_before_one_at_work() -> None:
    seats = filled(("busy", 50), ("silent", 40), ("few", 1))

    assert seats.yielding("new", lambda seat: seat.startswith("silent")) == "silent0"


def test_one_at_work_gives_way_to_a_source_that_holds_fewer() -> None:
    seats = filled(("many", 5), ("few", 2))

    assert seats.yielding("few", lambda _seat: False) == "many0"


def test_who_holds_the_most_and_has_none_idle_is_turned_away() -> None:
    seats = filled(("many", 5), ("few", 4))

    assert seats.yielding("many", lambda _seat: False) is None
    assert seats.yielding("few", lambda _seat: False) is None  # with the newcomer they would hold as many


def test_of_many_small_sources_all_are_asked_in_turn() -> None:
    seats = filled(*((f"s{number}-", 1) for number in range(3 * LOOKS_COUNT)))
    idle = f"s{3 * LOOKS_COUNT - 1}-0"

    assert [seats.yielding("new", lambda seat: seat == idle) for _ in range(3)] == [None, None, idle]


def test_the_work_for_a_newcomer_is_bounded() -> None:
    seats = filled(*((f"s{number}-", number) for number in range(1, 100)))
    asked = count()

    def is_idle(_seat: str) -> bool:
        next(asked)
        return False

    seats.yielding("new", is_idle)
    assert next(asked) == LOOKS_COUNT


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_nothing_is_left_of_who_has_gone(steps: list[tuple[bool, int, int]]) -> None:
    seats: Seats[tuple[int, int]] = Seats(10)
    held: dict[tuple[int, int], str] = {}
    for is_in, source, place in steps:
        seat = (source, place)
        if is_in and seat not in held:
            held[seat] = str(source)
            seats.take(seat, str(source))
        elif not is_in:
            held.pop(seat, None)
            seats.give(seat)
        counts = {name: list(held.values()).count(name) for name in set(held.values())}

        assert len(seats) == len(held)
        assert seats.sources_count == len(counts)
        assert all(seats.count_of(name) == number for name, number in counts.items())
        chosen = seats.yielding("new", lambda _seat: False)
        if max(counts.values(), default=0) > 1:
            assert chosen is not None
            assert counts[held[chosen]] == max(counts.values())
        else:
            assert chosen is None
