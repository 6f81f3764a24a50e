"""The first difference of an event and what was recomputed: a field, an item of a list, or the id."""

from domain.events import CashDeposited
from streams.envelope import Recorded
from vibe.verify.findings import Findings, first_difference, narrowed

DEPOSIT = CashDeposited(deposit_id="dep-1", subscriber_id="sam", cash_delta_micros=5, config_sequence=2, deposited_at=3)


def recorded(event: CashDeposited, event_id: str = "dep-1") -> Recorded:
    return Recorded("EXECUTIONS", 14, "executions.1.sam", b"", "cash.deposited", event_id, "", "", None, None, event, 2)


def test_an_equal_event_is_verified() -> None:
    findings = Findings()
    assert findings.compare(recorded(DEPOSIT), DEPOSIT, "dep-1")
    assert (findings.verified, findings.ok) == (1, True)


def test_the_first_field_that_differs_is_named() -> None:
    forged = CashDeposited(
        deposit_id="dep-1", subscriber_id="sam", cash_delta_micros=9, config_sequence=2, deposited_at=4
    )
    found = first_difference(recorded(forged), DEPOSIT, "dep-1")
    assert found == ("EXECUTIONS:14.2", "cash.deposited", "cash_delta_micros", 9, 5)


def test_a_copy_under_another_id_differs_in_its_id() -> None:
    findings = Findings()
    assert not findings.compare(recorded(DEPOSIT, "dep-2"), DEPOSIT, "dep-1")
    assert findings.different == [("EXECUTIONS:14.2", "cash.deposited", "id", "dep-2", "dep-1")]
    assert not findings.ok


def test_of_two_lists_the_first_items_that_differ_are_shown() -> None:
    assert narrowed("levels", (1, 2), (1, 3)) == ("levels[1]", 2, 3)
    assert narrowed("levels", (1,), (1, 3)) == ("levels[1]", None, 3)
