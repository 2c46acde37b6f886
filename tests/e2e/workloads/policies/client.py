"""Requests made in a pod: `client.py http|grpc|watch JSON` prints a list of what came of each.

`http`: url, method, headers, body; `grpc`: target, wish, timeout_s; both: count, and whether all are asked `at_once`.
`watch`: asks url every 10 ms for span_s seconds; the times at which the status changed.
"""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import grpc


def ask_http(url, method="GET", headers=None, body=None):
    begin_s = time.monotonic()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    got = b""
    outcome = {}
    try:
        connection.request(method, f"{parts.path or '/'}?{parts.query}", body, headers or {})
        answer = connection.getresponse()
        outcome = {"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()}}
        while data := answer.read1(65536):
            got += data
        if answer.length:
            outcome["broken"] = "IncompleteRead"
    except (OSError, http.client.HTTPException) as error:
        outcome["broken"] = type(error).__name__
    finally:
        connection.close()
    try:
        outcome["told"] = json.loads(got)
    except ValueError:
        outcome["text"] = got.decode()
    return {**outcome, "size_bytes": len(got), "took_s": time.monotonic() - begin_s}


class Calls:
    def __init__(self):
        self._methods = {}

    def ask(self, target, wish=None, timeout_s=10):
        if target not in self._methods:
            channel = grpc.insecure_channel(target, [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)])
            self._methods[target] = channel.unary_unary("/test.Acts/Do")
        begin_s = time.monotonic()
        try:
            outcome = {
                "code": "OK",
                "told": json.loads(self._methods[target](json.dumps(wish or {}).encode(), timeout=timeout_s)),
            }
        except grpc.RpcError as error:
            trailing = {k: v for k, v in error.trailing_metadata() or () if isinstance(v, str)}
            outcome = {"code": error.code().name, "text": error.details(), "trailing": trailing}
        return {**outcome, "took_s": time.monotonic() - begin_s}


def watch(url, span_s):
    changes, last = [], None
    end_s = time.time() + span_s
    while time.time() < end_s:
        status = ask_http(url)["status"]
        if status != last:
            changes.append({"at_s": time.time(), "status": status})
            last = status
        time.sleep(0.01)
    return changes


def main(kind, wishes):
    if kind == "watch":
        return watch(**wishes)
    ask = ask_http if kind == "http" else Calls().ask
    outcomes = []
    for wish in wishes:
        count, at_once = wish.pop("count", 1), wish.pop("at_once", False)
        if at_once:
            with ThreadPoolExecutor(count) as threads:
                outcomes += [one.result() for one in [threads.submit(ask, **wish) for _ in range(count)]]
        else:
            outcomes += [ask(**wish) for _ in range(count)]
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
