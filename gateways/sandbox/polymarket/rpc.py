"""The sandbox's Polygon node: JSON-RPC over HTTP and WebSocket, subscriptions to logs and heads."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from gateways.sandbox.polymarket.abi import BALANCE_OF, BALANCE_OF_TOKEN, CHAIN_ID, CONDITIONAL_TOKENS, PUSD, topic
from gateways.sandbox.polymarket.chain import BadFilterError, Chain, Filter, Log
from gateways.sandbox.polymarket.faults import Faults
from gateways.sandbox.polymarket.ledger import Ledger
from gateways.sandbox.polymarket.markets import BY_TOKEN
from gateways.sandbox.polymarket.websocket_hub import Connection, WebsocketHub

_PARSE, _INVALID, _UNKNOWN, _ARGUMENT, _SERVER = -32700, -32600, -32601, -32602, -32000
_ADDRESS_DIGITS: Final = 40


class _RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Node:
    """Answers calls; pushes logs and heads to those who subscribed. `ledger` is what the chain's blocks add up to."""

    def __init__(self, chain: Chain, ledger: Ledger, sockets: WebsocketHub, faults: Faults, log_blocks: int) -> None:
        self._chain = chain
        self._ledger = ledger
        self._sockets = sockets
        self._faults = faults
        self._log_blocks = log_blocks
        self._logs: dict[str, tuple[Connection, Filter]] = {}
        self._heads: dict[str, Connection] = {}
        self._ids = 0

    def leave(self, connection: Connection) -> None:
        for key in [key for key, (other, _) in self._logs.items() if other is connection]:
            del self._logs[key]
        for key in [key for key, other in self._heads.items() if other is connection]:
            del self._heads[key]

    def answer(self, raw: str | bytes, connection: Connection | None = None) -> bytes:
        """The reply to one body or frame; a batch is answered as an array. Subscribing needs a connection."""
        try:
            message = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.encode(_failed(None, _PARSE, "parse error"))
        if isinstance(message, list):
            return msgspec.json.encode([self._one(each, connection) for each in message])
        return msgspec.json.encode(self._one(message, connection))

    def _one(self, message: Any, connection: Connection | None) -> dict[str, object]:
        match message:
            case {"method": str(method), "id": int() | str() as number}:
                params = message.get("params", [])
            case _:
                return _failed(None, _INVALID, "invalid request")
        if not isinstance(params, list):
            return _failed(number, _ARGUMENT, "non-array args")
        try:
            if method in ("eth_subscribe", "eth_unsubscribe"):
                result: object = self._subscription(method, params, connection)
            elif method in _METHODS:
                result = _METHODS[method](self, params)
            else:
                raise _RefusedError(_UNKNOWN, f"the method {method} does not exist/is not available")
        except _RefusedError as error:
            return _failed(number, error.code, str(error))
        except BadFilterError as error:
            return _failed(number, _ARGUMENT, str(error))
        return {"jsonrpc": "2.0", "id": number, "result": result}

    # Calls.

    def _block_number(self, params: list[Any]) -> object:
        return hex(self._chain.head)

    def _block(self, params: list[Any]) -> object:
        number = self._chain.tagged(params[0] if params else None)
        return self._chain.block(number) if number <= self._chain.head else None

    def _get_logs(self, params: list[Any]) -> object:
        if not params or not isinstance(params[0], dict):
            raise _RefusedError(_ARGUMENT, "missing value for required argument 0")
        if self._faults.take("rpc_errors"):
            raise _RefusedError(_SERVER, "invalid block range params")
        wanted = params[0]
        first, last = self._chain.tagged(wanted.get("fromBlock")), self._chain.tagged(wanted.get("toBlock"))
        if first > last or first > self._chain.head:
            raise _RefusedError(_SERVER, "invalid block range params")
        if last - first >= self._log_blocks:
            raise _RefusedError(-32701, f"exceed maximum block range: {self._log_blocks}")
        return [log.wire() for log in self._chain.logs(first, last, Filter(wanted))]

    def _call(self, params: list[Any]) -> object:
        match params:
            case [{"to": str(to), "data": str(data)}, *_] | [{"to": str(to), "input": str(data)}, *_]:
                return topic(self._balance(to.lower(), data.lower()))
        raise _RefusedError(_ARGUMENT, "missing value for required argument 0")

    def _balance(self, to: str, data: str) -> int:
        wallet = "0x" + data[34:74]
        if len(wallet) != _ADDRESS_DIGITS + 2:
            raise _RefusedError(3, "execution reverted")
        account = self._ledger.accounts.get(wallet)
        if to == PUSD and data.startswith(BALANCE_OF):
            return account.cash_micros if account else 0
        if to == CONDITIONAL_TOKENS and data.startswith(BALANCE_OF_TOKEN):
            token = str(int(data[74:] or "0", 16))
            known = BY_TOKEN.get(token)
            return account.shares(*known) if account and known else 0
        raise _RefusedError(3, "execution reverted")

    # Subscriptions.

    def _subscription(self, method: str, params: list[Any], connection: Connection | None) -> object:
        if connection is None:
            raise _RefusedError(_UNKNOWN, "notifications not supported")
        match method, params:
            case "eth_unsubscribe", [str(key)]:
                return self._forget(key, connection)
            case "eth_subscribe", ["newHeads", *_]:
                key = self._key()
                self._heads[key] = connection
            case "eth_subscribe", ["logs"]:
                key = self._key()
                self._logs[key] = (connection, Filter({}))
            case "eth_subscribe", ["logs", dict(wanted)]:
                key = self._key()
                self._logs[key] = (connection, Filter(wanted))
            case _:
                raise _RefusedError(_ARGUMENT, f"no {params[0] if params else ''!r} subscription in eth namespace")
        connection.subscribed = True
        return key

    def _key(self) -> str:
        self._ids += 1
        return f"0x{self._chain.hash_of(self._ids)[2:34]}"

    def _forget(self, key: str, connection: Connection) -> bool:
        mine = self._heads.get(key) is connection or (key in self._logs and self._logs[key][0] is connection)
        if mine:
            self._heads.pop(key, None)
            self._logs.pop(key, None)
        return mine

    def head(self, number: int) -> None:
        """Push a new head."""
        for key, connection in tuple(self._heads.items()):
            self._push(connection, key, self._chain.header(number))

    def logs(self, logs: Iterable[Log], *, removed: bool = False) -> None:
        """Push logs to every filter that takes them, in order."""
        for log in logs:
            for key, (connection, wanted) in tuple(self._logs.items()):
                if wanted.takes(log.emitted):
                    self._push(connection, key, log.wire(removed=removed))

    def _push(self, connection: Connection, key: str, result: object) -> None:
        params = {"subscription": key, "result": result}
        frame = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
        self._sockets.push(connection, msgspec.json.encode(frame))


def _failed(number: int | str | None, code: int, message: str) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


_METHODS: Final[dict[str, Callable[[Node, list[Any]], object]]] = {
    "eth_chainId": lambda node, params: hex(CHAIN_ID),
    "net_version": lambda node, params: str(CHAIN_ID),
    "eth_blockNumber": Node._block_number,
    "eth_getBlockByNumber": Node._block,
    "eth_getLogs": Node._get_logs,
    "eth_call": Node._call,
}
