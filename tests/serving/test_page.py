"""The page in headless Chromium: by day and at night, on a desk and on a phone, by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from lengthwise.recipes import parse
from lengthwise.serving.engine import Engine
from lengthwise.serving.naming import Names
from tests.chat_models import chat_model
from tests.serving.live import Live, live

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
expect = sync_api.expect

KEY = "secret"
WINDOWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    model = chat_model()
    with live(model, Engine(model, cache_bytes="10MB"), names=Names(["tiny"], parse("full"))) as up:
        yield up


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Page:
    """A page of playwright's, with all that it complained of."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )  # fmt: skip
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on(
            "console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else 0
        )
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def js(self, expression: str) -> Any:
        """A value, past the policy by which the page itself evaluates nothing."""
        session = self.page.context.new_cdp_session(self.page)
        asked = {"expression": expression, "returnByValue": True}
        return session.send("Runtime.evaluate", asked)["result"].get("value")

    def say(self, text: str, recipe: str = "lookup") -> None:
        answers = self.page.locator(".summary").count()
        self.page.fill("#recipe", recipe)
        self.page.fill("#length", "12")
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")
        expect(self.page.locator(".summary")).to_have_count(answers + 1)


@pytest.fixture
def opened(browser: Any, server: Live) -> Iterator[Page]:
    found = Page(browser, server.url)
    expect(found.page.locator("#model")).to_contain_text("tiny")
    yield found
    found.page.close()


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_both_views_work_and_fit(browser: Any, server: Live, width: int, scheme: str) -> None:
    found = Page(browser, server.url, width, scheme)
    page = found.page
    expect(page.locator("#model")).to_contain_text("trained to 512 tokens")
    found.say("hello")
    expect(page.locator("#did")).to_contain_text("tokens a step")
    expect(page.locator("#did-recipe")).to_have_text("lookup")
    for title in ("Kept of what was read", "Guessed ahead", "Time to first token"):
        expect(page.get_by_role("heading", name=title)).to_be_visible()
    assert found.js("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Compare").click()
    page.fill("#document", "a long document " * 10)
    page.fill("#question", "what?")
    page.fill("#recipe-b", "streaming(window=32)")
    page.click("#run")
    expect(page.locator("#table table")).to_be_visible()
    expect(page.locator("#table")).to_contain_text("streaming(window=32)")
    for side in ("a", "b"):
        expect(page.locator(f"#answer-{side} .text")).not_to_be_empty()
    assert found.js("document.documentElement.scrollWidth") <= width
    dark = found.js("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[4:-1].split(","))) < 200) == (scheme == "dark")
    assert found.said == []
    assert all(url.startswith(server.url) for url in found.asked)
    page.close()


# Text and what lies behind it, by the names of the page's own colours.
PAIRS = [("ink", "page"), ("ink", "paper"), ("soft", "page"), ("soft", "paper"),
         ("soft", "sunken"), ("ink", "accent-soft"), ("accent", "paper"), ("accent", "page"),
         ("accent-ink", "accent"), ("bad", "bad-soft")]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser: Any, server: Live, scheme: str) -> None:
    found = Page(browser, server.url, scheme=scheme)
    for text, behind in PAIRS:
        lights = [
            _luminance(found.js(f"getComputedStyle(document.body).getPropertyValue('--{name}')"))
            for name in (text, behind)
        ]
        assert (max(lights) + 0.05) / (min(lights) + 0.05) >= 4.5, (text, behind)
    found.page.close()


def _luminance(colour: str) -> float:
    parts = [int(colour.strip()[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_conversation_goes_on_and_begins_anew(opened: Page) -> None:
    page = opened.page
    opened.say("hello")
    opened.say("again")
    expect(page.locator(".said")).to_have_count(4)
    expect(page.locator("#did")).to_contain_text("of them read before")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".said")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    assert opened.said == []


def test_what_is_wrong_is_shown_and_the_chat_goes_on(opened: Page) -> None:
    page = opened.page
    page.fill("#recipe", "yarm(factor=2)")
    page.fill("#message", "hello")
    page.press("#message", "Enter")
    error = page.get_by_role("alert")
    expect(error).to_contain_text("did you mean 'yarn'? (position 1)")
    opened.say("hello")
    expect(page.locator("#did-recipe")).to_have_text("lookup")


def test_text_is_shown_as_text(opened: Page) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    opened.say(evil)
    expect(opened.page.locator(".user .text")).to_have_text(evil)
    assert opened.page.locator(".log img, .log script").count() == 0


def test_an_answer_is_stopped(opened: Page) -> None:
    page = opened.page
    page.fill("#length", "400")
    page.fill("#message", "hello")
    page.press("#message", "Enter")
    expect(page.locator(".assistant .text")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator(".assistant .summary")).to_have_text("stopped")
    expect(page.locator("#send")).to_have_text("Send")


def test_the_keyboard_reaches_everything_in_order(opened: Page) -> None:
    page = opened.page
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(opened.js("document.activeElement.id || document.activeElement.textContent"))
    wanted = ["Skip to content", "tab-chat", "log", "recipe", "length", "temperature", "message",
              "send", "renew"]  # fmt: skip
    assert [each for each in order if each in wanted][: len(wanted)] == wanted
    page.focus("#tab-chat")
    page.keyboard.press("ArrowRight")
    assert opened.js("document.activeElement.id") == "tab-compare"
    expect(page.locator("#view-compare")).to_be_visible()
    expect(page.locator("#view-chat")).to_be_hidden()
    assert opened.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Home")
    expect(page.locator("#view-chat")).to_be_visible()


def test_a_screen_reader_is_told(opened: Page) -> None:
    page = opened.page
    unnamed = opened.js(
        "[...document.querySelectorAll('input,textarea,button,select')].filter(e => "
        "!(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map(e => e.id)"
    )
    assert unnamed == []
    assert opened.js("document.documentElement.lang") == "en"
    expect(page.get_by_role("log", name="Conversation")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    opened.say("hello")
    expect(page.get_by_role("status")).to_contain_text("The answer is whole: 12 tokens")
    assert page.locator("#log").get_attribute("aria-busy") == "false"


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Any) -> None:
    model = chat_model()
    with live(model, Engine(model, cache_bytes=0), key=KEY) as locked:
        found = Page(browser, locked.url)
        dialog = found.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        found.page.fill("#key", "wrong")
        found.page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        found.page.fill("#key", KEY)
        found.page.keyboard.press("Enter")
        expect(found.page.locator("#model")).to_contain_text("tiny")
        found.say("hello")
        assert found.js("localStorage.length") == 0
        found.page.close()
