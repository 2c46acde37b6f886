"""From a question to rows: which series belong to which resource, and what they add up to. Pure.

Without a filter a workload's row is its inbound traffic, as its own sidecars counted it; a service has no sidecar,
so its row is the outbound traffic of its clients. With `to` a row is the resource's outbound traffic toward the
target; with `from` it is the resource as the source's sidecars saw it (Linkerd's `viz stat` reads its metrics so).
"""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from typing import Final

from contract import report
from contract.stat import Latency, StatAnswer, StatRow
from controller.cluster import Cluster
from controller.objects import FINISHED, Key
from controller.problems import not_found
from controller.query import Peer, Query
from controller.traffic import Source, Traffic
from controller.windows import FAILURE, LATENCY_COUNT, OPENED, READ_BYTES, SUCCESS, WRITE_BYTES, Sample, quantile, total

NOBODY: Final = Key("", "")

STEP_COUNT: Final = 100
"""Series added up in one turn of the event loop: some two milliseconds."""


def answer(query: Query, cluster: Cluster, traffic: Traffic, now_s: float) -> Generator[None, None, StatAnswer]:
    """Answer with one row for each resource that was asked for, those without traffic too.

    A generator: it yields after every STEP_COUNT series, so that a question over thousands of them does not hold up
    the streams that share the event loop; its return value is the answer.

    Raises:
        Refusal: 404, the resource or the peer that was named does not exist.
    """
    subjects = _subjects(query, cluster)
    if query.peer is not None:
        _check_peer(query.peer, cluster, traffic)
    pods, meshed = _pod_counts(query.kind, cluster, subjects)
    samples: dict[Key, list[Sample]] = defaultdict(list)
    for count, (subject, sample) in enumerate(_attributed(query, traffic), 1):
        if subject in subjects:
            samples[subject].append(sample)
        if count % (10 * STEP_COUNT) == 0:  # attributing is ten times cheaper than adding up
            yield
    rows, added_count = [], 0
    for subject in sorted(subjects):
        own = samples.get(subject, [])
        rows.append(_row(query, subject, own, meshed[subject], pods[subject], now_s))
        added_count += len(own) + 1
        if added_count >= STEP_COUNT:
            added_count = 0
            yield
    return StatAnswer(query.window_s, rows)


def _exists(kind: str, cluster: Cluster) -> set[Key]:
    """All resources of a kind; a namespace is keyed by its name alone."""
    match kind:
        case "pod":
            return {key for key, pod in cluster.pods.items() if pod.phase not in FINISHED}
        case "service":
            return set(cluster.services)
        case "namespace":
            return set(cluster.namespaces)
        case _:
            return set(cluster.workloads[f"{kind}s"])


def _subjects(query: Query, cluster: Cluster) -> set[Key]:
    found = _exists(query.kind, cluster)
    if query.namespace is not None and Key("", query.namespace) not in cluster.namespaces:
        raise not_found(f"There is no namespace {query.namespace[:80]!r}.")
    if query.kind == "namespace":
        wanted = query.name or query.namespace
        return {key for key in found if wanted is None or key.name == wanted}
    if query.namespace is not None:
        found = {key for key in found if key.namespace == query.namespace}
    if query.name is not None:
        found = {key for key in found if key.name == query.name}
        if not found and query.kind == "pod" and Key(query.namespace or "", query.name) in cluster.pods:
            return {Key(query.namespace or "", query.name)}  # asked for by name: finished, but it exists
        if not found:
            raise not_found(f"There is no {query.kind} {query.name[:80]!r} in namespace {query.namespace!r}.")
    return found


def _check_peer(peer: Peer, cluster: Cluster, traffic: Traffic) -> None:
    """A peer that neither exists nor was seen within the hour is a slip of the pen, not an empty answer."""
    for key in _exists(peer.kind, cluster):
        if key.name == peer.name and (peer.namespace is None or key.namespace == peer.namespace):
            return
    for source, target, _ in traffic.samples("outbound"):
        if _matches(peer, _of_source(peer.kind, source)) or _matches(peer, _of_target(peer.kind, target)):
            return
    where = "" if peer.namespace is None else f" in namespace {peer.namespace[:80]!r}"
    raise not_found(f"{peer.side}: there is no {peer.kind} {peer.name[:80]!r}{where}.")


