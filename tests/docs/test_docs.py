"""The pages say what the code does: every command, setting, metric, annotation, reason and route stands in them."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from fastapi.routing import APIRoute

from contract import VERSION, headers, metrics, names
from contract.kinds.traffic import read_traffic_policy
from controller.app import make_app
from controller.meters import Meters
from proxy.config import SETTINGS
from proxy.errors import REASONS
from proxy.render import COUNTERS
from webhook.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def test_tables_are_current() -> None:
    code = (
        "import pathlib, sys; sys.path.insert(0, 'docs'); import make\n"
        "stale = [p.name for p in sorted(make.DOCS.glob('*.md')) if make.filled(p.read_text()) != p.read_text()]\n"
        "sys.exit(f'run python docs/make.py: {stale}' if stale else 0)"
    )

    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_every_annotation_is_documented() -> None:
    known = {value for value in vars(names).values() if isinstance(value, str) and value.startswith("tulle.mesh/")}

    assert known
    assert set() == {name for name in known if f"`{name}" not in page("configuration")}


def test_every_header_is_documented() -> None:
    known = {value for value in vars(headers).values() if isinstance(value, str) and value.startswith("x-tulle-")}

    assert len(known) > 4
    assert {headers.CONTROLLER_REVISION} == {name for name in known if f"| `{name}`" not in page("configuration")}


def test_the_policy_of_the_readme_has_no_fault() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert ["TrafficPolicy"] == [yaml.safe_load(block)["kind"] for block in blocks]
    for block in blocks:
        assert read_traffic_policy(yaml.safe_load(block))


def test_every_number_among_the_sidecars_settings_has_a_unit() -> None:
    numbers = [setting for setting in SETTINGS if re.fullmatch(r"[0-9.]+", setting.default)]

    assert len(numbers) > 30
    assert [] == [setting.name for setting in numbers if not setting.unit and not setting.name.endswith("_PORT")]


def test_every_variable_of_the_webhook_is_documented() -> None:
    source = (ROOT / "webhook" / "environment.py").read_text()
    read = set(re.findall(r'(?:value|optional)\("([A-Z_]+)"', source))

    assert len(read) > 15
    assert set() == {name for name in read if f"TULLE_WEBHOOK_{name}`" not in page("configuration")}


def test_every_reason_is_documented_with_its_status() -> None:
    rows = page("errors")

    for reason in REASONS.values():
        assert f"| `{reason.word}` | {reason.status or '-'} |" in rows


def _names_in(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


@pytest.fixture
def sidecar_metrics() -> Iterator[str]:
    """What a real sidecar shows that has seen no traffic: the heads of its metrics are all there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ports = {"ADMIN": port, "INBOUND": port + 1, "OUTBOUND": port + 2}
    environment = {f"TULLE_PROXY_{name}_PORT": str(number) for name, number in ports.items()}
    # Outside of a pod others listen too: a drain that waits for the application to end would wait for them.
    environment["TULLE_PROXY_DRAIN_TIMEOUT_S"] = "0"
    child = subprocess.Popen((sys.executable, "-m", "proxy"), cwd=ROOT, env={**os.environ, **environment})
    try:
        for _ in range(200):
            try:
                text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                break
            except URLError:
                time.sleep(0.05)
        yield text
    finally:
        child.terminate()
        child.wait(10)


def test_every_metric_of_the_sidecar_is_documented(sidecar_metrics: str) -> None:
    found = _names_in(sidecar_metrics)

    assert metrics.REQUEST_TOTAL in found
    assert set() == {name for name in found if f"`{name}`" not in page("metrics")}


def test_every_metric_that_is_documented_of_the_sidecar_is_shown(sidecar_metrics: str) -> None:
    table = page("metrics").partition("Rare events")[0]
    told = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)))
    of_several_workers = {"workers_running", "workers_limit"}
    of_a_controller = {"discovery_connected", "discovery_age_seconds"}

    assert len(told) > 30
    assert len(told) == len(set(told))
    assert set(told) - of_several_workers - of_a_controller == _names_in(sidecar_metrics) - set(COUNTERS)


def test_every_metric_of_the_webhook_is_documented() -> None:
    text = (
        Metrics()
        .render(is_ready=True, certificate_expiry=datetime.now(UTC), dropped_count=0, unverified_count=0)
        .decode()
    )

    found = {name for name in _names_in(text) if name.startswith("tulle_webhook_")}
    assert found
    assert set() == {name for name in found if f"`{name}`" not in page("metrics")}


def test_every_metric_of_the_controller_is_documented() -> None:
    families = [family for family in Meters().registry.collect() if family.name.startswith("tulle_controller_")]

    assert families
    written = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    assert set() == {name for name in written if f"`{name}`" not in page("metrics")}


def test_every_route_of_the_controller_is_documented() -> None:
    app = make_app(None)  # type: ignore[arg-type]  # no route is called
    routes = {(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods}

    assert len(routes) > 8
    assert set() == {(method, path) for method, path in routes if f"`{method} {path}`" not in page("api")}


def test_every_module_of_the_sidecar_is_on_the_map_with_its_colour() -> None:
    rows = dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    told = {(name, colour) for colour, row in rows.items() for name in re.findall(r"`([\w.]+)`", row)}

    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        if path.stem != "__init__":
            paragraph = path.read_text().split("\n\n")[0]
            colour = re.findall(r"\b(Pure|Turn|Waits|Edge)\b", paragraph)[0].lower()
            found.add((".".join(path.relative_to(ROOT / "proxy").with_suffix("").parts), colour))
    assert found == told


def test_one_version_for_all() -> None:
    assert f"version = {VERSION}\n" in (ROOT / "setup.cfg").read_text()
    assert f"appVersion: {VERSION}\n" in (ROOT / "manifests" / "tulle" / "Chart.yaml").read_text().replace('"', "")


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    wanted = set(re.findall(r"(?:`|^)make ([a-z]+)", readme, re.MULTILINE))

    assert {"demo", "test"} <= wanted
    assert wanted <= targets


@pytest.mark.parametrize(
    "document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", *(p.name for p in DOCS.glob("*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document if (ROOT / document).exists() else DOCS / document

    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


def test_the_ten_stops_stand_in_the_architecture_as_in_the_code() -> None:
    import proxy

    stops = re.findall(r"^\s*(\d+\. \S.*)$", proxy.__doc__ or "", re.MULTILINE)

    assert 10 == len(stops)
    for stop in stops:
        assert stop in (ROOT / "ARCHITECTURE.md").read_text()
