"""What the browser tests do on a page, and what they measure there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

VIEWER = "document.querySelector('.r3-viewer').viewer"
PHONE_WIDTH = 390
PHONE: dict[str, Any] = {
    "viewport": {"width": PHONE_WIDTH, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}
"""Options of a context that is a phone."""


def upload(page: Page, path: Path) -> None:
    """Choose a file and wait until the server has taken it."""
    page.set_input_files(".r3-drop input", path)
    page.wait_for_function(f"{VIEWER}.source && {VIEWER}.state.id && !{VIEWER}.preview")


def write_report(page: Page) -> None:
    """Press the button and wait for the report's end."""
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")


def open_evaluation(page: Page) -> None:
    """Choose the tab and wait for its run."""
    page.get_by_role("tab", name="Evaluation").click()
    expect(page.locator("#headline h2")).to_be_visible()


def position(page: Page) -> list[int]:
    """The voxel that the three planes show."""
    found: list[int] = page.evaluate(f"{VIEWER}.position")
    return found


def grey_total(page: Page, plane: str) -> int:
    """Sum of the drawn pixels of a plane: changes when the picture does."""
    return int(
        page.evaluate(
            """plane => { const canvas = document.querySelector(
            `.r3-pane[data-plane=${plane}] canvas`); const data = canvas.getContext('2d')
            .getImageData(0, 0, canvas.width, canvas.height).data;
            let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]; return sum; }""",
            plane,
        )
    )


def settle(page: Page) -> None:
    """Wait for the next drawn frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def widest(page: Page) -> float:
    """Right edge of what reaches furthest, in CSS pixels; what scrolls by itself does not count."""
    return float(
        page.evaluate(
            """() => Math.max(document.documentElement.scrollWidth, ...[
            ...document.querySelectorAll('body *')].filter(e => e.offsetParent &&
            !e.closest('.r3-samples, .r3-sr, .r3-scroll, svg'))
            .map(e => e.getBoundingClientRect().right))"""
        )
    )
