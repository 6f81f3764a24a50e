"""Reason codes: every one is explained in a line, and its name never changes."""

from domain.reason_codes import MEANING, Reason


def test_every_code_has_a_meaning() -> None:
    assert set(MEANING) == set(Reason)


def test_a_meaning_is_one_plain_line() -> None:
    for code, meaning in MEANING.items():
        assert 20 < len(meaning) < 120, code
        assert meaning == meaning.strip().removesuffix(".")
        assert "\n" not in meaning
    assert len(set(MEANING.values())) == len(MEANING)


def test_the_stored_word_of_a_code_is_its_name() -> None:
    assert all(code.value == code.name == code.name.upper() for code in Reason)
