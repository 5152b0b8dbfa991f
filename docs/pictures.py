"""Makes the pictures of a report: `python docs/pictures.py demo/report.html`, after `make demo`.

docs/report.png is the page in a wide window by day, docs/report-phone.png in a phone's at night.
Needs Chromium (or Chrome); the page itself needs nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Name, window in CSS pixels, dots a pixel, whether at night.
PICTURES = (("report.png", "1180,1560", 1.5, False), ("report-phone.png", "390,1560", 1.5, True))


def main(report: Path) -> int:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is here", file=sys.stderr)
        return 1
    for name, window, scale, night in PICTURES:
        target = Path(__file__).with_name(name)
        with tempfile.TemporaryDirectory() as own:
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={own}", f"--window-size={window}",
                f"--force-device-scale-factor={scale}", f"--screenshot={target}",
                f"--blink-settings=preferredColorScheme={0 if night else 1}",
                report.resolve().as_uri(),
            ]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        print(f"{target}: {target.stat().st_size / 1e3:,.0f} kB")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python docs/pictures.py REPORT.html")
    sys.exit(main(Path(sys.argv[1])))
