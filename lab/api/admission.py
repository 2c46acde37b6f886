"""What happens to a write between its defaults and its validation. Waits (webhooks are called over the network).

In order: the built-in ServiceAccount admission for new pods; mutating webhooks, by configuration name and then by
their order in it; those of them that ask for it once more, when a later one changed the object; validating webhooks.
What a webhook changed goes through the built-in admission again, so that an injected container gets its token mount as
well. Webhook configurations themselves are checked here and are never sent to a webhook.

Source: the admission control and dynamic admission pages of the Kubernetes reference.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from lab.api import errors, rbac_escalation
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import policy_of
from lab.api.reader import Object, Reader
from lab.api.resources import Resource
from lab.api.service_accounts import account_of, admit_pod
from lab.api.webhook_call import WebhookCaller
from lab.api.webhook_faults import refuse_configuration
from lab.api.webhook_rules import (
    GROUP,
    Attempt,
    Hook,
    Verdict,
    WebhookFailure,
    apply_patch,
    concerns,
    hooks_of,
    refusal,
    review_of,
    verdict_of,
)

ACCOUNT_WAIT_S: Final = 2.0
"""How long a new pod waits for its namespace's default account; a controller makes it just after the namespace."""
_ACCOUNT_POLL_S: Final = 0.05
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"

log = structlog.get_logger("lab.admission")


@dataclass(frozen=True, slots=True)
class AdmissionResult:
    """The object to keep (None on DELETE) and what the answer's Warning headers say."""

    object: Object | None
    warnings: list[str] = field(default_factory=list)


class Admission:
    """All admission of one API server. `sleep` and `entropy` are the only sources of time and chance."""

    def __init__(
        self,
        reader: Reader,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        entropy: random.Random | None = None,
    ) -> None:
        self._reader = reader
        self._sleep = sleep
        self._entropy = entropy or random.SystemRandom()
        self._caller = WebhookCaller(reader)

    async def close(self) -> None:
        """Close the connections to webhooks."""
        await self._caller.close()

    async def admit(
        self,
        operation: str,
        resource: Resource,
        subresource: str,
        old: Object | None,
        new: Object | None,
        *,
        namespace_object: Object | None,
        user: User,
        dry_run: bool,
    ) -> AdmissionResult:
        """Admit one write; the arguments are left alone.

        Raises ApiError: a webhook's own code when it denies, 500 when one that fails closed gives no answer, 400 for a
        dry run that a webhook does not support, 403 for an unknown service account or for rights that the user cannot
        grant, 422 for a bad webhook configuration.
        """
        attempt = Attempt(operation, resource, subresource, old, new, namespace_object, user, dry_run)
        if resource.group == GROUP:
            if new is not None:
                refuse_configuration(new)
            return AdmissionResult(new)
        if resource.group == rbac_escalation.GROUP and new is not None and rbac_escalation.is_grant(old, new):
            rbac_escalation.check_grant(resource.plural, new, user, policy_of(self._reader))
        warnings: list[str] = []
        attempt = await self._built_in(attempt)
        changed = await self._mutate(attempt, warnings)
        if changed is not attempt:
            changed = await self._built_in(changed)
        for hook in self._hooks("validatingwebhookconfigurations"):
            if concerns(hook, changed):
                await self._call(hook, changed, warnings)
        return AdmissionResult(changed.new, warnings)

    async def _built_in(self, attempt: Attempt) -> Attempt:
        new = attempt.new
        if attempt.resource.key != "pods" or attempt.subresource or attempt.operation != "CREATE" or new is None:
            return attempt
        account = await self._account(new["metadata"].get("namespace", ""), account_of(new))
        return attempt.changed(admit_pod(new, account, suffix="".join(self._entropy.choices(_ALPHABET, k=5))))

    async def _account(self, namespace: str, name: str) -> Object:
        waited_s = 0.0
        while True:
            try:
                return self._reader.get("serviceaccounts", namespace, name)
            except ApiError:
                if name != "default" or waited_s >= ACCOUNT_WAIT_S:
                    why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
                    raise errors.forbidden(f"pods is forbidden: {why}", "pods") from None
            await self._sleep(_ACCOUNT_POLL_S)
            waited_s += _ACCOUNT_POLL_S

    async def _mutate(self, attempt: Attempt, warnings: list[str]) -> Attempt:
        hooks = self._hooks("mutatingwebhookconfigurations")
        left_by: dict[int, Attempt] = {}
        for index, hook in enumerate(hooks):
            if concerns(hook, attempt):
                attempt = left_by[index] = await self._changed_by(hook, attempt, warnings)
        for index, hook in enumerate(hooks):
            left = left_by.get(index)
            if hook.is_reinvoked and left is not None and left.new != attempt.new and concerns(hook, attempt):
                attempt = await self._changed_by(hook, attempt, warnings)
        return attempt

    async def _changed_by(self, hook: Hook, attempt: Attempt, warnings: list[str]) -> Attempt:
        verdict = await self._call(hook, attempt, warnings)
        if verdict is None or not verdict.patch or attempt.new is None:
            return attempt
        try:
            return attempt.changed(apply_patch(hook, attempt.new, verdict.patch))
        except WebhookFailure as failure:
            self._failed(hook, failure)
            return attempt

    async def _call(self, hook: Hook, attempt: Attempt, warnings: list[str]) -> Verdict | None:
        """The verdict that allows the write, or None when the hook failed and fails open."""
        if attempt.dry_run and hook.has_side_effects:
            raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        uid = str(uuid.uuid4())
        try:
            verdict = verdict_of(hook, await self._caller.ask(hook, review_of(hook, attempt, uid)), uid)
        except WebhookFailure as failure:
            self._failed(hook, failure)
            return None
        warnings.extend(verdict.warnings)
        if not verdict.is_allowed:
            raise refusal(verdict)
        return verdict

    def _failed(self, hook: Hook, failure: WebhookFailure) -> None:
        text = f'failed calling webhook "{hook.name}": {failure}'
        if hook.fails_closed:
            raise errors.internal(text) from None
        log.warning("webhook failed, and fails open", webhook=hook.name, error=str(failure))

    def _hooks(self, resource: str) -> list[Hook]:
        configurations = sorted(self._reader.list(resource), key=lambda item: str(item["metadata"]["name"]))
        return [hook for configuration in configurations for hook in hooks_of(configuration)]
