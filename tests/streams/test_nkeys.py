"""Nkeys: the text forms that nats-server and the `nats` command line read, and signatures that the server accepts."""

import base64

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from streams.nkeys import new_user, user_of


def test_a_seed_has_its_public_key_and_is_read_back() -> None:
    made = new_user()
    assert made.seed.startswith("SU")
    assert made.public.startswith("U")
    assert user_of(f"{made.seed}\n") == made
    assert new_user() != made


def test_a_signature_of_the_nonce_is_valid_for_the_public_key() -> None:
    made = new_user()
    raw = base64.b32decode(made.public)[1:-2]
    key = eddsa.import_public_key(raw)
    assert isinstance(key, ECC.EccKey)
    eddsa.new(key, "rfc8032").verify(b"a nonce", base64.b64decode(made.sign(b"a nonce")))


@pytest.mark.parametrize("text", ["", "SUABC", "not base32!", new_user().public, new_user().seed[:-1] + "A"])
def test_another_text_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="expected the seed of a NATS user") as refused:
        user_of(text)
    assert not text or text not in str(refused.value)
