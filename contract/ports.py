"""Ports and user ids that a meshed pod reserves. Pure.

The four sidecar ports and uid 2102 are the numbers that Conduit chose in 2017 and Linkerd kept: firewalls,
network policies and people already know them.
"""

from typing import Final

INBOUND_PORT: Final = 4143
"""TCP port; every captured inbound connection is redirected here."""

OUTBOUND_PORT: Final = 4140
"""TCP port; every captured outbound connection is redirected here."""

CONTROL_PORT: Final = 4190
"""TCP port; reserved for tap, never captured."""

ADMIN_PORT: Final = 4191
"""TCP port; the sidecar's /live, /ready, /metrics, /config; never captured."""

CONTROLLER_PORT: Final = 8085
"""TCP port; the controller's REST API, discovery and reports (Conduit's public API port)."""

WEBHOOK_PORT: Final = 8443
"""TCP port; the admission webhook's TLS listener behind its service port 443."""

PROXY_UID: Final = 2102
"""User id of the sidecar; the capture rules leave its own traffic alone by this number."""

CONTROL_PLANE_UID: Final = 2103
"""User id of the webhook and the controller."""

OPAQUE_PORTS: Final = (
    *(21, 22, 25, 110, 143, 587),  # FTP, SSH, SMTP, POP3, IMAP, submission: the server speaks first
    *(2181, 2888, 3306, 3888),  # ZooKeeper, whose words (`ruok`) end with no line; MySQL
    *(4222, 4444, 5432, 6379),  # NATS, Galera, PostgreSQL, Redis
    *(9300, 9418, 11211, 26379),  # Elasticsearch transport, git, memcached, Redis Sentinel
)
"""TCP ports of known server-first or unparsed protocols: captured, never parsed. Linkerd's list and its like. What
tells itself from HTTP by its first bytes (Kafka, MongoDB, AMQP, Cassandra, SQL Server) has no need to be here, and its
ports may serve HTTP."""

SKIP_PORTS: Final = (4567, 4568)
"""TCP ports that are never captured, either way: Galera replication identifies its peers by source address."""
