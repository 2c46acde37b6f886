"""Comparing what the client got with what the mirror gave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import mirror
from proxy.policy.mirror import Answer, compare, fields_of

IGNORED = ("date", "x-request-id")


def answer(status: int = 200, fields: tuple[tuple[bytes, bytes], ...] = (), *body: bytes) -> Answer:
    told = Answer()
    told.begin(status, fields)
    for data in body:
        told.add(data)
    told.end()
    return told


def words(one: Answer, other: Answer) -> list[str]:
    return [str(difference) for difference in compare(one, other, IGNORED)]


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_the_same_body_in_other_parts_is_the_same(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)
    again = [whole[start : start + size] for start in range(0, len(whole), size)]

    assert words(answer(200, (), *parts), answer(200, (), *again)) == []


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_two_bodies_are_the_same_only_when_they_are(one: bytes, other: bytes) -> None:
    assert (words(answer(200, (), one), answer(200, (), other)) == []) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (answer(200), answer(503), ["status: 200 != 503"]),
        (answer(200, (), b"abc"), answer(200, (), b"ab"), ["length: 3 != 2 bytes"]),
        (
            answer(200, ((b"X-A", b"1"),)),
            answer(200, ((b"x-a", b"2"), (b"x-b", b"3"))),
            ["header: x-a: 1 != 2", "header: x-b: absent != 3"],
        ),
        (answer(200, ((b"set-cookie", b"a"), (b"set-cookie", b"b"))), answer(200, ((b"set-cookie", b"a"),)), None),
        (answer(200, ((b"Date", b"now"),)), answer(200, ((b"date", b"then"), (b"x-request-id", b"7"))), []),
        (answer(200, ((b"Transfer-Encoding", b"chunked"),)), answer(200, ((b"Content-Length", b"0"),)), []),
        (answer(200, ((b"Connection", b"X-Hop"), (b"x-hop", b"1"))), answer(200), []),
        (answer(200, ((b":status", b"200"),)), answer(200), []),
    ],
)
def test_differences_are_named(one: Answer, other: Answer, told: list[str] | None) -> None:
    assert words(one, other) == (["header: set-cookie: a, b != a"] if told is None else told)


def test_a_body_of_the_same_length_differs_by_its_digest() -> None:
    (difference,) = compare(answer(200, (), b"abc"), answer(200, (), b"abd"), IGNORED)

    assert difference.word == "body"
    assert len(difference.detail) == 2 * 2 * mirror.DIGEST_BYTES + 4


def test_what_is_not_whole_cannot_be_compared() -> None:
    broken = Answer()
    assert words(answer(200, (), b"abc"), broken) == ["incomplete: 200 whole after 3 bytes != no response"]

    broken.begin(200, ())
    broken.add(b"a")
    assert words(answer(200), broken) == ["incomplete: 200 whole after 0 bytes != 200 broken off after 1 bytes"]
    assert repr(broken) == "<Answer 200 1 bytes, incomplete>"


def test_trailers_are_compared_like_headers() -> None:
    one, other = Answer(), Answer()
    for told, status in ((one, b"0"), (other, b"13")):
        told.begin(200, ((b":status", b"200"),))
        told.end(((b"grpc-status", status),))

    assert words(one, other) == ["header: grpc-status: 0 != 13"]


def test_a_report_is_bounded() -> None:
    one = answer(200, tuple((b"x-%d" % n, b"v" * 1000) for n in range(100)))
    told = compare(one, answer(200), IGNORED)

    assert len(told) == mirror.DIFFERENCES_MAX_COUNT
    assert all(len(difference.detail) < 3 * mirror.DETAIL_MAX_LENGTH for difference in told)


def test_a_head_of_http1_has_its_headers() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-A:  1 \r\nx-b:\r\nodd\r\n"

    assert fields_of(raw) == [(b"X-A", b"1"), (b"x-b", b"")]
