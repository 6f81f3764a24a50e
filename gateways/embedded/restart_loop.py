"""Starts a server, restarts it when it dies, stops it."""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateways.embedded import ports
from gateways.embedded.errors import ServerError
from gateways.embedded.folder import Running
from gateways.embedded.process import Process
from gateways.embedded.server import Progress, Server
from gateways.embedded.timing import Timing

POLL_S = 0.05
PORT_ATTEMPTS = 10
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
STEADY_AFTER_S = 10.0

log = structlog.get_logger()


class Supervised:
    """One server that this process owns. `changed` is called whenever `running` has changed."""

    def __init__(
        self, server: Server, last: Running | None, progress: Progress, changed: Callable[[], None], timing: Timing
    ) -> None:
        self.server = server
        self.running = Running(ports=last.ports if last else ())
        self._progress = progress
        self._timing = timing
        self._changed = changed
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it on free ports and return when it is ready. Raises ServerError when it does not become ready."""
        try:
            await self.server.prepare(self._progress)
            await self._start()
        except OSError as error:
            raise ServerError(
                f"expected to start {self.server.name} in {self.server.data}, got {error}; "
                "check that the folder belongs to this user and that its disk has room"
            ) from error

    async def watch(self) -> None:
        """Restart it on the same ports whenever it dies, for ever. Clients reconnect by themselves."""
        backoff = FIRST_BACKOFF_S
        steady_since = time.monotonic()
        while self._process is not None:
            code = await self._process.exited()
            if time.monotonic() - steady_since > STEADY_AFTER_S:
                backoff = FIRST_BACKOFF_S
            log.warning("server died, restarting it", server=self.server.name, code=code, log=self._process.tail())
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)
            try:
                await self._until_ready(self._spawn(self.running.ports))
            except (ServerError, OSError) as error:
                log.error("server did not come back, trying again", server=self.server.name, why=str(error))
            else:
                log.info("server is back", server=self.server.name, ports=self.running.ports)
            steady_since = time.monotonic()

    async def stop(self) -> None:
        """Stop it and wait for its end."""
        if self._process is not None:
            await self._process.stop()
            self.running = Running(ports=self.running.ports)

    async def _start(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            chosen = ports.choose(self.server.default_ports, self.running.ports)
            process = self._spawn(chosen)
            try:
                await self._until_ready(process)
            except ServerError:
                if not _lost_a_port(process, chosen):
                    raise
                log.info("a port was taken in the meantime, trying another", server=self.server.name, ports=chosen)
            else:
                log.info("server started", server=self.server.name, ports=chosen, pid=process.pid)
                return
        raise ServerError(f"expected a free port for {self.server.name}, but {PORT_ATTEMPTS} were taken by others")

    def _spawn(self, chosen: tuple[int, ...]) -> Process:
        process = self._process = Process(self.server.command(chosen))
        self.running = Running(ports=chosen, pid=process.pid)
        self._changed()
        return process

    async def _until_ready(self, process: Process) -> None:
        began = time.monotonic()
        reported = 0.0
        while (missing := await self._missing(process)) is not None:
            waited = time.monotonic() - began
            if waited > self._timing.start_s:
                await process.stop()
                raise self._failed(f"was not ready after {waited:.0f} s: {missing}", process)
            if waited - reported >= self._timing.report_every_s:
                reported = waited
                self._progress(f"waiting for {self.server.name} to be ready ({waited:.0f} s)")
            await asyncio.sleep(POLL_S)

    async def _missing(self, process: Process) -> str | None:
        missing = await self.server.unready(self.running)
        # Checked last: another server may have answered, on a port that this one could not bind.
        if (code := process.exit_code) is not None:
            raise self._failed(f"ended with {code} before it was ready", process)
        return missing

    def _failed(self, what: str, process: Process) -> ServerError:
        return ServerError(
            f"expected {self.server.name} to start in {self.server.data}, but it {what}. "
            f"Correct what its log complains about, or set {self.server.setting} to a running server. "
            f"The end of {process.command.log}:\n{process.tail()}"
        )


def _lost_a_port(process: Process, chosen: tuple[int, ...]) -> bool:
    in_use = "address already in use" in process.tail().lower()
    return process.exit_code is not None and (in_use or not all(ports.free(port) for port in chosen))
