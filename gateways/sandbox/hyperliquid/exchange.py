"""`POST /exchange`: signed actions of accounts that trade, with the venue's own answers and error texts.

Signers are recovered, agents and vaults resolved, nonces kept per signer, requests counted per account; the matching
engine does the rest. No recording shows the texts for an expired action, a nonce outside its window, a vault of another
leader and a leverage that the margin does not carry: those are written here.
"""

import re
from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.margin import leverage_of, margin_of
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, text
from gateways.sandbox.hyperliquid.matching import MatchingEngine, check_payload
from gateways.sandbox.hyperliquid.orders import Order, TradingAccount
from gateways.sandbox.hyperliquid.refusals import NEVER_PLACED, InvalidPayload, Refused
from gateways.sandbox.hyperliquid.signatures import action_signer, approval_signer
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, address

FREE_REQUESTS: Final = 10_000
"""What an account may ask for before it has traded."""
_NONCES: Final = 100
_DAY_MS: Final = 86_400_000
_BATCH: Final = 200
_AVERAGE: Final = Context(prec=8)
"""An average price is rounded, so that size times price is not the exact notional."""
_EXHAUSTED_MS: Final = 10_000
_SCHEDULE_MS: Final = 5_000
_SCHEDULE_USD: Final = 1_000_000
_AGENTS: Final = 3
_AGENT_MS: Final = 90 * _DAY_MS
_CLOID: Final = re.compile(r"(0x)?[0-9a-fA-F]{32}")
_VALID_UNTIL: Final = re.compile(r"(.*) valid_until (\d+)")
_TIFS: Final = frozenset({"Ioc", "Gtc", "Alo", "FrontendMarket"})
_ZERO: Final = Decimal(0)
_MICRO: Final = Decimal("0.000001")

Forced = Callable[[], tuple[str, str] | None]


