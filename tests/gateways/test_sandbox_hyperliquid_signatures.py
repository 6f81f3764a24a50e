"""Who signed: the sandbox recovers the address that the official SDK's own functions recover."""

import json
import random
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils.signing import (
    order_request_to_order_wire,
    order_wires_to_order_action,
    recover_agent_or_user_from_l1_action,
    recover_user_from_user_signed_action,
    sign_agent,
    sign_l1_action,
)
from hyperliquid.utils.types import Cloid

from gateways.hyperliquid.signing import SigningKey, sign_action
from gateways.sandbox.hyperliquid.signatures import action_signer, approval_signer

SECRET = "7c" * 32
WALLET = Account.from_key(SECRET)
KEY = SigningKey.from_hex(SECRET)
APPROVAL = [
    {"name": "hyperliquidChain", "type": "string"},
    {"name": "agentAddress", "type": "address"},
    {"name": "agentName", "type": "string"},
    {"name": "nonce", "type": "uint64"},
]


def random_action(rng: random.Random) -> dict[str, Any]:
    def wire() -> Any:
        kinds: list[Any] = [{"limit": {"tif": tif}} for tif in ("Ioc", "Gtc", "Alo")]
        request: dict[str, Any] = {
            "coin": "BTC",
            "is_buy": rng.random() < 0.5,
            "sz": round(rng.uniform(0.001, 10), rng.randint(0, 4)),
            "limit_px": round(rng.uniform(1, 70_000), rng.randint(0, 4)),
            "order_type": rng.choice(kinds),
            "reduce_only": rng.random() < 0.5,
        }
        if rng.random() < 0.5:
            request["cloid"] = Cloid.from_int(rng.getrandbits(128))
        return order_request_to_order_wire(request, rng.randint(0, 200))

    builder = {"b": "0x" + "ab" * 20, "f": 10} if rng.random() < 0.3 else None
    actions: list[dict[str, Any]] = [
        order_wires_to_order_action([wire() for _ in range(rng.randint(1, 3))], builder),
        {"type": "cancel", "cancels": [{"a": rng.randint(0, 9), "o": rng.getrandbits(40)}]},
        {"type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": Cloid.from_int(rng.getrandbits(64)).to_raw()}]},
        {"type": "batchModify", "modifies": [{"oid": rng.getrandbits(40), "order": wire()}]},
        {"type": "updateLeverage", "asset": 3, "isCross": rng.random() < 0.5, "leverage": rng.randint(1, 40)},
        {"type": "updateIsolatedMargin", "asset": 3, "isBuy": True, "ntli": -rng.getrandbits(20)},
        {"type": "scheduleCancel", "time": rng.getrandbits(40)},
        {"type": "noop"},
    ]
    return rng.choice(actions)


@pytest.mark.parametrize("seed", range(25))
def test_the_signer_of_an_action_is_the_one_that_the_sdk_recovers(seed: int) -> None:
    rng = random.Random(seed)
    action, nonce = random_action(rng), rng.getrandbits(41)
    vault = rng.choice([None, "0x" + "cd" * 20])
    expires_after = rng.choice([None, rng.getrandbits(41)])
    theirs = sign_l1_action(WALLET, action, vault, nonce, expires_after, False)
    ours = sign_action(KEY, action, nonce=nonce, expires_after=expires_after, vault=vault, mainnet=False).wire()
    shuffled = json.loads(json.dumps(action, sort_keys=True))
    for signature in (theirs, ours):
        known = recover_agent_or_user_from_l1_action(action, signature, vault, nonce, expires_after, False)
        assert known.lower() == WALLET.address.lower()
        for body in (action, shuffled):
            found = action_signer(body, signature, nonce=nonce, expires_after=expires_after, vault=vault)
            assert found == known.lower()
    changed = action_signer(action, theirs, nonce=nonce + 1, expires_after=expires_after, vault=vault)
    assert changed != WALLET.address.lower()


@pytest.mark.parametrize("name", ["", "copy1", "copy1 valid_until 1799349913689"])
def test_the_signer_of_an_approval_is_the_one_that_the_sdk_recovers(name: str) -> None:
    agent = Account.from_key("8d" * 32).address
    action = {"type": "approveAgent", "agentAddress": agent, "agentName": name, "nonce": 1_713_825_891_591}
    signature = sign_agent(WALLET, action, False)
    known = recover_user_from_user_signed_action(
        dict(action), signature, APPROVAL, "HyperliquidTransaction:ApproveAgent", False
    )
    assert approval_signer(action, signature) == known.lower() == WALLET.address.lower()
    assert approval_signer(action | {"agentName": "other"}, signature) != known.lower()


@pytest.mark.parametrize(
    "signature",
    [{"r": "0x0", "s": "0x0", "v": 27}, {"r": "nothing", "s": "0x1", "v": 27}, {"r": "0x1", "s": "0x1", "v": 99}],
)
def test_what_is_no_signature_has_no_signer(signature: dict[str, Any]) -> None:
    assert action_signer({"type": "noop"}, signature, nonce=1, expires_after=None, vault=None) is None
