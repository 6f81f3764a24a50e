"""Our signatures of trading actions, against the official SDK's and against its published vectors."""

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils.signing import action_hash as sdk_action_hash
from hyperliquid.utils.signing import sign_l1_action

from gateways.hyperliquid.signing import InvalidKeyError, SigningKey, action_hash, sign_action

SECRET = "0x0123456789012345678901234567890123456789012345678901234567890123"


def order_action(**fields: object) -> dict[str, Any]:
    order = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}, **fields}
    return {"type": "order", "orders": [order], "grouping": "na"}


def test_the_published_order_is_signed_as_published() -> None:
    key = SigningKey.from_hex(SECRET)
    mainnet = sign_action(key, order_action(), nonce=0, expires_after=None, mainnet=True)
    assert mainnet.wire() == {
        "r": "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
        "s": "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e",
        "v": 28,
    }
    testnet = sign_action(key, order_action(), nonce=0, expires_after=None, mainnet=False)
    assert testnet.r == "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54"
    named = order_action(c="0x00000000000000000000000000000001")
    # The published r has 63 digits; both are the same number, and here it is always padded.
    assert sign_action(key, named, nonce=0, expires_after=None, mainnet=True).r == (
        "0x041ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3"
    )


def test_the_published_hash() -> None:
    order = {"a": 4, "b": True, "p": "1670.1", "s": "0.0147", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    action = {"type": "order", "orders": [order], "grouping": "na"}
    assert action_hash(action, nonce=1677777606040, expires_after=None).hex() == (
        "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"
    )


def random_action(rng: random.Random) -> dict[str, Any]:
    cloid = f"0x{rng.getrandbits(128):032x}"
    asset = rng.choice([0, 7, 200, 10_003, 110_007, 100_000_123])
    price, size = str(rng.randint(1, 99_999)), f"{rng.randint(1, 10**6)}.{rng.randint(1, 9)}"
    order: dict[str, Any] = {"a": asset, "b": rng.random() < 0.5, "p": price, "s": size, "r": rng.random() < 0.5}
    order["t"] = {"limit": {"tif": rng.choice(["Ioc", "Gtc", "Alo"])}}
    if rng.random() < 0.7:
        order["c"] = cloid
    actions: list[dict[str, Any]] = [
        {"type": "order", "orders": [order] * rng.randint(1, 20), "grouping": "na"},
        {"type": "cancel", "cancels": [{"a": asset, "o": rng.getrandbits(40)}]},
        {"type": "cancelByCloid", "cancels": [{"asset": asset, "cloid": cloid}]},
        {"type": "modify", "oid": cloid, "order": order},
        {"type": "updateLeverage", "asset": asset, "isCross": False, "leverage": rng.randint(1, 50)},
        {"type": "updateIsolatedMargin", "asset": asset, "isBuy": True, "ntli": rng.randint(-(2**40), 2**40)},
        {"type": "scheduleCancel", "time": rng.getrandbits(41)},
        {"type": "noop"},
    ]
    return rng.choice(actions)


@pytest.mark.parametrize("seed", range(200))
def test_random_actions_are_signed_as_the_sdk_signs_them(seed: int) -> None:
    rng = random.Random(seed)
    secret = rng.randbytes(32)
    key, wallet = SigningKey(secret), Account.from_key(secret)
    action, nonce = random_action(rng), rng.getrandbits(41)
    vault = f"0x{rng.getrandbits(160):040x}" if rng.random() < 0.4 else None
    expires_after = nonce + 5_000 if rng.random() < 0.6 else None
    mainnet = rng.random() < 0.5
    assert key.address == wallet.address.lower()
    assert action_hash(action, nonce=nonce, expires_after=expires_after, vault=vault) == sdk_action_hash(
        action, vault, nonce, expires_after
    )
    ours = sign_action(key, action, nonce=nonce, expires_after=expires_after, vault=vault, mainnet=mainnet)
    theirs = sign_l1_action(wallet, action, vault, nonce, expires_after, mainnet)
    assert (int(ours.r, 16), int(ours.s, 16), ours.v) == (int(theirs["r"], 16), int(theirs["s"], 16), theirs["v"])
    assert len(ours.r) == len(ours.s) == 66


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32, SECRET + "00"])
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidKeyError) as raised:
        SigningKey.from_hex(text)
    assert text.removeprefix("0x") not in str(raised.value) or not text.removeprefix("0x")
    assert raised.value.__cause__ is None


def test_nothing_shows_a_key() -> None:
    key = SigningKey.from_hex(SECRET)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert SECRET[2:] not in shown
    copies: tuple[Callable[[SigningKey], object], ...] = (pickle.dumps, copy.copy, copy.deepcopy)
    for copied in copies:
        with pytest.raises(TypeError):
            copied(key)
