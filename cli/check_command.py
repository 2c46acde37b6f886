"""`tulle check`: which checks are run, and how their results reach the terminal. Edge (clock, stdout)."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from cli import check as runner
from cli import checks, install
from cli.checks import Check, Facts
from cli.cluster import Cluster
from cli.traffic import spinner


def check(cluster: Cluster, *, pre: bool, wait_s: float, output: str) -> bool:
    """Run the checks and print the results as `table`, `json` or `short`; whether none ended in an error."""
    facts = Facts(cluster, datetime.now(UTC))
    results: list[runner.Result] = []
    found = runner.run(_checks(facts, pre=pre), wait_s, time.monotonic, time.sleep, facts.forget)
    category = ""
    while True:
        with spinner("Checking"):
            result = next(found, None)
        if result is None:
            break
        results.append(result)
        if output == "json" or (output == "short" and result.finding.outcome == "ok"):
            continue
        if result.check.category != category:
            print(("\n" if category else "") + runner.header(result.check.category))
            category = result.check.category
        print(runner.line(result), flush=True)
    if output == "json":
        print(runner.as_json(results))
    else:
        print(("\n" if category else "") + runner.verdict(results))
    return not runner.failed(results)


def _checks(facts: Facts, *, pre: bool) -> Iterator[Check]:
    # The guard is not everywhere; nothing needs it to work.
    rendered = install.manifests(facts.cluster.control_plane, [], ["webhook.registrationGuard=never"], ha=False)
    yield from checks.api_checks(facts)
    if pre:
        yield from checks.pre_checks(facts, rendered)
    else:
        yield from checks.control_plane_checks(facts, rendered)
        yield from checks.data_plane_checks(facts)
        yield from checks.policy_checks(facts)
