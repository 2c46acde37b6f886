"""Calls to the server beside it, made in a pod: `client.py CASE [ARGUMENT ...]` prints what happened as JSON."""

import json
import sys
import time
from collections import Counter
from itertools import repeat
from pathlib import Path
from queue import Queue
from threading import Thread

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 65536),
    ("grpc.absolute_max_metadata_size", 131072),
    ("grpc.enable_http_proxy", 0),
]
DEADLINE_S = 10


class Calls:
    """A stub of the service at `target`."""

    def __init__(self, target="calls:9000"):
        channel = grpc.insecure_channel(target, OPTIONS)
        for name in ("Echo", "Fail", "Gone"):
            setattr(self, name.lower(), channel.unary_unary(f"/test.Calls/{name}"))
        for name in ("Many", "Hang"):
            setattr(self, name.lower(), channel.unary_stream(f"/test.Calls/{name}"))
        self.total = channel.stream_unary("/test.Calls/Total")
        self.talk = channel.stream_stream("/test.Calls/Talk")
        self.stuck = channel.stream_stream("/test.Calls/Stuck")


def outcome(call):
    """Wait for the end of a call; its status."""
    trailing = dict(call.trailing_metadata() or ())
    return {"code": call.code().name, "details": call.details(), "trailing": trailing}


def echo(times="1"):
    """Ask as often as told, on one connection; from which pods the answers came."""
    calls, pods = Calls(), []
    for number in range(int(times)):
        answer, call = calls.echo.with_call(b"%d" % number, timeout=DEADLINE_S)
        assert answer == b"%d" % number
        pods.append(dict(call.initial_metadata())["pod"])
    return {pod: pods.count(pod) for pod in set(pods)}


def server_stream():
    got = [message.split(b" ")[0] for message in Calls().many(b"200 1000", timeout=DEADLINE_S)]
    return [int(number) for number in got]


def client_stream():
    return Calls().total((bytes(size) for size in range(200)), timeout=DEADLINE_S).decode()


def both_streams():
    """Each message is sent when the one before has come back: nobody on the way may wait for more."""
    heard = Queue()

    def said():
        for number in range(50):
            yield b"%d" % number
            assert heard.get(timeout=DEADLINE_S) == number

    answers = []
    for answer in Calls().talk(said(), timeout=DEADLINE_S):
        answers.append(int(answer))
        heard.put(int(answer))
    return answers


def deadline(timeout_s):
    """What the server knows of a deadline, and how a call ends that reaches its own."""
    calls = Calls()
    call = calls.echo.with_call(b"", timeout=float(timeout_s))[1]
    remaining_s = float(dict(call.trailing_metadata())["remaining-s"])
    begin = time.monotonic()
    late = calls.hang(b"deadline", timeout=0.5)
    assert next(late) == b"begun"
    end = outcome(late)
    return {**end, "taken_s": time.monotonic() - begin, "remaining_s": remaining_s, "gone": left(late, b"deadline")}


def cancel():
    calls = Calls()
    call = calls.hang(b"cancel", timeout=DEADLINE_S)
    assert next(call) == b"begun"
    call.cancel()
    return {"code": call.code().name, "gone": left(call, b"cancel")}


def left(call, name):
    """How many calls of that name the server saw go, once it saw one; asked of the pod that had this one."""
    calls = Calls(dict(call.initial_metadata())["address"])
    end = time.monotonic() + 5
    while time.monotonic() < end:
        count = int(calls.gone(name, timeout=DEADLINE_S))
        if count:
            return count
        time.sleep(0.05)
    return 0


def metadata(count, size_bytes):
    """Send so many headers of so many bytes; how many came back before and after the answer."""
    sent = [(f"sent-{number}", "x" * int(size_bytes)) for number in range(int(count))]
    call = Calls().echo.with_call(b"", timeout=DEADLINE_S, metadata=sent)[1]
    return [len(set(sent) & set(map(tuple, got))) for got in (call.initial_metadata(), call.trailing_metadata())]


def statuses():
    calls = Calls()
    return [outcome(calls.fail.future(b"%d" % number, timeout=DEADLINE_S)) for number in range(1, 17)]


def unknown_method():
    channel = grpc.insecure_channel("calls:9000", OPTIONS)
    return outcome(channel.unary_unary("/test.Calls/None").future(b"", timeout=DEADLINE_S))


def nobody():
    """Call a service that has no pod."""
    return outcome(Calls("nobody:9000").echo.future(b"", timeout=DEADLINE_S))


def large(size_bytes):
    """A message of that size, there and back."""
    sent = bytes(range(256)) * (int(size_bytes) // 256)
    return Calls().echo(sent, timeout=DEADLINE_S) == sent


def slow_reader():
    """While one stream is not read, others of the same connection go on; then it is read, and whole."""
    calls = Calls()
    slow = calls.many(b"100 200000", timeout=30)
    next(slow)
    time.sleep(0.3)
    begin = time.monotonic()
    for _ in range(50):
        calls.echo(b"x" * 1000, timeout=DEADLINE_S)
    others_s = time.monotonic() - begin
    quick = sum(1 for _ in calls.many(b"50 20000", timeout=DEADLINE_S))
    return {"others_s": others_s, "quick": quick, "slow": 1 + sum(1 for _ in slow)}


def slow_server():
    """A stream whose server does not read holds back its own sender, and no other call."""
    calls = Calls()
    sent = 0

    def endless():
        nonlocal sent
        for message in repeat(bytes(100_000), 500):
            sent += 1
            yield message

    stuck = calls.stuck(endless(), timeout=DEADLINE_S)
    time.sleep(0.5)
    before = sent
    for _ in range(20):
        calls.echo(b"", timeout=DEADLINE_S)
    stuck.cancel()
    return {"sent": before}


def at_once(count):
    """So many calls at once on one connection; how many answers came from which pod."""
    calls = Calls()
    futures = [calls.echo.future(b"%d" % number, timeout=DEADLINE_S) for number in range(int(count))]
    assert all(future.result() == b"%d" % number for number, future in enumerate(futures))
    return Counter(dict(future.initial_metadata())["pod"] for future in futures)


def load(target, stop, streams="streams"):
    """Call from four threads, 25 rounds a second each, until the file `stop` is there; how many calls ended how."""
    calls, ends = Calls(target), Counter()

    def one():
        while not Path(stop).exists():
            begin = time.monotonic()
            try:
                assert calls.echo(b"x" * 100, timeout=DEADLINE_S) == b"x" * 100
                ends["OK"] += 1
                if streams == "streams":
                    assert sum(1 for _ in calls.many(b"3 1000", timeout=DEADLINE_S)) == 3
                    ends["OK"] += 1
            except grpc.RpcError as error:
                ends[f"{error.code().name}: {error.details()}"] += 1
            time.sleep(max(0.0, begin + 0.04 - time.monotonic()))

    threads = [Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
