"""Ids: the same input has the same id, in every version, for ever."""

from collections import Counter

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.ids import cloid, derived, fill_id, jitter, ledger_entry_id, related
from tests.domain.facts import ANN

FROZEN = {
    ("sig", f"hl:BTC:1784683652000:1083817443202724:{ANN}:B"): "sig_dtwm6m2epjgnr2gzbty3",
    ("grp", "ann", "sig_3u"): "grp_mudnvsoe2shvmwuwf2br",
    ("quo", "grp_1"): "quo_mrzc5ugg2p3bxfoewfsq",
    ("req", "sam-ann", "grp_1"): "req_urjwh3lvjadweultttkl",
    ("dep", "sam", "req_1"): "dep_fzbg2gnmewhjravuc3ah",
}


@pytest.mark.parametrize(("of", "id"), FROZEN.items(), ids=[of[0] for of in FROZEN])
def test_an_id_never_changes(of: tuple[str, *tuple[object, ...]], id: str) -> None:
    """Logs hold these ids. When this fails, the code is wrong, not the test."""
    assert derived(*of) == id


def test_a_client_order_id_never_changes() -> None:
    assert cloid("att_urjwh3lvjadweultttkl") == "0x0000000a45363ed7548076251739cd4b"


def test_what_a_request_leads_to_has_its_digits() -> None:
    request = derived("req", "sam-ann", "grp_1")
    order = related("ord", related("att", request))
    assert order == "ord_urjwh3lvjadweultttkl"
    assert [fill_id(order, number) for number in (0, 11)] == [
        "fil_urjwh3lvjadweultttkl.0",
        "fil_urjwh3lvjadweultttkl.11",
    ]
    assert ledger_entry_id(fill_id(order, 0)) == "led_urjwh3lvjadweultttkl.0"


@given_any(st.sets(st.text(), min_size=2, max_size=9))
def test_two_decisions_never_have_one_client_order_id(parts: set[str]) -> None:
    attempts = {derived("att", part) for part in parts}
    assert len({cloid(attempt) for attempt in attempts}) == len(attempts)
    assert all(len(cloid(attempt)) == 34 for attempt in attempts)


def test_a_client_order_id_of_an_odd_id_is_one_too() -> None:
    assert len(cloid("att-1")) == len(cloid(f"att_{'é' * 90}")) == 34


def test_a_jitter_never_changes() -> None:
    assert [jitter("grp_1", 250), jitter("grp_2", 250), jitter("grp_1", 10)] == [70, 138, 5]


@given_any(st.text(), st.integers(0, 1000))
def test_a_jitter_lies_within_its_bound(seed: str, bound: int) -> None:
    assert 0 <= jitter(seed, bound) <= bound


def test_a_jitter_reaches_every_value() -> None:
    drawn = Counter(jitter(f"grp_{number}", 4) for number in range(500))
    assert set(drawn) == {0, 1, 2, 3, 4}
    assert min(drawn.values()) > 60


def test_an_id_depends_on_every_part_and_where_it_ends() -> None:
    ids = [
        derived("grp", "a", "b"),
        derived("grp", "ab", ""),
        derived("grp", "", "ab"),
        derived("grp", "ab"),
        derived("sig", "a", "b"),
        derived("grp", "b", "a"),
    ]
    assert len(set(ids)) == len(ids)


@given_any(st.text())
def test_an_id_is_short_and_safe_in_a_subject(part: str) -> None:
    kind, _, rest = derived("grp", part).partition("_")
    assert kind == "grp"
    assert len(rest) == 20
    assert rest.isascii()
    assert rest.isalnum()
    assert rest == rest.lower()
