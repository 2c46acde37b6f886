"""The command as a pod runs it: what it leaves in the kernel, and what it says when it cannot."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.lists import parse_ports, parse_subnets
from init.config import Config
from init.legacy import TABLE_NAMES
from init.nft_text import FAMILY_NAMES, render_table
from init.rules import plan
from tests.init.conftest import TULLE_INIT, Namespace


@pytest.fixture
def bin_without(tmp_path: Path) -> Iterator[dict[str, str]]:
    """PATH of a directory with all of /usr/sbin but what a test removes from it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("iptables-legacy-save", "ip6tables-legacy-save", "nft"):
        (tools / name).symlink_to(f"/usr/sbin/{name}")
    return {"path": str(tools)}


def _path(directory: str) -> tuple[str, ...]:
    return ("env", f"PATH={directory}")


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_running_twice_leaves_what_running_once_leaves(namespace: Namespace, backend: str) -> None:
    namespace.init(f"--backend={backend}", "--skip-inbound-subnets=10.0.0.0/8,fd00::/8")
    once = namespace.rules()

    again = namespace.init(f"--backend={backend}", "--skip-inbound-subnets=10.0.0.0/8,fd00::/8")

    assert (0, once) == (again.returncode, namespace.rules())
    assert "tulle" in once


@pytest.mark.netns
@pytest.mark.parametrize(("first", "second"), [("legacy", "nft"), ("nft", "legacy")])
def test_another_backend_takes_the_place_of_the_first(namespace: Namespace, first: str, second: str) -> None:
    namespace.init(f"--backend={second}")
    alone = namespace.rules()
    namespace.init("--cleanup")
    namespace.init(f"--backend={first}")

    namespace.init(f"--backend={second}")

    assert alone == namespace.rules()


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_other_settings_take_the_place_of_the_first(namespace: Namespace, backend: str) -> None:
    namespace.init(f"--backend={backend}", "--skip-inbound-ports=1-100", "--proxy-uid=7")

    namespace.init(f"--backend={backend}", "--skip-inbound-ports=9000")

    assert "9000" in namespace.rules()
    assert "100" not in namespace.rules()


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_without_ipv6_what_an_earlier_run_did_to_it_goes(namespace: Namespace, backend: str) -> None:
    namespace.init(f"--backend={backend}")

    done = namespace.init(f"--backend={backend}", "--no-ipv6")

    assert "IPv4 captured" in done.stderr
    assert "" == "".join(
        line for line in namespace.run("ip6tables-legacy-save", "-t", "nat").stdout.splitlines() if "TULLE" in line
    )
    assert "ip6 tulle" not in namespace.run("nft", "list", "tables").stdout


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_cleanup_leaves_nothing(namespace: Namespace, backend: str) -> None:
    namespace.init(f"--backend={backend}")

    done = namespace.init("--cleanup")

    assert (0, "") == (done.returncode, namespace.rules())


@pytest.mark.netns
def test_no_table_is_made_but_the_one_that_is_needed(namespace: Namespace) -> None:
    """Every packet would pass it."""
    namespace.init("--backend=legacy")

    assert "nat\nnat\n" == namespace.run("cat", *map(str, TABLE_NAMES.values())).stdout


@pytest.mark.netns
def test_rules_of_others_stay_and_ours_come_first(namespace: Namespace) -> None:
    others = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "53", "-j", "ACCEPT"]
    namespace.run("iptables-legacy", *others)

    namespace.init("--backend=legacy")
    namespace.init("--backend=legacy")

    saved = namespace.run("iptables-legacy-save", "-t", "nat").stdout
    output = [line for line in saved.splitlines() if line.startswith("-A OUTPUT")]
    assert ["TULLE_OUTBOUND", "ACCEPT"] == [line.split()[-1] for line in output]


@pytest.mark.netns
def test_nft_prints_the_plan_as_it_was_written(namespace: Namespace) -> None:
    """Every match, not only the essence that the command itself compares; holds for nftables 1.0."""
    skips = parse_subnets("10.0.0.0/8,fd00::1,::ffff:1.2.3.4,192.0.2.1,2001:db8::/33,0.0.0.0/0,::/0")
    config = Config(skip_inbound_subnets=skips, skip_outbound_subnets=skips, skip_inbound_ports=parse_ports("1,3-9"))
    text = ",".join(map(str, skips))

    namespace.init(
        "--backend=nft",
        f"--skip-inbound-subnets={text}",
        f"--skip-outbound-subnets={text}",
        "--skip-inbound-ports=1,3-9",
    )

    for family, name in FAMILY_NAMES.items():
        printed = namespace.run("nft", "-n", "list", "table", name, "tulle").stdout
        assert render_table(plan(config), family) == printed.rstrip()


@pytest.mark.netns
def test_every_rule_carries_its_name_as_its_comment(namespace: Namespace) -> None:
    namespace.init("--backend=legacy")

    saved = namespace.run("iptables-legacy-save", "-t", "nat").stdout
    own = [line for line in saved.splitlines() if line.startswith("-A") and "TULLE" in line]
    assert [] == [line for line in own if '--comment "tulle/' not in line]


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["auto", "legacy", "nft"])
def test_without_net_admin_it_says_which_capability_to_add(namespace: Namespace, backend: str) -> None:
    without = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")

    done = namespace.init(f"--backend={backend}", prefix=without)

    assert (1, "") == (done.returncode, namespace.rules())
    assert done.stderr.startswith("tulle-init: the capability NET_ADMIN is missing: add NET_ADMIN")
    assert 1 == done.stderr.count("\n")


