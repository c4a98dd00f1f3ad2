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


def rewrite(page: Page) -> None:
    """Set the pleural effusion to 0 by keyboard, and wait for the report from that diagnosis."""
    page.get_by_text("What if the classifier").click()
    page.get_by_label("Pleural effusion, percent", exact=True).press("Home")
    page.get_by_role("button", name="Write the report again").press("Enter")
    expect(page.locator(".r3-compare [data-report=copy]")).to_be_visible()


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
            !e.closest('.r3-samples, .r3-sr, .r3-scroll, .r3-beside, svg'))
            .map(e => e.getBoundingClientRect().right))"""
        )
    )


_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
  const ground = (e) => { const own = rgba(getComputedStyle(e).backgroundColor);
    const solid = own[3] === 1 || !e.parentElement;
    return solid ? own.slice(0, 3) : over(own, ground(e.parentElement)); };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = new Set();
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, words = texts.currentNode.data.trim();
    if (!words || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (e.closest("script, style, [disabled], .r3-sr")) continue;
    const style = getComputedStyle(e), back = ground(e);
    const fore = over(rgba(e instanceof SVGElement ? style.fill : style.color), back);
    const [a, b] = [luminance(fore), luminance(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
      faint.add(`${ratio.toFixed(2)}: ${words.slice(0, 60)}`);
  }
  return [...faint]; }"""


def faint_texts(page: Page) -> list[str]:
    """Visible texts whose contrast is below WCAG 2.2 AA (4.5:1, large ones 3:1), with the ratio.

    The ground is the background colours behind the text; pictures and canvases do not count.
    """
    found: list[str] = page.evaluate(_FAINT)
    return found
