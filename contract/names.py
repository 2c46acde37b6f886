"""Names on Kubernetes objects: labels, annotations, namespaces, objects that two programs both touch. Pure."""

from typing import Final

INJECT: Final = "tulle.mesh/inject"
"""Label (namespace, pod) or annotation (pod): ENABLED or DISABLED; the pod's own value wins."""

ENABLED: Final = "enabled"
DISABLED: Final = "disabled"

# Settings: annotations on the pod or its namespace, the pod's first.
SKIP_INBOUND_PORTS: Final = "tulle.mesh/skip-inbound-ports"
SKIP_OUTBOUND_PORTS: Final = "tulle.mesh/skip-outbound-ports"
SKIP_INBOUND_SUBNETS: Final = "tulle.mesh/skip-inbound-subnets"
SKIP_OUTBOUND_SUBNETS: Final = "tulle.mesh/skip-outbound-subnets"
OPAQUE_PORTS: Final = "tulle.mesh/opaque-ports"
PROXY_LOG_LEVEL: Final = "tulle.mesh/proxy-log-level"
PROXY_CPU_REQUEST: Final = "tulle.mesh/proxy-cpu-request"
PROXY_CPU_LIMIT: Final = "tulle.mesh/proxy-cpu-limit"
PROXY_MEMORY_REQUEST: Final = "tulle.mesh/proxy-memory-request"
PROXY_MEMORY_LIMIT: Final = "tulle.mesh/proxy-memory-limit"
PROXY_UID: Final = "tulle.mesh/proxy-uid"
PROXY_IMAGE: Final = "tulle.mesh/proxy-image"
TCP_PROBES: Final = "tulle.mesh/tcp-probes"
"""BY_SIDECAR (the default) or BY_KUBELET: who makes the pod's tcpSocket probes."""
BY_SIDECAR: Final = "sidecar"
BY_KUBELET: Final = "kubelet"

WEIGHT: Final = "config.tulle.mesh/weight"
"""Annotation on a pod, read while it runs: its share of a service's requests, against the other pods' (1 to 1000)."""

# Decisions: annotations that the injector writes.
STATUS: Final = "tulle.mesh/status"
"""INJECTED or SKIPPED."""
INJECTED: Final = "injected"
SKIPPED: Final = "skipped"
SKIP_REASON: Final = "tulle.mesh/skip-reason"
"""Why the injector left the pod alone, as a CamelCase word (also the reason of the Event on the owner)."""
CREATED_BY: Final = "tulle.mesh/created-by"
PROXY_VERSION: Final = "tulle.mesh/proxy-version"
ADDED_ANNOTATIONS: Final = "tulle.mesh/added-annotations"
"""Comma-separated names of the annotations that the injector copied or set beside its decisions."""

MESHED: Final = "tulle.mesh/control-plane-ns"
"""Label on every meshed pod: the namespace of the control plane that serves it."""

INIT_CONTAINER: Final = "tulle-init"
PROXY_CONTAINER: Final = "tulle-proxy"

CONTROL_PLANE_NAMESPACE: Final = "tulle"
"""Default namespace of the control plane."""
CONTROLLER: Final = "tulle-controller"
"""Deployment, Service and ServiceAccount of the controller."""
WEBHOOK: Final = "tulle-webhook"
"""Deployment, Service, ServiceAccount and MutatingWebhookConfiguration of the webhook."""
WEBHOOK_SECRET: Final = "tulle-webhook-tls"
TRUST_BUNDLE: Final = "tulle-trust-bundle"
"""ConfigMap, in every namespace labelled for injection: key `ca-bundle.pem`."""
TRUST_BUNDLE_KEY: Final = "ca-bundle.pem"
IDENTITY_ISSUER: Final = "tulle-identity-issuer"
"""Secret (kubernetes.io/tls) in the control plane's namespace: the certificate authority's key."""
TOKEN_AUDIENCE: Final = "identity.tulle.mesh"
"""Audience of the service-account token that the sidecar shows to the controller."""

IDENTITY_DIRECTORY: Final = "/var/run/secrets/tulle.mesh/identity"
"""Mount of the projected volume in the sidecar: files `token` and `ca-bundle.pem`."""
