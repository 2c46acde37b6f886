"""What the cluster's programs are started with: command lines and configuration files, as text. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.layout import (
    API_PORT,
    CONTROL_ADDRESS,
    DNS_SERVICE,
    PODS,
    REGISTRY,
    SERVICES,
    Folder,
    Machine,
)

PAUSE = "registry.k8s.io/pause:3.10"
COREDNS = "registry.k8s.io/coredns/coredns:v1.14.3"
CNI_PROGRAMS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins puts them."""


@dataclass(frozen=True)
class Program:
    """One program of a machine, in the order of their start."""

    name: str
    command: tuple[str, ...]
    after: str | None = None
    """What has to be there before it starts: the path of a socket, or a URL that answers `ok`."""


def of_control(folder: Folder, control: Machine) -> list[Program]:
    """The registry, and the control plane."""
    keys, home = folder.keys, folder.of(control)
    etcd = "http://127.0.0.1:2379"
    api = f"https://127.0.0.1:{API_PORT}/readyz"
    api_flags = {
        "etcd-servers": etcd,
        "advertise-address": CONTROL_ADDRESS,
        "secure-port": API_PORT,
        "tls-cert-file": keys / "apiserver.crt",
        "tls-private-key-file": keys / "apiserver.key",
        "client-ca-file": keys / "ca.crt",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": ",".join(SERVICES),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": keys / "accounts.pub",
        "service-account-signing-key-file": keys / "accounts.key",
        "kubelet-certificate-authority": keys / "ca.crt",
        "kubelet-client-certificate": keys / "admin.crt",
        "kubelet-client-key": keys / "admin.key",
        "kubelet-preferred-address-types": "InternalIP",
        "proxy-client-cert-file": keys / "front-proxy.crt",
        "proxy-client-key-file": keys / "front-proxy.key",
        "requestheader-client-ca-file": keys / "ca.crt",
        "requestheader-allowed-names": "front-proxy",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        # No kube-proxy runs beside it: it finds the pods behind a webhook's service by itself.
        "enable-aggregator-routing": "true",
        "allow-privileged": "true",
    }
    manager_flags = {
        "root-ca-file": keys / "ca.crt",
        "service-account-private-key-file": keys / "accounts.key",
        "cluster-signing-cert-file": keys / "ca.crt",
        "cluster-signing-key-file": keys / "ca.key",
        "use-service-account-credentials": "true",
        "service-cluster-ip-range": ",".join(SERVICES),
    }
    etcd_flags = {
        "data-dir": home / "etcd",
        "listen-client-urls": etcd,
        "advertise-client-urls": etcd,
        "listen-peer-urls": "http://127.0.0.1:2380",
    }
    return [
        Program("registry", ("docker-registry", "serve", str(home / "registry.json"))),
        # Nobody needs this state after a crash of the machine, so it does not wait for the disk.
        Program("etcd", ("etcd", *_flags(etcd_flags), "--unsafe-no-fsync")),
        Program("kube-apiserver", ("kube-apiserver", *_flags(api_flags)), after="tcp://127.0.0.1:2379"),
        Program(
            "kube-controller-manager",
            ("kube-controller-manager", *_client(keys, "controller-manager"), *_flags(manager_flags)),
            after=api,
        ),
        Program("kube-scheduler", ("kube-scheduler", *_client(keys, "scheduler")), after=api),
    ]


def of_node(folder: Folder, node: Machine) -> list[Program]:
    home = folder.of(node)
    kubelet_flags = {
        "config": home / "kubelet.json",
        "kubeconfig": folder.keys / f"{node.name}.kubeconfig",
        "root-dir": home / "kubelet",
        "cert-dir": home / "kubelet" / "pki",
        "hostname-override": node.name,
        "node-ip": ",".join(node.addresses),
    }
    return [
        Program("containerd", ("containerd", "--config", str(home / "containerd.toml"))),
        Program("kubelet", ("kubelet", *_flags(kubelet_flags)), after="unix:/run/containerd/containerd.sock"),
        Program("kube-proxy", ("kube-proxy", "--config", str(home / "kube-proxy.json"))),
    ]


def _flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _client(keys: Path, name: str) -> list[str]:
    """How the controller manager and the scheduler find the API server, as the only ones of their kind."""
    kubeconfig = keys / f"{name}.kubeconfig"
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "leader-elect": "false",
        "bind-address": "127.0.0.1",
    }
    return _flags(flags)


def files_of_control(folder: Folder, control: Machine) -> dict[str, str]:
    """Files of the control plane's folder, by name. JSON is YAML."""
    registry = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder.registry)}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    return {"registry.json": json.dumps(registry)}


def files_of_node(folder: Folder, node: Machine) -> dict[str, str]:
    home = folder.of(node)
    return {
        "containerd.toml": _containerd(home),
        "registries/_default/hosts.toml": f'[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n',
        "kubelet.json": json.dumps(_kubelet(folder, node)),
        "kube-proxy.json": json.dumps(_kube_proxy(folder, node)),
        "cni/10-pods.conflist": json.dumps(_cni(home, node)),
        "resolv.conf": "",
    }


def _containerd(home: Path) -> str:
    """Every registry of the world is the cluster's own, so that manifests run unchanged."""
    return f"""version = 2
root = "{home}/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Where this machine may not lower a process's score, containers start all the same.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PROGRAMS}"
  conf_dir = "{home}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{home}/registries"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(folder: Folder, node: Machine) -> dict[str, Any]:
    keys, home = folder.keys, folder.of(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{folder.group}/{node.name}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failCgroupV1": False,
        "failSwapOn": False,
        # All nodes share one disk, and what fills it is not theirs to clear.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "podLogsDir": str(home / "pods"),
        "registryPullQPS": 0,
        "resolvConf": str(home / "resolv.conf"),
        "serializeImagePulls": False,
        "tlsCertFile": str(keys / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(keys / f"{node.name}.key"),
    }


def _kube_proxy(folder: Folder, node: Machine) -> dict[str, Any]:
    """The kernel's limits of connection tracking are the whole machine's; 0 leaves them alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(folder.keys / "kube-proxy.kubeconfig")},
        "clusterCIDR": ",".join(PODS),
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": node.name,
        "mode": "nftables",
    }


def _cni(home: Path, node: Machine) -> dict[str, Any]:
    """Each pod a cable of its own to the node, which routes: no bridge, no policies, both families."""
    ipam = {
        "type": "host-local",
        "dataDir": str(home / "addresses"),
        "ranges": [[{"subnet": subnet}] for subnet in node.pods],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}, ports]}
