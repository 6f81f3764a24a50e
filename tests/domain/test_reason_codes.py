"""Reason codes: each one carries a line of text, and its name never changes."""

from domain.reason_codes import Reason


def test_a_text_is_one_plain_line() -> None:
    for reason in Reason:
        assert 20 < len(reason.text) < 120, reason
        assert reason.text == reason.text.strip().removesuffix(".")
        assert "\n" not in reason.text
    assert len({reason.text for reason in Reason}) == len(Reason)


def test_the_stored_value_of_a_code_is_its_name() -> None:
    assert all(code.value == code.name == code.name.upper() for code in Reason)


def test_a_stored_code_is_found_with_its_text() -> None:
    assert Reason("STALE_SIGNAL").text == Reason.STALE_SIGNAL.text != ""