@pytest.mark.netns
def test_without_net_raw_the_other_backend_does_it(namespace: Namespace) -> None:
    without = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")

    done = namespace.init(prefix=without)

    assert 0 == done.returncode, done.stderr
    assert "backend nft (legacy:" in done.stderr


@pytest.mark.netns
def test_the_capabilities_that_the_injector_gives_are_enough(namespace: Namespace) -> None:
    only = "-all,+net_admin,+net_raw"

    done = namespace.init(prefix=("setpriv", f"--bounding-set={only}", f"--inh-caps={only}"))

    assert 0 == done.returncode, done.stderr
    assert "backend legacy" in done.stderr


@pytest.mark.netns
def test_when_the_second_family_fails_the_first_is_taken_back(
    namespace: Namespace, bin_without: dict[str, str]
) -> None:
    """IPv6 reads back wrong; IPv4 was committed, read back and found good by then."""
    liar = Path(bin_without["path"], "ip6tables-legacy-save")
    liar.unlink()
    liar.write_text('#!/bin/sh\n/usr/sbin/ip6tables-legacy-save "$@" | /bin/sed s/4140/4141/\n')
    liar.chmod(0o755)

    done = namespace.init("--backend=legacy", prefix=_path(bin_without["path"]))

    assert (1, "") == (done.returncode, namespace.rules())
    assert "reads back as" in done.stderr
    assert "all rules were removed again" in done.stderr


@pytest.mark.netns
def test_when_ipv6_cannot_be_committed_ipv4_is_taken_back(namespace: Namespace) -> None:
    """A filled chain of our name that another chain jumps to cannot be deleted, so IPv6's commit fails."""
    for command in (["-N", "TULLE_INBOUND"], ["-N", "OTHER"], ["-A", "OTHER", "-j", "TULLE_INBOUND"]):
        namespace.run("ip6tables-legacy", "-t", "nat", *command)

    done = namespace.init("--backend=legacy")

    assert 1 == done.returncode
    assert "IPv6" in done.stderr
    assert "TULLE" not in namespace.run("iptables-legacy-save", "-t", "nat").stdout


@pytest.mark.netns
def test_a_backend_that_cannot_read_back_is_not_taken(namespace: Namespace, bin_without: dict[str, str]) -> None:
    Path(bin_without["path"], "iptables-legacy-save").unlink()

    done = namespace.init(prefix=_path(bin_without["path"]))

    assert 0 == done.returncode, done.stderr
    assert "backend nft (legacy: the rules cannot be read back" in done.stderr


@pytest.mark.netns
def test_no_backend_at_all_is_an_error_with_both_reasons(namespace: Namespace, tmp_path: Path) -> None:
    done = namespace.init(prefix=_path(str(tmp_path)))

    assert (1, "") == (done.returncode, namespace.rules())
    assert "legacy: " in done.stderr
    assert "nft: " in done.stderr


@pytest.mark.netns
def test_a_run_that_is_killed_anywhere_is_mended_by_the_next(namespace: Namespace) -> None:
    namespace.init("--backend=legacy")
    whole = namespace.rules()
    namespace.init("--cleanup")
    for delay_s in (0.08, 0.1, 0.12, 0.14):
        command = ["timeout", "-s", "KILL", str(delay_s), str(TULLE_INIT), "--backend=legacy"]
        namespace.run(*command, check=False)

        namespace.init("--backend=legacy")

        assert whole == namespace.rules()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--skip-inbound-ports=99999"], "argument --skip-inbound-ports: '99999' is out of range; ports go from 1 to"),
        (["--skip-outbound-ports=90-80"], "argument --skip-outbound-ports: '90-80' runs backwards; write 80-90"),
        (["--skip-outbound-ports=http"], "argument --skip-outbound-ports: 'http' is no port; write a number"),
        (["--skip-inbound-subnets=10.0.0.0/99"], "argument --skip-inbound-subnets: '10.0.0.0/99' is no subnet; write"),
        (["--skip-outbound-subnets=10.0.0.1/8"], "'10.0.0.1/8' has bits set behind its prefix; write 10.0.0.0/8"),
        (["--skip-outbound-subnets=10.0.0.0/8,,::/0"], "argument --skip-outbound-subnets: has an empty entry"),
        (["--proxy-uid=0"], "--proxy-uid 0: root's connections would all bypass the mesh"),
        (["--proxy-uid=-1"], "argument --proxy-uid: '-1' is no user id"),
        (["--inbound-proxy-port=4140"], "--inbound-proxy-port and --outbound-proxy-port are both 4140"),
        (["--inbound-proxy-port=1-2"], "argument --inbound-proxy-port: '1-2' is not one port"),
        (["--backend=ebpf"], "argument --backend: invalid choice: 'ebpf'"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--skip-inbound-port=80"], "unrecognized arguments: --skip-inbound-port=80"),
    ],
)
def test_a_malformed_setting_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([TULLE_INIT, *arguments], capture_output=True, text=True, check=False)

    assert (2, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert 1 == done.stderr.count("\n")


def test_a_simulation_prints_both_families_and_needs_no_privilege() -> None:
    unprivileged = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    command = [
        *unprivileged,
        "/usr/bin/env",
        f"PYTHONPATH={Path.cwd()}",
        "/usr/bin/python3",
        "-m",
        "init",
        "--simulate",
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert ["# IPv4", "# IPv6"] == [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert 2 == done.stdout.count('--comment "tulle/redirect-outbound" -j REDIRECT --to-ports 4140')
