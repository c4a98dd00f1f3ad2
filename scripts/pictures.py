"""Take the pictures of the app that README.md and the documentation show.

    .venv/bin/python scripts/pictures.py [FOLDER]

Each is taken on a desk and on a phone, light and dark: where.png, where-dark.png, where-phone.png
and where-phone-dark.png. The app of this checkout is started with the shipped models and looked at
in Debian's chromium, on an idle machine in about three minutes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rad3d.core.settings import ROOT

FOLDER = ROOT / "docs" / "pictures"
DEVICES = {
    "": {"viewport": {"width": 1366, "height": 1200}},
    "-phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
SCHEMES = {"": "light", "-dark": "dark"}
PATIENCE_MS = 120_000
COLOURS = 256


@dataclass(frozen=True)
class Picture:
    """One picture, and what is pressed before it is taken."""

    name: str
    prepare: Callable[[Page], None]


def _report(page: Page) -> None:
    """Have the report on the first page's scan written."""
    page.locator("#generate").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")
    expect(page.locator(".r3-status")).not_to_contain_text("stored example")
    page.mouse.move(0, 0)


def _where(page: Page) -> None:
    """Show where in the scan the evidence for a finding lies."""
    _report(page)
    page.locator("mark[data-where]").first.click()
    expect(page.locator(".r3-where strong")).to_be_visible()


def _what_if(page: Page) -> None:
    """Have the report written again without its likeliest finding."""
    page.locator("#mode label", has_text="Words").click()
    _report(page)
    page.get_by_text("What if the classifier had said something else?").click()
    page.locator("#what-if input[type=range]").first.fill("0")
    page.get_by_role("button", name="Write the report again").click()
    expect(page.locator(".r3-followed").first).to_be_visible()
    page.locator("#report").evaluate("element => element.scrollIntoView()")


def _revision(page: Page) -> None:
    """Revise the report, and look at what was changed."""
    _report(page)
    page.locator("[data-report=revise]").click()
    draft = page.get_by_label("Revise the report")
    draft.fill(draft.input_value().replace("moderate", "mild", 1) + " Follow-up in 3 months.")
    page.get_by_role("button", name="Done").click()
    page.locator(".r3-revised summary").click()
    page.locator("#report").evaluate("element => element.scrollIntoView()")


def _comparison(page: Page) -> None:
    """Have the models compared that are picked at first."""
    page.get_by_text("Compare models on this scan").click()
    page.get_by_role("button", name=re.compile(r"^Compare \d models$")).click()
    expect(page.locator(".r3-aligned")).to_be_visible()
    page.locator(".r3-beside").evaluate("element => element.scrollIntoView()")


def _evaluation(page: Page) -> None:
    page.get_by_role("tab", name="Evaluation").click()
    expect(page.locator("#worth-figure .main-svg").first).to_be_visible()
    page.locator("#study-figure").evaluate("element => element.scrollIntoView()")


def _reading(page: Page) -> None:
    """Make a reader study, open its link and come to the second report on a scan."""
    command = "readers new --cases 8 --systems phantom-l/v1 phantom-l/words --title"
    made = subprocess.run(
        [sys.executable, "-m", "rad3d", *command.split(), "Chest CT reports"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page.goto(made.stdout.strip())
    page.locator("#begin").click()
    for number, digits in ((1, "442"), (2, "541")):
        expect(page.locator("#progress")).to_contain_text(f"Report {number} of")
        for digit in digits:
            page.keyboard.press(digit)
        if number == 1:
            page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_have_attribute("aria-busy", "false")
    page.evaluate("scrollTo(0, 0)")


PICTURES = (
    Picture("where", _where),
    Picture("what-if", _what_if),
    Picture("revision", _revision),
    Picture("comparison", _comparison),
    Picture("evaluation", _evaluation),
    Picture("reading", _reading),
)


@contextlib.contextmanager
def app() -> Iterator[str]:
    """The address of the app, in a working folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        own = {"RAD3D_PORT": str(port), "RAD3D_WORK_DIR": folder, "RAD3D_RUNS_DIR": folder}
        os.environ |= own  # also for commands that a picture needs
        process = subprocess.Popen([sys.executable, ROOT / "app.py"])
        try:
            address = f"http://127.0.0.1:{port}/"
            while process.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}healthz"):
                    break
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait()


def take(browser: Browser, address: str, picture: Picture, device: str, scheme: str) -> Image.Image:
    """Return a picture of the page, of as many colours as a small file can hold."""
    context = browser.new_context(**DEVICES[device], color_scheme=SCHEMES[scheme])
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script("localStorage.setItem('rad3d-tour', 'seen')")
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("document.querySelector('.r3-viewer')?.viewer?.source")
    picture.prepare(page)
    page.wait_for_timeout(1500)  # what moves comes to rest
    image = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return image.convert("RGB").quantize(COLOURS)


def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    with app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for picture, device, scheme in itertools.product(PICTURES, DEVICES, SCHEMES):
            path = folder / f"{picture.name}{device}{scheme}.png"
            take(browser, address, picture, device, scheme).save(path, optimize=True)
            print(path.relative_to(folder.parent), f"{path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
