"""A concurrency limit keeps its bounds and loses nobody, whatever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st
from turnhouse import TurnHouse

from contract.policy import Concurrency
from proxy.gate import Gate


class Room:
    """Who is inside, who was let in late, who waited for too long."""

    def __init__(self, limit_count: int) -> None:
        self.limit_count = limit_count
        self.inside_count = 0
        self.late: list[int] = []

    def has_room(self) -> bool:
        return self.inside_count < self.limit_count


class Guest:
    """Satisfies gate.Waiter."""

    def __init__(self, room: Room, number: int) -> None:
        self.room = room
        self.number = number

    def on_admitted(self) -> None:
        self.room.inside_count += 1

    def on_queue_timeout(self) -> None:
        self.room.late.append(self.number)


STEPS = st.lists(st.sampled_from(["enter", "leave", "give up", "wait"]), max_size=100)


@given(st.integers(1, 4), st.integers(0, 4), STEPS)
def test_a_gate_keeps_its_limits_and_loses_nobody(limit_count: int, queue_count: int, steps: list[str]) -> None:
    """Held against a queue that is kept beside it."""
    house = TurnHouse()
    try:
        room = Room(limit_count)
        gate = Gate(Concurrency(limit_count, queue_count, 1.0), queue_count, house.pump, room.has_room)
        queue: list[Guest] = []
        for number, step in enumerate(steps):
            if step == "enter":
                guest = Guest(room, number)
                if gate.is_open():
                    guest.on_admitted()
                elif gate.queue(guest):
                    queue.append(guest)
                else:
                    assert (room.inside_count, len(queue)) == (limit_count, queue_count)
            elif step == "leave" and room.inside_count:
                room.inside_count -= 1
                gate.wake()
                del queue[:1]
            elif step == "give up" and queue:
                gate.leave_queue(queue.pop())
            elif step == "wait":
                house.spin(1.1)
                assert room.late[len(room.late) - len(queue) :] == [guest.number for guest in queue]
                queue.clear()

            assert gate.waiting_count == len(queue) <= queue_count
            assert room.inside_count <= limit_count
            assert not queue or room.inside_count == limit_count
    finally:
        house.close()


def test_a_gate_that_goes_lets_all_in() -> None:
    house = TurnHouse()
    room = Room(0)
    gate = Gate(Concurrency(1, 3), 3, house.pump, room.has_room)
    for number in range(3):
        assert gate.queue(Guest(room, number))
    gate.open_wide()

    assert (room.inside_count, gate.waiting_count) == (3, 0)
    house.close()
