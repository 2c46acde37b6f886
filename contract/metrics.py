"""Metric names, label names and buckets of the sidecar. Pure.

They are Linkerd's, so that dashboards and alert rules that people already own keep working.
"""

from typing import Final

REQUEST_TOTAL: Final = "request_total"
RESPONSE_TOTAL: Final = "response_total"
RESPONSE_LATENCY_MS: Final = "response_latency_ms"
TCP_OPEN_TOTAL: Final = "tcp_open_total"
TCP_CLOSE_TOTAL: Final = "tcp_close_total"
TCP_OPEN_CONNECTIONS: Final = "tcp_open_connections"
TCP_READ_BYTES_TOTAL: Final = "tcp_read_bytes_total"
TCP_WRITE_BYTES_TOTAL: Final = "tcp_write_bytes_total"

INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"

LATENCY_BUCKETS_MS: Final = (
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
    1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
)  # fmt: skip
"""Upper bounds in milliseconds, inclusive; one more bucket (+Inf) follows the last."""
