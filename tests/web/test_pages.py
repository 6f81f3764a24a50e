"""The pages in a browser, on a running demo. Skipped where no Chromium or no built pages are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.repository import ROOT
from tests.web.conftest import Demo
from vibe.web.pages import FOLDER

playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
AXE = ROOT / "ui/node_modules/axe-core/axe.min.js"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(not (FOLDER / "index.html").is_file(), reason="the pages are not built: make install"),
]

SECONDS = 30_000
LARGEST_PAGE = 90_000
"""Bytes of compressed JavaScript that a page may load."""
WIDTHS = {"phone": (390, 844), "wide": (1440, 900)}
PAGES = {
    "overview": "Overview",
    "portfolio": "Portfolio",
    "influencers": "Influencers",
    "influencer/whale-1": "whale-1",
    "subscribers": "Subscribers",
    "subscriber/alice": "alice",
    "markets": "Markets",
    "leaderboard": "Leaderboard",
    "attempts": "Trades & attempts",
    "trades": "Trades & attempts",
    "audit": "Audit",
    "system": "System",
    "config": "Config",
}
"""Pages and their headings."""


class Tab:
    """A tab of a signed-in browser, and everything that went wrong in it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.wrong: list[str] = []
        page.on("console", self._reported)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._requested)
        page.on("response", self._answered)

    def _reported(self, message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.wrong.append(f"asked {request.url}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.url} answered {response.status}")

    async def open(self, page: str) -> None:
        """Show a page, by its address."""
        await self.page.goto(f"{self.address}/#/{page}")
        heading = PAGES[page.partition("?")[0]]
        await self.page.get_by_role("heading", name=heading, level=1, exact=True).wait_for(timeout=SECONDS)
        await self.page.locator('[aria-busy="true"]').first.wait_for(state="hidden", timeout=SECONDS)

    def is_clean(self) -> None:
        assert not self.wrong, self.wrong


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as engine:
        found = await engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        await found.close()


async def tab_of(chromium: Any, demo: Demo, size: tuple[int, int], scheme: str = "dark") -> Tab:
    width, height = size
    context = await chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    await context.add_cookies(
        [{"name": name, "value": value, "url": demo.address} for name, value in demo.browser.cookies.items()]
    )
    return Tab(await context.new_page(), demo.address)


@pytest.fixture
async def tab(chromium: Any, demo: Demo) -> AsyncIterator[Tab]:
    made = await tab_of(chromium, demo, WIDTHS["wide"])
    yield made
    await made.page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_is_whole_at_every_width(chromium: Any, demo: Demo, width: str) -> None:
    made = await tab_of(chromium, demo, WIDTHS[width], "light" if width == "phone" else "dark")
    for page in PAGES:
        await made.open(page)
        beyond = await made.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{page} is {beyond} pixels wider than the screen"
        assert await made.page.locator('[role="alert"]').count() == 0, page
        if AXE.is_file() and width == "wide":
            await made.page.evaluate(AXE.read_text())
            report = await made.page.evaluate(
                "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})"
            )
            serious = [
                f"{one['id']}: {one['nodes'][0]['target']}"
                for one in report["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert not serious, f"{page}: {serious}"
    made.is_clean()
    await made.page.context.close()


def test_no_page_loads_more_script_than_allowed() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())

    def files(name: str) -> set[str]:
        chunk = manifest[name]
        return {chunk["file"]}.union(*(files(other) for other in chunk.get("imports", ())))

    pages = [name for name in manifest if name.startswith("src/pages/")]
    assert len(pages) >= 11
    for page in pages:
        scripts = files("index.html") | files(page)
        size = sum((FOLDER / f"{script}.gz").stat().st_size for script in scripts)
        assert 20_000 < size <= LARGEST_PAGE, f"{page} loads {size:,} bytes of {len(scripts)} files"


async def test_a_decision_is_found_and_verified_by_keyboard_alone(tab: Tab, demo: Demo) -> None:
    rows = (await demo.browser.get("/attempts?decision=EXECUTE&limit=1")).json["items"]
    await tab.open("overview")
    await tab.page.keyboard.press("/")
    await tab.page.keyboard.type(rows[0]["attempt_id"])
    await tab.page.keyboard.press("Enter")
    await tab.page.get_by_role("heading", name="Audit").wait_for(timeout=SECONDS)
    await tab.page.get_by_text("copy.decided").first.wait_for(timeout=SECONDS)
    await tab.page.keyboard.press("v")
    await tab.page.get_by_text("Equal in every field").wait_for(timeout=SECONDS)
    await tab.page.keyboard.press("g")
    await tab.page.keyboard.press("s")
    await tab.page.get_by_role("heading", name="System").wait_for(timeout=SECONDS)
    tab.is_clean()


async def test_a_skip_names_its_reasons_and_a_filter_is_a_link(tab: Tab, demo: Demo) -> None:
    counts = (await demo.browser.get("/attempts/counts?since=2025-12-31T00:00:00Z")).json
    code = max(counts["reasons"], key=counts["reasons"].get)
    await tab.open(f"attempts?reason={code}&decision=skip")
    await tab.page.locator(".meaning").get_by_text(code).wait_for(timeout=SECONDS)
    assert await tab.page.get_by_role("row").count() > 1
    assert await tab.page.locator("tbody .ok").count() == 0
    tab.is_clean()


async def test_the_engine_is_paused_and_resumed_in_the_page(tab: Tab, demo: Demo) -> None:
    await tab.open("overview")
    await tab.page.get_by_role("switch", name="Copy engine").click()
    await tab.page.get_by_label("Why, stored with the event").fill("a drill")
    await tab.page.get_by_role("button", name="Pause copying").click()
    await tab.page.get_by_text("Engine paused: nothing is copied").wait_for(timeout=SECONDS)
    assert (await demo.browser.get("/overview")).json["engine"]["state"] == "paused"
    history = (await demo.browser.get("/config/history?limit=1")).json["items"][0]
    assert (history["actor"], history["event"]["note"]) == ("local:admin", "a drill")
    await tab.page.get_by_role("switch", name="Copy engine").click()
    await tab.page.get_by_role("button", name="Resume copying").click()
    await tab.page.get_by_text("Engine paused: nothing is copied").wait_for(state="hidden", timeout=SECONDS)
    tab.is_clean()


async def test_a_guardrail_is_tested_saved_and_appears_in_the_history(tab: Tab, demo: Demo) -> None:
    await tab.open("config?scope=influencer:whale-5")
    await tab.page.locator("#spread_bps").fill("31")
    await tab.page.get_by_role("button", name="Test, last 24 h").click()
    await tab.page.get_by_text("Skipped, by reason").wait_for(timeout=2 * SECONDS)
    await tab.page.get_by_role("button", name="Save…").click()
    await tab.page.get_by_role("button", name="Save 1 change").click()
    await tab.page.get_by_text("Saved for influencer:whale-5").wait_for(timeout=SECONDS)
    read = (await demo.browser.get("/config/influencers/whale-5")).json
    assert read["policy"]["spread_bps"] == 31
    await tab.page.get_by_text("guardrail configured").first.wait_for(timeout=SECONDS)
    tab.is_clean()


async def test_of_two_admins_the_later_one_sees_that_it_was_changed(tab: Tab, demo: Demo) -> None:
    await tab.open("config")
    await tab.page.locator("#max_signal_age_ms").fill("59000")
    one = demo.browser
    seen = (await one.get("/config")).headers["ETag"]
    lines = {"lines": [{"kind": "guardrail", "scope": "influencer:whale-4", "values": {"spread_bps": 25}}]}
    assert (await one.change("POST", "/config/lines", lines, If_Match=seen)).status == 200
    await tab.page.get_by_role("button", name="Save…").click()
    await tab.page.get_by_role("button", name="Save 1 change").click()
    await tab.page.get_by_text("the configuration was changed meanwhile").wait_for(timeout=SECONDS)
    assert "max_signal_age_ms" not in (await one.get("/config")).json["guardrails"].get("global", {})


async def test_markup_in_a_label_is_text(tab: Tab, demo: Demo) -> None:
    one = demo.browser
    label = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    line = {"venue": "hyperliquid", "addresses": ["0x" + "cd" * 20], "label": label, "status": "paused"}
    seen = (await one.get("/config")).headers["ETag"]
    stored = await one.change("PUT", "/config/influencers/markup", {"line": line}, If_Match=seen)
    assert stored.status == 200, stored
    await one.get(f"/influencers?after=CONFIG:{stored.json['sequence']}")
    await tab.open("influencers")
    await tab.page.get_by_text(label).wait_for(timeout=SECONDS)
    assert "owned" not in await tab.page.title()
    tab.is_clean()


async def test_without_a_session_the_page_asks_to_sign_in(chromium: Any, demo: Demo) -> None:
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{demo.address}/#/system")
    await page.get_by_role("heading", name="Sign in").wait_for(timeout=SECONDS)
    assert await page.get_by_text("vibe web --link").is_visible()
    await page.goto(f"{demo.address}/#/sign-in?token={'x' * 43}")
    await page.get_by_text("the link was used or is older than ten minutes").wait_for(timeout=SECONDS)
    assert "token" not in page.url, "a token in the address would stay in the history"
    await context.close()


async def test_a_session_that_ends_leads_to_the_sign_in(tab: Tab, demo: Demo) -> None:
    await tab.open("overview")
    await tab.page.context.clear_cookies()
    await tab.page.get_by_role("heading", name="Sign in").wait_for(timeout=SECONDS)


def test_no_page_is_built_with_inline_script_or_style() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page)
    assert [path.name for path in Path(FOLDER).glob("licenses.txt")] == ["licenses.txt"]