class Exchange:
    """Takes actions. `clock_ms` is the time that nonces and expiry are held against; `forced` orders an error."""

    def __init__(
        self,
        market: Market,
        engine: MatchingEngine,
        now_ms: Callable[[], int],
        clock_ms: Callable[[], int],
        forced: Forced = lambda: None,
    ) -> None:
        self._market = market
        self._engine = engine
        self._now_ms = now_ms
        self._clock_ms = clock_ms
        self._forced = forced
        self._nonces: dict[str, list[int]] = {}

    def open_account(
        self, account: str, deposit: Decimal, agents: dict[str, str] | None = None, leader: str | None = None
    ) -> None:
        """An account with a deposit in USD and agents by address that may trade for it.

        `leader` is the account that trades for this one, a vault or a sub-account, by naming it in its actions.
        """
        self._market.open_account(account, deposit)
        if account not in self._market.trading:
            deposited = {"type": "deposit", "usdc": text(deposit)}
            first = {"time": self._now_ms(), "hash": ZERO_HASH, "delta": deposited}
            self._market.trading[account] = TradingAccount(ledger=[first])
        trading = self._market.trading[account]
        trading.leader = leader or trading.leader
        for agent, name in (agents or {}).items():
            trading.agents[agent] = name
            trading.valid_until[agent] = self._clock_ms() + _AGENT_MS

    def act(self, body: Any) -> dict[str, Any]:
        """The answer to one signed action. Raises `Unparsable` for what is no such request."""
        try:
            action, nonce, signature = body["action"], body["nonce"], body["signature"]
            vault, expires_after, kind = body.get("vaultAddress"), body.get("expiresAfter"), action["type"]
            whole = isinstance(nonce, int) and isinstance(expires_after, int | None) and nonce >= 0
            if not whole or not isinstance(signature["v"], int) or not {"r", "s"} <= signature.keys():
                raise Unparsable("expected whole numbers of milliseconds and a signature")
        except (TypeError, KeyError, AttributeError) as error:
            raise Unparsable(f"expected an action, a nonce and a signature: {error}") from error
        vault = None if vault is None else address(vault)
        handler = _ACTIONS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise Unparsable(f"unknown action {kind!r}")
        try:
            if kind == "approveAgent":
                signer = approval_signer(action, signature)
            else:
                signer = action_signer(action, signature, nonce=nonce, expires_after=expires_after, vault=vault)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Unparsable(f"not an action that could be signed: {error}") from error
        try:
            if signer is None:
                raise Refused("Unable to recover signer.")
            account = self._master(signer) if kind == "approveAgent" else self._account_of(signer, vault)
            self._check_time(signer, account, nonce, expires_after)
            return {"status": "ok", "response": handler(self, account, action)}
        except Refused as refused:
            return {"status": "err", "response": str(refused)}

    def tick(self) -> None:
        """Cancel what was scheduled to be cancelled by now."""
        for account, trading in self._market.trading.items():
            if trading.cancel_at is not None and self._clock_ms() >= trading.cancel_at:
                trading.cancel_at = None
                self._engine.cancel_all(account, "scheduledCancel")

    def _master(self, signer: str) -> str:
        """The signer of what no agent may sign."""
        if signer not in self._market.trading:
            raise Refused(f"Must deposit before performing actions. User: {signer}")
        return signer

    def _account_of(self, signer: str, vault: str | None) -> str:
        """The account that a signer trades for."""
        for account, known in self._market.trading.items():
            if signer == account or known.valid_until.get(signer, 0) > self._clock_ms():
                break
        else:
            raise Refused(f"User or API Wallet {signer} does not exist.")
        if vault is not None and vault != account:
            if vault not in self._market.trading or self._market.trading[vault].leader != account:
                raise Refused(f"Vault not registered: {vault}")
            account = vault
        held = self._market.accounts[account]
        if not held.deposit and not held.earned and not held.positions:
            raise Refused(f"Must deposit before performing actions. User: {account}")
        return account

    def _check_time(self, signer: str, account: str, nonce: int, expires_after: int | None) -> None:
        now, seen = self._clock_ms(), self._nonces.setdefault(signer, [])
        if nonce in seen:
            raise Refused(f"Invalid nonce: duplicate nonce {nonce}")
        if not now - 2 * _DAY_MS < nonce < now + _DAY_MS:
            raise Refused(f"Invalid nonce: {nonce} is not within two days before and one day after {now}")
        if len(seen) >= _NONCES and nonce < seen[0]:
            raise Refused(f"Invalid nonce: {nonce} is below the lowest of the last {_NONCES}, {seen[0]}")
        if expires_after is not None and expires_after < now:
            self._market.trading[account].requests += 5
            raise Refused(f"Action expired: expiresAfter {expires_after} is before {now}")
        seen.append(nonce)
        seen.sort()
        del seen[:-_NONCES]

    def _count(self, account: str, requests: int, *, cancels: bool = False) -> None:
        """Count what an account asks for; beyond its budget one action in ten seconds is allowed."""
        trading, now = self._market.trading[account], self._clock_ms()
        allowed = FREE_REQUESTS + int(trading.volume)
        allowed = min(allowed + 100_000, 2 * allowed) if cancels else allowed
        wanted = trading.requests + requests
        if wanted > allowed:
            if now - trading.exhausted_at < _EXHAUSTED_MS:
                raise Refused(
                    f"Too many cumulative requests sent ({wanted} > {allowed}) for cumulative volume traded "
                    f"${trading.volume:.2f}. Place taker orders to free up 1 request per USDC traded."
                )
            trading.exhausted_at = now
        trading.requests = wanted

    # --- orders ----------------------------------------------------------------------------------------------

    def _order(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        rows = _rows(action, "orders")
        self._count(account, len(rows))
        return self._all_placed(account, [self._read(row) for row in rows])

    def _all_placed(self, account: str, orders: list[tuple[int, Coin, Order]]) -> dict[str, Any]:
        for asset, coin, order in orders:
            try:
                check_payload(coin, order)
            except InvalidPayload as refused:
                return {"type": "order", "data": {"statuses": [{"error": f"{refused} asset={asset}"}]}}
        statuses = [self._placed(account, asset, coin, order) for asset, coin, order in orders]
        return {"type": "order", "data": {"statuses": statuses}}

    def _read(self, wire: Any) -> tuple[int, Coin, Order]:
        try:
            asset, buys, reduce_only, tif = wire["a"], wire["b"], wire["r"], wire["t"]["limit"]["tif"]
            limit, size, cloid = Decimal(wire["p"]), Decimal(wire["s"]), wire.get("c")
        except (TypeError, KeyError, InvalidOperation, AttributeError, ValueError) as error:
            raise Unparsable(f"not an order: {error}") from error
        coin, now = self._market.asset(asset), self._now_ms()
        known = isinstance(tif, str) and tif in _TIFS
        if coin is None or not known or not isinstance(buys, bool) or not isinstance(reduce_only, bool):
            raise Unparsable(f"not an order: {wire}")
        if cloid is not None and not (isinstance(cloid, str) and _CLOID.fullmatch(cloid)):
            raise Unparsable(f"expected a client order id of 16 bytes, got {cloid!r}")
        named = None if cloid is None else cloid.lower()
        oid = self._engine.next_oid()
        return asset, coin, Order(oid, coin.name, buys, limit, size, size, reduce_only, tif, named, now, status_at=now)

    def _placed(self, account: str, asset: int, coin: Coin, order: Order) -> dict[str, Any]:
        try:
            self._engine.place(account, coin, order, self._forced())
        except Refused as refused:
            return {"error": f"{refused} asset={asset}"}
        named = {} if order.cloid is None else {"cloid": order.cloid}
        if order.status == "open":
            return {"resting": {"oid": order.oid, **named}}
        filled = order.size - order.left
        average = f"{_AVERAGE.divide(order.spent, filled).normalize():f}"
        return {"filled": {"totalSz": f"{filled.normalize():f}", "avgPx": average, "oid": order.oid, **named}}

    def _modify(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        answer = self._batch_modify(account, {"modifies": [action]})
        for status in answer["data"]["statuses"]:
            if "error" in status:
                raise Refused(status["error"])
        return {"type": "default"}

    def _batch_modify(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        rows = _rows(action, "modifies")
        self._count(account, len(rows))
        statuses: list[dict[str, Any]] = []
        for row in rows:
            read = self._read(row.get("order"))
            found = self._market.trading[account].find(row.get("oid"))
            if found is None or found.status != "open":
                statuses.append({"error": f"Cannot modify canceled or filled order asset={read[0]}"})
                continue
            self._engine.cancel(account, found)
            statuses += self._all_placed(account, [read])["data"]["statuses"]
        return {"type": "order", "data": {"statuses": statuses}}

    def _cancel(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        return self._cancelled(account, [(row.get("a"), row.get("o")) for row in _rows(action, "cancels")])

    def _cancel_by_cloid(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        return self._cancelled(account, [(row.get("asset"), row.get("cloid")) for row in _rows(action, "cancels")])

    def _cancelled(self, account: str, names: list[tuple[Any, Any]]) -> dict[str, Any]:
        self._count(account, len(names), cancels=True)
        statuses: list[Any] = []
        for asset, name in names:
            order = self._market.trading[account].find(name)
            coin = self._market.asset(asset)
            if order is None or order.status != "open" or coin is None or coin.name != order.coin:
                statuses.append({"error": f"{NEVER_PLACED} asset={asset}"})
            else:
                self._engine.cancel(account, order)
                statuses.append("success")
        return {"type": "cancel", "data": {"statuses": statuses}}

    def _schedule_cancel(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        at, trading = action.get("time"), self._market.trading[account]
        self._count(account, 1)
        if at is not None:
            if not isinstance(at, int):
                raise Unparsable("expected a time in ms")
            if trading.volume < _SCHEDULE_USD:
                raise Refused(
                    "Cannot set scheduled cancel time until enough volume traded. "
                    f"Required: ${_SCHEDULE_USD}. Traded: ${trading.volume:.2f}."
                )
            if at < self._clock_ms() + _SCHEDULE_MS:
                raise Refused("Scheduled cancel time too early, must be at least 5 seconds from now.")
        trading.cancel_at = at
        return {"type": "default"}

    # --- margin and agents -----------------------------------------------------------------------------------

    def _update_leverage(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        coin, wanted, cross = self._market.asset(action.get("asset")), action.get("leverage"), action.get("isCross")
        if coin is None or not isinstance(wanted, int) or not isinstance(cross, bool):
            raise Unparsable("expected an asset, isCross and a leverage")
        self._count(account, 1)
        if not 1 <= wanted <= coin.max_leverage:
            raise Refused("Invalid leverage value.")
        trading, open_now = self._market.trading[account], self._market.accounts[account].positions
        if coin.name in open_now and cross == (coin.name in trading.isolated):
            raise Refused("Cannot switch leverage type with open position.")
        before = leverage_of(trading, coin)
        trading.leverage[coin.name] = wanted
        if wanted < before and margin_of(self._market, account, coin.dex).free < 0:
            trading.leverage[coin.name] = before
            raise Refused(f"Insufficient margin to lower leverage to {wanted}.")
        if cross:
            trading.isolated.pop(coin.name, None)
        else:
            trading.isolated.setdefault(coin.name, _ZERO)
        return {"type": "default"}

    def _update_isolated_margin(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        coin, micros = self._market.asset(action.get("asset")), action.get("ntli")
        if coin is None or not isinstance(micros, int):
            raise Unparsable("expected an asset and ntli in 1e-6 USD")
        self._count(account, 1)
        trading = self._market.trading[account]
        if coin.name not in trading.isolated or coin.name not in self._market.accounts[account].positions:
            raise Refused("No isolated position to change the margin of.")
        added = micros * _MICRO
        if added > margin_of(self._market, account, coin.dex).free:
            raise Refused("Insufficient margin to place order.")
        trading.isolated[coin.name] += added
        return {"type": "default"}

    def _approve_agent(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        agent, name = address(action.get("agentAddress")), action.get("agentName") or ""
        if not isinstance(name, str):
            raise Unparsable(f"expected a name, got {name!r}")
        trading = self._market.trading[account]
        until = self._clock_ms() + _AGENT_MS
        dated = _VALID_UNTIL.fullmatch(name)
        if dated:
            name, until = dated[1], min(int(dated[2]), self._clock_ms() + 2 * _AGENT_MS)
        if len(name) > 16:
            raise Refused("Agent name is longer than 16 characters.")
        if any(agent in known.agents for known in self._market.trading.values()) or agent in self._market.trading:
            raise Refused("Extra agent already used.")
        replaced = [old for old, called in trading.agents.items() if called == name]
        if name and not replaced and sum(bool(called) for called in trading.agents.values()) >= _AGENTS:
            raise Refused("Too many extra agents.")
        for old in replaced:
            del trading.agents[old], trading.valid_until[old]
        trading.agents[agent], trading.valid_until[agent] = name, until
        return {"type": "default"}

    def _nothing(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        return {"type": "default"}


_ACTIONS: Final[dict[str, Callable[[Exchange, str, dict[str, Any]], dict[str, Any]]]] = {
    "order": Exchange._order,
    "modify": Exchange._modify,
    "batchModify": Exchange._batch_modify,
    "cancel": Exchange._cancel,
    "cancelByCloid": Exchange._cancel_by_cloid,
    "scheduleCancel": Exchange._schedule_cancel,
    "updateLeverage": Exchange._update_leverage,
    "updateIsolatedMargin": Exchange._update_isolated_margin,
    "approveAgent": Exchange._approve_agent,
    "noop": Exchange._nothing,
}


def weight(body: object) -> int:
    """The request weight of an action: 1, and 1 more for every 40 orders or cancels in it."""
    action = body.get("action") if isinstance(body, dict) else None
    if not isinstance(action, dict):
        return 1
    batch = action.get("orders") or action.get("cancels") or action.get("modifies") or []
    return 1 + (len(batch) if isinstance(batch, list) else 0) // 40


def _rows(action: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = action.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise Unparsable(f"expected {name}")
    if len(found) > _BATCH:
        raise Refused(f"Signed action over weight limit of {_BATCH}.")
    return found
