"""The terms of a watch and its stream of lines."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from lab.api import watching
from lab.api.errors import ApiError
from lab.api.store import Store


def terms(**query: str) -> watching.Terms:
    return watching.terms(query, random.Random(1))


def test_a_watch_lives_as_long_as_asked_or_at_random_within_bounds() -> None:
    assert terms(timeoutSeconds="7").life_s == 7
    low, high = watching.LIFE_S
    assert low <= terms().life_s <= high


@pytest.mark.parametrize("version", ["", "0"])
def test_no_version_or_zero_begins_with_what_is_there(version: str) -> None:
    assert terms(resourceVersion=version).since is None


def test_initial_events_need_the_right_match() -> None:
    assert terms(sendInitialEvents="true", resourceVersionMatch="NotOlderThan", resourceVersion="5").since is None
    with pytest.raises(ApiError) as caught:
        terms(sendInitialEvents="true")
    assert caught.value.code == 422
    with pytest.raises(ApiError):
        terms(resourceVersion="latest")


def stream(store: Store, asked: watching.Terms) -> list[Any]:
    async def work() -> list[Any]:
        def same(item: Any) -> Any:
            return item

        found = watching.lines(
            lambda since: store.watch("things", None, lambda _item: True, since), store, asked, same, same
        )
        return [json.loads(line) async for line in found]

    return asyncio.run(work())


def thing(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


def test_a_stream_replays_what_came_since_and_ends_with_a_bookmark() -> None:
    store = Store(100)
    store.put("things", thing("a"))
    store.put("things", thing("b"))
    store.remove("things", store.items("things")[0])
    found = stream(store, watching.Terms(101, wants_bookmarks=True, marks_initial_end=False, life_s=0.05))
    assert [(line["type"], line["object"]["metadata"]["resourceVersion"]) for line in found] == [
        ("ADDED", "102"),
        ("DELETED", "103"),
        ("BOOKMARK", "103"),
    ]


@pytest.mark.parametrize("since", [99, 200])
def test_an_unknown_version_is_one_error_line(since: int) -> None:
    (line,) = stream(Store(100), watching.Terms(since, wants_bookmarks=True, marks_initial_end=False, life_s=1))
    assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_kind_that_is_no_longer_served_ends_its_watches() -> None:
    store = Store(100)

    async def work() -> None:
        watch = store.watch("things", None, lambda _item: True, None)
        store.end_watches("things")
        assert await watch.next() is None

    asyncio.run(work())
