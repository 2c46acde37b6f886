"""Service-account tokens: who signed, for whom, until when, and whether their object still lives."""

import dataclasses

import pytest

from lab.api.tokens import ISSUER, Bound, Claims, TokenError, TokenIssuer, is_alive

NOW_S = 1_800_000_000.0
CLAIMS = Claims("default", "web", "u-1", (ISSUER,), int(NOW_S) + 3600, "id-1", Bound("Pod", "web-0", "p-1"))


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer()


def test_a_token_says_what_it_was_issued_for(issuer):
    token = issuer.issue(CLAIMS, now_s=NOW_S)

    assert issuer.verify(token, now_s=NOW_S) == CLAIMS
    assert CLAIMS.user_name == "system:serviceaccount:default:web"


@pytest.mark.parametrize(
    ("claims", "now_s", "audiences", "why"),
    [
        (CLAIMS, NOW_S + 3700, (), "expired"),
        (CLAIMS, NOW_S - 60, (), "not valid yet"),
        (CLAIMS, NOW_S, ("vault",), "audience"),
        (dataclasses.replace(CLAIMS, audiences=("vault",)), NOW_S, (), "audience"),
    ],
)
def test_a_token_is_refused_outside_of_its_time_and_audience(issuer, claims, now_s, audiences, why):
    token = issuer.issue(claims, now_s=NOW_S)

    with pytest.raises(TokenError, match=why):
        issuer.verify(token, audiences=audiences, now_s=now_s)


def test_a_token_of_another_cluster_is_refused(issuer):
    with pytest.raises(TokenError, match="not signed"):
        issuer.verify(TokenIssuer().issue(CLAIMS, now_s=NOW_S), now_s=NOW_S)


@pytest.mark.parametrize("position", [5, 60, -5])
def test_a_token_that_was_touched_anywhere_is_refused(issuer, position):
    token = issuer.issue(CLAIMS, now_s=NOW_S)
    touched = "B" if token[position] == "A" else "A"
    changed = token[:position] + touched + (token[position + 1 :] if position != -1 else "")

    with pytest.raises(TokenError):
        issuer.verify(changed, now_s=NOW_S)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "....", "e30.e30.e30", "W10.W10.AAAA", "é.é.é"])
def test_what_is_no_token_at_all_is_refused(issuer, text):
    with pytest.raises(TokenError):
        issuer.verify(text, now_s=NOW_S)


@pytest.mark.parametrize(
    ("uids", "alive"),
    [
        ({"serviceaccounts": "u-1", "pods": "p-1"}, True),
        ({"serviceaccounts": "u-2", "pods": "p-1"}, False),
        ({"serviceaccounts": "u-1", "pods": "p-2"}, False),
        ({"serviceaccounts": "u-1"}, False),
        ({}, False),
    ],
)
def test_a_token_dies_with_its_account_and_its_pod(uids, alive):
    assert is_alive(CLAIMS, lambda resource, _namespace, _name: uids.get(resource)) is alive
