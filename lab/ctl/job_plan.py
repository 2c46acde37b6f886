"""What a job does next: (job, its pods, what has ended, now) -> Plan with the status. Pure.

Source: Kubernetes documentation, "Jobs" (backoff limit, active deadline, TTL, suspension); the batch/v1 API reference.
Indexed completion, pod failure policies and success policies are not here: `refusal` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.ctl import conditions, owners, pods
from lab.ctl.owners import Object
from lab.ctl.times import to_seconds, to_text

FIRST_BACKOFF_S = 10.0
"""From a pod's failure to its replacement; doubled by each further one (Kubernetes' own numbers)."""
LONGEST_BACKOFF_S = 360.0
LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-name", "job-name")


@dataclass(slots=True)
class Tally:
    """The pods of one job that have ended, by uid: a pod that was deleted since must still count."""

    succeeded: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    last_failure_s: float = 0.0
    dismissed: set[str] = field(default_factory=set)
    """Pods that the controller itself took away: their end is no failure."""

    def observe(self, pod: Object, now: float) -> None:
        """Count a pod that ended or is being deleted; once."""
        key = owners.uid(pod)
        if key in self.succeeded or key in self.failed or key in self.dismissed:
            return
        if pods.phase(pod) == "Succeeded":
            self.succeeded.add(key)
        elif pods.phase(pod) == "Failed" or owners.is_deleted(pod):
            self.failed.add(key)
            self.last_failure_s = now


@dataclass(frozen=True, slots=True)
class Plan:
    """One step of a job. `news`: (is a warning, reason, message) for Events."""

    status: Object
    create_count: int = 0
    delete: tuple[Object, ...] = ()
    expired: bool = False
    """The finished job has outlived its ttlSecondsAfterFinished."""
    recheck_s: float | None = None
    news: tuple[tuple[bool, str, str], ...] = ()


def refusal(job: Object) -> str:
    """What the job asks for that the lab does not do; empty when nothing."""
    spec = job["spec"]
    if spec.get("completionMode", "NonIndexed") != "NonIndexed":
        return "the lab does not implement completionMode Indexed; use NonIndexed"
    missing = [name for name in ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex") if spec.get(name)]
    return f"the lab does not implement {', '.join(missing)}; leave it out" if missing else ""


def plan(job: Object, own_pods: Sequence[Object], tally: Tally, now: float) -> Plan:
    """The next step of a job.

    Args: own_pods: the pods that it controls; tally: what has ended, with these pods observed; now: seconds.
    """
    active = [pod for pod in own_pods if pods.is_active(pod)]
    status = dict(job.get("status", {}))
    ended = _ended(status)
    if ended is not None:
        return _after_end(job, status, ended, active, tally, now)
    if job["spec"].get("suspend"):
        return _suspended(status, active, tally, now)
    news: list[tuple[bool, str, str]] = []
    held = list(status.get("conditions") or [])
    if conditions.find(held, "Suspended"):
        held = conditions.with_one(held, conditions.condition("Suspended", False, "JobResumed", "Job resumed", now))
    status["conditions"] = held
    status.setdefault("startTime", to_text(now))
    fault = _fault(job, status, active, tally, now)
    if fault is not None:
        reason, text = fault
        status["conditions"] = _with_end(held, "FailureTarget", "Failed", reason, text, now)
        news.append((True, reason, text))
        return Plan(_counted(status, [], tally), delete=tuple(active), news=tuple(news), recheck_s=_ttl(job))
    if _is_complete(job, active, tally):
        text = "Reached expected number of succeeded pods"
        status["conditions"] = _with_end(held, "SuccessCriteriaMet", "Complete", "CompletionsReached", text, now)
        status["completionTime"] = to_text(now)
        news.append((False, "Completed", "Job completed"))
        return Plan(_counted(status, [], tally), delete=tuple(active), news=tuple(news), recheck_s=_ttl(job))
    return _run(job, status, active, tally, now)


def _run(job: Object, status: Object, active: list[Object], tally: Tally, now: float) -> Plan:
    wanted = _wanted_count(job, active, tally)
    surplus = tuple(sorted(active, key=pods.deletion_rank)[: max(0, len(active) - wanted)])
    missing = max(0, wanted - len(active))
    waits = []
    deadline_s = job["spec"].get("activeDeadlineSeconds")
    if deadline_s is not None:
        waits.append((to_seconds(status["startTime"]) or now) + deadline_s - now)
    backoff_s = _backoff_s(tally) - (now - tally.last_failure_s)
    if missing and tally.failed and backoff_s > 0:
        waits.append(backoff_s)
        missing = 0
    left = [pod for pod in active if not any(pod is one for one in surplus)]
    return Plan(_counted(status, left, tally), missing, surplus, recheck_s=min(waits, default=None))


def _wanted_count(job: Object, active: Sequence[Object], tally: Tally) -> int:
    parallel = int(job["spec"].get("parallelism", 1))
    completions: int | None = job["spec"].get("completions")
    if completions is None:
        return len(active) if tally.succeeded else parallel  # a work queue: the first success ends the making of pods
    return min(parallel, max(0, completions - len(tally.succeeded)))


def _is_complete(job: Object, active: Sequence[Object], tally: Tally) -> bool:
    completions: int | None = job["spec"].get("completions")
    if completions is None:
        return bool(tally.succeeded) and not active
    return len(tally.succeeded) >= completions


def _fault(job: Object, status: Object, active: Sequence[Object], tally: Tally, now: float) -> tuple[str, str] | None:
    spec = job["spec"]
    refused = refusal(job)
    if refused:
        return "NotImplemented", refused
    limit = spec.get("backoffLimit", 6)
    restarts = sum(map(_restarts_count, active)) if spec["template"]["spec"].get("restartPolicy") == "OnFailure" else 0
    if len(tally.failed) > limit or (restarts and restarts >= limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline_s = spec.get("activeDeadlineSeconds")
    started = to_seconds(status["startTime"]) or now
    if deadline_s is not None and now - started >= deadline_s:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _restarts_count(pod: Object) -> int:
    status = pod.get("status", {})
    listed = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return sum(one.get("restartCount", 0) for one in listed)


def _backoff_s(tally: Tally) -> float:
    return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(len(tally.failed) - 1, 30)))


def _with_end(held: list[Object], target: str, end: str, reason: str, text: str, now: float) -> list[Object]:
    """Both conditions of an end: the decision, and that it is carried out."""
    for kind in (target, end):
        fresh = conditions.condition(kind, True, reason, text, now)
        held = conditions.with_one(held, {**fresh, "lastProbeTime": fresh["lastTransitionTime"]})
    return held


def _suspended(status: Object, active: Sequence[Object], tally: Tally, now: float) -> Plan:
    held = list(status.get("conditions") or [])
    was = conditions.find(held, "Suspended")
    news = () if was and was["status"] == "True" else ((False, "Suspended", "Job suspended"),)
    held = conditions.with_one(held, conditions.condition("Suspended", True, "JobSuspended", "Job suspended", now))
    status = {**status, "conditions": held}
    status.pop("startTime", None)
    return Plan(_counted(status, [], tally), delete=tuple(active), news=news)


def _ended(status: Object) -> Object | None:
    held = status.get("conditions") or []
    found = (conditions.find(held, kind) for kind in ("Complete", "Failed"))
    return next((one for one in found if one and one["status"] == "True"), None)


def _after_end(job: Object, status: Object, ended: Object, active: Sequence[Object], tally: Tally, now: float) -> Plan:
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    left_s = None if ttl_s is None else (to_seconds(ended["lastTransitionTime"]) or now) + ttl_s - now
    gone = left_s is not None and left_s <= 0
    return Plan(_counted(status, [], tally), delete=tuple(active), expired=gone, recheck_s=None if gone else left_s)


def _ttl(job: Object) -> float | None:
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    return None if ttl_s is None else float(ttl_s)


def _counted(status: Object, active: Sequence[Object], tally: Tally) -> Object:
    counts = {
        "active": len(active),
        "ready": sum(map(pods.is_ready, active)),
        "succeeded": len(tally.succeeded),
        "failed": len(tally.failed),
    }
    kept = {key: value for key, value in status.items() if key not in counts and (key != "conditions" or value)}
    return {**kept, **{key: value for key, value in counts.items() if value or key == "ready"}}


def labelled(job: Object) -> Object:
    """The job with the selector and pod labels that the API server gives it by its uid; itself if it has a selector."""
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("selector"):
        return job
    values = (metadata["uid"], metadata["uid"], metadata["name"], metadata["name"])
    template = spec["template"]
    had = template.get("metadata") or {}
    labels = {**(had.get("labels") or {}), **dict(zip(LABELS, values, strict=True))}
    selector = {"matchLabels": {LABELS[0]: metadata["uid"]}}
    return {
        **job,
        "spec": {**spec, "selector": selector, "template": {**template, "metadata": {**had, "labels": labels}}},
    }