def _attributed(query: Query, traffic: Traffic) -> Iterator[tuple[Key, Sample]]:
    """Each series that counts for a resource of the kind, with that resource."""
    peer = query.peer
    if peer is None and query.kind != "service":
        for source, _, sample in traffic.samples("inbound"):
            yield _of_source(query.kind, source), sample
        return
    for source, target, sample in traffic.samples("outbound"):
        if peer is None:
            yield _of_target(query.kind, target), sample
        elif peer.side == "to" and _matches(peer, _of_target(peer.kind, target)):
            yield _of_source(query.kind, source), sample
        elif peer.side == "from" and _matches(peer, _of_source(peer.kind, source)):
            yield _of_target(query.kind, target), sample


def _of_source(kind: str, source: Source) -> Key:
    """The resource of a kind that a sidecar belongs to, NOBODY if none."""
    match kind:
        case "pod":
            return source.key
        case "namespace":
            return Key("", source.key.namespace)
        case _:
            return Key(source.key.namespace, source.owner.name) if source.owner.kind == kind else NOBODY


def _of_target(kind: str, target: report.Peer) -> Key:
    """The resource of a kind that outbound traffic went to, NOBODY if none or unknown."""
    match kind:
        case "pod":
            name = target.pod
        case "service":
            name = target.service
        case "namespace":
            return Key("", target.namespace)
        case _:
            name = target.owner if target.owner_kind == kind else ""
    return Key(target.namespace, name) if name else NOBODY


def _matches(peer: Peer, key: Key) -> bool:
    return key.name == peer.name and (peer.namespace is None or key.namespace == peer.namespace)


def _pod_counts(kind: str, cluster: Cluster, subjects: set[Key]) -> tuple[Counter[Key], Counter[Key]]:
    """Running pods of each resource, and how many of them are meshed. Finished and pending ones do not count."""
    pods: Counter[Key] = Counter()
    meshed: Counter[Key] = Counter()
    if kind == "service":
        for subject in subjects:
            behind = [cluster.pods[key] for key in cluster.service_pods(subject) if key in cluster.pods]
            running = [pod for pod in behind if pod.phase == "Running"]
            pods[subject], meshed[subject] = len(running), sum(pod.meshed for pod in running)
        return pods, meshed
    for pod in cluster.running_pods():
        owner = cluster.top_owner(pod)
        match kind:
            case "pod":
                subject = pod.key
            case "namespace":
                subject = Key("", pod.key.namespace)
            case _:
                subject = Key(pod.key.namespace, owner.name) if owner.kind == kind else NOBODY
        pods[subject] += 1
        meshed[subject] += pod.meshed
    return pods, meshed


def _row(query: Query, subject: Key, samples: list[Sample], meshed: int, pods: int, now_s: float) -> StatRow:
    """Round to what the counts can carry; None where nothing was counted."""
    namespace = subject.name if query.kind == "namespace" else subject.namespace
    sums = total(samples, query.window_s, now_s)
    requests = sums.counts[SUCCESS] + sums.counts[FAILURE]
    latencies = sums.counts[:LATENCY_COUNT]
    has_tcp = bool(sums.open_now) or any(sums.counts[column] > 0 for column in (OPENED, READ_BYTES, WRITE_BYTES))
    return StatRow(
        namespace=namespace,
        kind=query.kind,
        name=subject.name,
        meshed=meshed,
        pods=pods,
        success_rate=round(sums.counts[SUCCESS] / requests, 6) if requests > 0 else None,
        rps=round(requests / sums.covered_s, 3) if requests > 0 else None,
        latency_ms=Latency(*(_rounded(quantile(latencies, ratio)) for ratio in (0.5, 0.95, 0.99))),
        tcp_open_connections=sums.open_now if has_tcp else None,
        read_bytes_per_s=round(sums.counts[READ_BYTES] / sums.covered_s, 1) if has_tcp else None,
        write_bytes_per_s=round(sums.counts[WRITE_BYTES] / sums.covered_s, 1) if has_tcp else None,
    )


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 2)
