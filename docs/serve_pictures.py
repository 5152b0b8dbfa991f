"""Makes the pictures of a running server's page: `python docs/serve_pictures.py URL`.

docs/serve.png is a chat in a wide window by day, docs/serve-phone.png in a phone's at night. Needs
playwright and Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

HERE = Path(__file__).parent
# Name, window in CSS pixels, dots a pixel, scheme, most tokens of an answer, what is said.
PICTURES = (
    ("serve.png", (1280, 800), 1.5, "light", "256", (
        "Write a short note that thanks a friend for a book about rivers.",
        "Now repeat the note word for word.",
    )),
    ("serve-phone.png", (390, 844), 1.5, "dark", "48", (
        "Name three rivers in one short line each.", "Once more, word for word.",
    )),
)  # fmt: skip
RECIPE = "kivi + lookup"


def main(url: str) -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    expect.set_options(timeout=240_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height), scale, scheme, length, turns in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height}, device_scale_factor=scale,
                color_scheme=scheme,
            )  # fmt: skip
            page.goto(url)
            expect(page.locator("#model")).to_contain_text("trained")
            page.fill("#recipe", RECIPE)
            page.fill("#length", length)
            for number, turn in enumerate(turns, 1):
                page.fill("#message", turn)
                page.press("#message", "Enter")
                expect(page.locator(".summary")).to_have_count(number)
            page.screenshot(path=HERE / name, full_page=width < 600)
            print(f"{name}: {(HERE / name).stat().st_size / 1e3:,.0f} kB")
            page.close()
        browser.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/serve_pictures.py URL")
    sys.exit(main(sys.argv[1]))
