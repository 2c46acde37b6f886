"""The corpus of each fuzzer, and every input one or two small changes away from it: the same in every run."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from parsers import TARGETS

CORPUS = Path(__file__).parent / "corpus"
CHANGES_COUNT = 40
"""Changed copies of each input."""

PARTS = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b"\x0b", b"\xc3\xbc", b":", b",", b";", b"0", b"-1", b"+", b"@",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Host: b\r\n", b"HTTP/1.0",
    b"HEAD ", b"CONNECT ", b"Upgrade: h2c\r\n", b"gzip, ", b"0\r\n\r\n", b"\x00\x00\x04\x08\x00\x00\x00\x00\x01",
)  # fmt: skip


def changed(data: bytes, random_: random.Random) -> bytes:
    """Cut something out, put something in, or both."""
    for _ in range(random_.randint(1, 2)):
        at = random_.randrange(len(data) + 1)
        end = min(len(data), at + random_.choice((0, 0, 1, 1, 2, 8)))
        data = data[:at] + random_.choice((b"", random_.choice(PARTS), bytes((random_.randrange(256),)))) + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_and_none_near_it_breaks_a_promise(name: str) -> None:
    random_ = random.Random(name)
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        data = path.read_bytes()
        TARGETS[name](data)
        for _ in range(CHANGES_COUNT):
            one = changed(data, random_)
            try:
                TARGETS[name](one)
            except Exception as error:
                raise AssertionError(f"{name}, an input near {path.name}: {one!r}") from error
