"""Who signed an action. The venue hashes an action as it reads it, not as it was sent: keys in its own order, decimals
without trailing zeros, client order ids with 0x. What a client writes otherwise recovers the address of no one.

A local server is not mainnet, so that the official SDK signs with source "b".
"""

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from Crypto.Hash import keccak

from gateways.hyperliquid.signing import action_digest, signer_of

_KEYS: Final = {
    "order": ("type", "orders", "grouping", "builder"),
    "cancel": ("type", "cancels"),
    "cancelByCloid": ("type", "cancels"),
    "modify": ("type", "oid", "order"),
    "batchModify": ("type", "modifies"),
    "updateLeverage": ("type", "asset", "isCross", "leverage"),
    "updateIsolatedMargin": ("type", "asset", "isBuy", "ntli"),
    "scheduleCancel": ("type", "time"),
    "noop": ("type",),
}
_ORDER: Final = ("a", "b", "p", "s", "r", "t", "c")
_ROWS: Final = {
    "cancels": ("a", "o", "asset", "cloid"),
    "modifies": ("oid", "order"),
}
_NO_VAULT: Final = bytes(32)


def action_signer(
    action: dict[str, Any], signature: dict[str, Any], *, nonce: int, expires_after: int | None, vault: str | None
) -> str | None:
    """The address that signed a trading action, lower case; None when this is no signature.

    Raises TypeError, ValueError or OverflowError for what cannot be hashed.
    """
    digest = action_digest(_as_read(action), nonce=nonce, expires_after=expires_after, vault=vault, mainnet=False)
    return _recovered(digest, signature)


def approval_signer(action: dict[str, Any], signature: dict[str, Any]) -> str | None:
    """The address that signed `approveAgent`, which is EIP-712 over its fields; None when this is no signature.

    Raises LookupError, TypeError, ValueError, AttributeError or OverflowError for fields that cannot be hashed.
    """
    chain, name = int(action["signatureChainId"], 16), action.get("agentName") or ""
    agent, nonce = bytes.fromhex(action["agentAddress"].removeprefix("0x")), int(action["nonce"])
    network = str(action["hyperliquidChain"]).encode()
    domain = _keccak(
        _keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        + _keccak(b"HyperliquidSignTransaction")
        + _keccak(b"1")
        + chain.to_bytes(32)
        + _NO_VAULT
    )
    approval = _keccak(
        _keccak(
            b"HyperliquidTransaction:ApproveAgent"
            b"(string hyperliquidChain,address agentAddress,string agentName,uint64 nonce)"
        )
        + _keccak(network)
        + agent.rjust(32, b"\x00")
        + _keccak(name.encode())
        + nonce.to_bytes(32)
    )
    return _recovered(_keccak(b"\x19\x01" + domain + approval), signature)


def _recovered(digest: bytes, signature: dict[str, Any]) -> str | None:
    return signer_of(digest, str(signature["r"]), str(signature["s"]), signature["v"])


def _as_read(action: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = _ordered(action, _KEYS.get(action["type"], tuple(action)))
    if isinstance(read.get("orders"), list):
        read["orders"] = [_order(one) for one in read["orders"]]
    for name, keys in _ROWS.items():
        if isinstance(read.get(name), list):
            read[name] = [_ordered(one, keys) for one in read[name]]
    for holder in (read, *(read.get("modifies") or ())):
        if isinstance(holder, dict) and "order" in holder:
            holder["order"] = _order(holder["order"])
    if isinstance(read.get("builder"), dict):
        read["builder"] = _ordered(read["builder"], ("b", "f"))
    return read


def _order(wire: Any) -> Any:
    if not isinstance(wire, dict):
        return wire
    read = _ordered(wire, _ORDER)
    for name in ("p", "s"):
        if isinstance(read.get(name), str):
            read[name] = _plain(read[name])
    cloid = read.get("c")
    if isinstance(cloid, str) and not cloid.startswith("0x"):
        read["c"] = f"0x{cloid}"
    return read


def _plain(number: str) -> str:
    try:
        value = Decimal(number)
    except InvalidOperation:
        return number
    return f"{value.normalize():f}" if value else "0"


def _ordered(found: Any, keys: tuple[str, ...]) -> Any:
    return {key: found[key] for key in keys if key in found} if isinstance(found, dict) else found


def _keccak(data: bytes) -> bytes:
    return keccak.new(data=data, digest_bits=256).digest()
