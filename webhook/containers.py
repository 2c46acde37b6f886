"""The containers and volumes that the injector adds. Pure.

Both containers run with no capability, no writable root file system and no way to gain privilege, but for what the
init container is there for: NET_ADMIN changes the tables, NET_RAW opens the socket that libiptc speaks through.
"""

from typing import Any

from contract import environment, names, ports
from contract.lists import format_ports, format_subnets
from webhook.annotations import Options
from webhook.settings import Resources, Settings

IDENTITY_VOLUME = "tulle-identity"
RUN_VOLUME = "tulle-run"
VOLUMES = (RUN_VOLUME, IDENTITY_VOLUME)

TOKEN_LIFETIME_S = 86_400
"""Same as the certificate that it is shown for; the kubelet renews it at 80 %."""

START_LIMIT_S = 120
"""How long the sidecar may take to be ready before it is restarted: an image on a slow disk, a controller that comes
up at the same time."""

START_DELAY_S = 1
START_PATIENCE_S = 3
"""A probe that fails is a Warning Event, though nothing is wrong. So the first one comes when the admin port is surely
open (80 ms after the start, 30 of them python's own) and waits for the answer (200 ms; longer on a busy machine)."""

# The hold of a plain sidecar: the kubelet starts the next container only when this has ended. Python is the one
# program that the sidecar's image surely has; a postStart httpGet would be asked once and then kill the container.
HOLD = f"""
import http.client, sys, time
end = time.monotonic() + {START_LIMIT_S}
while time.monotonic() < end:
    try:
        ask = http.client.HTTPConnection("localhost", {ports.ADMIN_PORT}, timeout=1)
        ask.request("GET", "/ready")
        if ask.getresponse().status == 200:
            sys.exit(0)
    except OSError:
        pass
    time.sleep(0.1)
sys.exit("tulle-proxy was not ready in {START_LIMIT_S} s")
""".strip()

Json = dict[str, Any]


def init_container(options: Options, settings: Settings) -> Json:
    """The container that programs the capture rules; it runs as root without root's powers."""
    return {
        "name": names.INIT_CONTAINER,
        "image": settings.init_image_name,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tulle-init"],
        "args": _init_arguments(options),
        **_resources(options.resources),
        "securityContext": _security_context(user_id=0, added=["NET_ADMIN", "NET_RAW"]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # The tables' lock file lies in /run, and the root file system is read-only.
        "volumeMounts": [{"name": RUN_VOLUME, "mountPath": "/run"}],
    }


def proxy_container(options: Options, settings: Settings, probe_ports: tuple[int, ...], probes: str) -> Json:
    """The sidecar: native where the server knows such, else a plain container that holds back those after it.

    `probe_ports`: what it dials in the kubelet's stead; `probes`: what the kubelet asks through it (webhook.probes).
    """
    container: Json = {
        "name": names.PROXY_CONTAINER,
        "image": options.proxy_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tulle-proxy"],
        "env": _environment(options, settings, probe_ports, probes),
        "ports": [
            {"name": "tulle-proxy", "containerPort": ports.INBOUND_PORT, "protocol": "TCP"},
            {"name": "tulle-admin", "containerPort": ports.ADMIN_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": _probe("/ready", period_s=2, failures=3),
        "livenessProbe": _probe("/live", period_s=10, failures=3),
        **_resources(options.resources),
        "securityContext": _security_context(user_id=options.proxy_uid, added=[]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": IDENTITY_VOLUME, "mountPath": names.IDENTITY_DIRECTORY, "readOnly": True}],
    }
    if settings.native_sidecar:
        container["restartPolicy"] = "Always"
        container["startupProbe"] = {
            **_probe("/ready", period_s=1, failures=START_LIMIT_S),
            "initialDelaySeconds": START_DELAY_S,
            "timeoutSeconds": START_PATIENCE_S,
        }
    else:
        # There is no startup probe to hold these back.
        container["readinessProbe"]["initialDelaySeconds"] = START_DELAY_S
        container["livenessProbe"]["initialDelaySeconds"] = START_DELAY_S
        container["lifecycle"] = {"postStart": {"exec": {"command": ["python3", "-c", HOLD]}}}
    return container


def volumes() -> list[Json]:
    """The volumes of both containers."""
    token = {"audience": names.TOKEN_AUDIENCE, "expirationSeconds": TOKEN_LIFETIME_S, "path": "token"}
    key = names.TRUST_BUNDLE_KEY
    # Optional: a pod may come up before the controller has put the bundle into a new namespace.
    bundle = {"name": names.TRUST_BUNDLE, "optional": True, "items": [{"key": key, "path": key}]}
    return [
        {"name": RUN_VOLUME, "emptyDir": {}},
        {
            "name": IDENTITY_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": bundle}]},
        },
    ]


def _init_arguments(options: Options) -> list[str]:
    arguments = [
        f"--proxy-uid={options.proxy_uid}",
        f"--skip-inbound-ports={format_ports(options.skip_inbound_ports)}",
        f"--skip-outbound-ports={format_ports(options.skip_outbound_ports)}",
    ]
    if options.skip_inbound_subnets:
        arguments.append(f"--skip-inbound-subnets={format_subnets(options.skip_inbound_subnets)}")
    if options.skip_outbound_subnets:
        arguments.append(f"--skip-outbound-subnets={format_subnets(options.skip_outbound_subnets)}")
    return arguments


def _environment(options: Options, settings: Settings, probe_ports: tuple[int, ...], probes: str) -> list[Json]:
    fields = {
        environment.POD_NAME: "metadata.name",
        environment.POD_NAMESPACE: "metadata.namespace",
        environment.POD_IPS: "status.podIPs",
        environment.NODE_NAME: "spec.nodeName",
        environment.SERVICE_ACCOUNT: "spec.serviceAccountName",
        # The plural is known from the same release on as native sidecars.
        environment.NODE_IPS: "status.hostIPs" if settings.native_sidecar else "status.hostIP",
    }
    values = {
        environment.CONTROLLER_URL: settings.controller_address,
        environment.LOG_LEVEL: options.proxy_log_level,
        environment.OPAQUE_PORTS: format_ports(options.opaque_ports),
        **({environment.PROBE_PORTS: ",".join(map(str, probe_ports))} if probe_ports else {}),
        # The kubelet puts variables in place of `$(NAME)`, and a dollar in place of two.
        **({environment.PROBES: probes.replace("$", "$$")} if probes else {}),
    }
    downward = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    return downward + [{"name": name, "value": value} for name, value in values.items()]


def _probe(path: str, period_s: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": ports.ADMIN_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 1,
        "failureThreshold": failures,
    }


def _resources(resources: Resources) -> Json:
    requests = {"cpu": resources.cpu_request, "memory": resources.memory_request}
    limits = {"cpu": resources.cpu_limit, "memory": resources.memory_limit}
    described = {
        name: {resource: amount for resource, amount in amounts.items() if amount}
        for name, amounts in (("requests", requests), ("limits", limits))
    }
    present = {name: amounts for name, amounts in described.items() if amounts}
    return {"resources": present} if present else {}


def _security_context(user_id: int, added: list[str]) -> Json:
    capabilities: Json = {"drop": ["ALL"], **({"add": added} if added else {})}
    return {
        "runAsUser": user_id,
        "runAsGroup": user_id,
        # Said either way: a pod's own runAsNonRoot would else keep the init container from starting.
        "runAsNonRoot": user_id != 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
