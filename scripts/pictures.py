"""Take the pictures of the app that README.md and the documentation show.

    .venv/bin/python scripts/pictures.py [FOLDER]

The app of this checkout is started with the shipped models and looked at in Debian's chromium, on
an idle machine in about a minute.
"""

from __future__ import annotations

import contextlib
import io
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
WIDTH, HEIGHT = 1366, 1200
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


PICTURES = (
    Picture("where", _where),
    Picture("comparison", _comparison),
    Picture("evaluation", _evaluation),
)


@contextlib.contextmanager
def app() -> Iterator[str]:
    """The address of the app, in a working folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        own = {"RAD3D_PORT": str(port), "RAD3D_WORK_DIR": folder, "RAD3D_RUNS_DIR": folder}
        process = subprocess.Popen([sys.executable, ROOT / "app.py"], env=os.environ | own)
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


def take(browser: Browser, address: str, picture: Picture) -> Image.Image:
    """Return a picture of the page, of as many colours as a small file can hold."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
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
        for picture in PICTURES:
            path = folder / f"{picture.name}.png"
            take(browser, address, picture).save(path, optimize=True)
            print(path.relative_to(folder.parent), f"{path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
