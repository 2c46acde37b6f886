"""The plan as values: which rules, in which order, by what words."""

import os
from pathlib import Path

import pytest

from contract.lists import PortRange, parse_ports, parse_subnets
from init.config import Config, ConfigError
from init.legacy_text import own_rules, render_plan
from init.nft_text import render_removal, render_script, render_table
from init.rules import FAMILIES, Hook, Jump, Redirect, Return, plan, rules_for

GOLDENS = Path(__file__).parent / "goldens"

EVERYTHING = Config(
    inbound_proxy_port=14143,
    outbound_proxy_port=14140,
    proxy_uid=1234,
    skip_inbound_ports=parse_ports("22,8000-8100"),
    skip_outbound_ports=parse_ports("1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31-40,443"),
    skip_inbound_subnets=parse_subnets("10.0.0.0/8,fd00::/8,::ffff:1.2.3.4"),
    skip_outbound_subnets=parse_subnets("192.0.2.1,2001:db8::/32,0.0.0.0/0"),
)


@pytest.mark.parametrize(("name", "config"), [("default", Config()), ("everything", EVERYTHING)])
def test_plans_read_as_their_goldens(name: str, config: Config) -> None:
    """To accept a change: run with UPDATE_GOLDENS=1, and look at what git shows."""
    rules = plan(config)
    text = "\n\n".join([*(render_plan(rules, family) for family in FAMILIES), render_script(rules, FAMILIES)])
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)

    assert golden.read_text() == text


def test_names_are_unique_within_a_family() -> None:
    for family in FAMILIES:
        names = [rule.name for rule in rules_for(family, plan(EVERYTHING))]

        assert len(set(names)) == len(names)


def test_each_chain_ends_in_its_redirection() -> None:
    rules = plan(EVERYTHING)

    ends = {hook: [rule.verdict for rule in rules if rule.hook is hook][-1] for hook in (Hook.INBOUND, Hook.OUTBOUND)}
    assert {Hook.INBOUND: Redirect(14143), Hook.OUTBOUND: Redirect(14140)} == ends


def test_every_other_rule_of_a_chain_lets_go() -> None:
    rules = plan(EVERYTHING)

    assert {Return} == {type(rule.verdict) for rule in rules if not isinstance(rule.verdict, Redirect | Jump)}


def test_jumps_come_last_so_that_no_packet_meets_a_chain_half_filled() -> None:
    assert [Jump(Hook.INBOUND), Jump(Hook.OUTBOUND)] == [rule.verdict for rule in plan(EVERYTHING)][-2:]


def test_the_sidecars_own_connections_are_let_go_before_anything_else() -> None:
    outbound = [rule for rule in plan(EVERYTHING) if rule.hook is Hook.OUTBOUND]

    assert 1234 == outbound[0].match.socket_uid


def test_the_listeners_are_let_go_before_anything_else() -> None:
    inbound = [rule for rule in plan(EVERYTHING) if rule.hook is Hook.INBOUND]

    assert (PortRange(14140, 14140), PortRange(14143, 14143)) == inbound[0].match.destination_ports


def test_a_multiport_match_has_at_most_fifteen_slots() -> None:
    for rule in plan(EVERYTHING):
        slots = sum(1 if one.first == one.last else 2 for one in rule.match.destination_ports)

        assert slots <= 15


def test_subnets_go_into_their_own_family_only() -> None:
    four, six = (rules_for(family, plan(EVERYTHING)) for family in FAMILIES)

    assert {4} == {rule.match.source.version for rule in four if rule.match.source}
    assert {6} == {rule.match.source.version for rule in six if rule.match.source}


def test_families_differ_in_nothing_but_subnets() -> None:
    four, six = (render_plan(plan(Config()), family) for family in FAMILIES)

    assert four == six


def test_own_rules_leaves_out_what_others_wrote() -> None:
    saved = (
        "*nat\n:TULLE_INBOUND - [0:0]\n-A OUTPUT -j OTHER\n-A OUTPUT -j TULLE_OUTBOUND\n-A TULLE_INBOUND -j RETURN\n"
    )

    assert ["-A OUTPUT -j TULLE_OUTBOUND", "-A TULLE_INBOUND -j RETURN"] == own_rules(saved)


def test_nft_replaces_its_tables_in_one_transaction() -> None:
    rules = plan(Config())

    expected = "\n".join(
        part for family in FAMILIES for part in (render_removal([family]), render_table(rules, family))
    )
    assert expected + "\n" == render_script(rules, FAMILIES)


def test_equal_listeners_are_refused() -> None:
    with pytest.raises(ConfigError, match="--inbound-proxy-port and --outbound-proxy-port are both 4140"):
        Config(inbound_proxy_port=4140)


def test_root_as_the_sidecars_user_is_refused() -> None:
    with pytest.raises(ConfigError, match="--proxy-uid 0"):
        Config(proxy_uid=0)
