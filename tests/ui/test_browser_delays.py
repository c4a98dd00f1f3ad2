"""Headless Chromium where every answer is late and overtakes others: no report beside another scan.

Delays stand on both sides. Below the page, messages of different events overtake each other; those
of one event keep their order, which Gradio's differences need.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser.fakes import FakeService, sample_card
from browser.fixtures import StartApp, Visit
from browser.pages import VIEWER
from playwright.sync_api import Page, expect

from rad3d.core.types import DoneEvent, Event, TextEvent, Volume
from rad3d.service.sessions import Session
from rad3d.ui.report import handlers

pytestmark = [pytest.mark.browser, pytest.mark.slow]

N_ACTS = 60
LATE = """
() => {
  const late = () => Math.random() < 0.5 ? 0 : Math.random() * 400;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const real = window.fetch;
  window.fetch = async (address, options) => {
    if (!String(address?.url ?? address).includes("/gradio_api/")) return real(address, options);
    await wait(late() / 4);
    const answer = await real(address, options);
    if (!String(answer.headers.get("content-type")).includes("event-stream")) {
      await wait(late());
      return answer;
    }
    const lines = new Map();  // event -> its last message's delivery
    let rest = "", all = Promise.resolve();
    const text = new TextDecoder(), bytes = new TextEncoder();
    const body = answer.body.pipeThrough(new TransformStream({
      transform(chunk, out) {
        rest += text.decode(chunk, { stream: true });
        const messages = rest.split("\\n\\n");
        rest = messages.pop();
        for (const message of messages) {
          const event = /"event_id": ?"(\\w+)"/.exec(message)?.[1];
          const before = event ? lines.get(event) ?? Promise.resolve() : all;
          const sent = Promise.all([before, wait(event ? late() : 0)]).then(
            () => {
              try { out.enqueue(bytes.encode(message + "\\n\\n")); } catch { /* closed */ }
            });
          if (event) lines.set(event, sent);
          all = Promise.all([all, sent]);
        }
      },
      flush: () => all,
    }));
    return new Response(body, { status: answer.status, headers: answer.headers });
  };
  window.mixed = [];
  setInterval(() => {
    const open = document.querySelector(".r3-viewer")?.viewer?.state.name;
    if (open === undefined) return;
    for (const part of ["#report .r3-text", "#notes", "#truth", "#verdicts"]) {
      const said = document.querySelector(part)?.textContent.match(/Sample (one|two)/g) ?? [];
      for (const name of said) if (name !== open) window.mixed.push(`${open} / ${part}: ${name}`);
    }
  }, 5);
}
"""


class NamingService(FakeService):
    """Its reports name the scan that they are about."""

    def write(self, volume: Volume, *asked: Any) -> Iterator[Event]:
        for event in super().write(volume, *asked):
            if isinstance(event, TextEvent):
                yield TextEvent(f"Findings: {volume.name}. {event.text}", event.n_tokens)
            elif isinstance(event, DoneEvent):
                text = f"Findings: {volume.name}. {event.report.text}"
                yield DoneEvent(replace(event.report, text=text))
            else:
                yield event

    def open_sample(self, session: Session, sample_id: str) -> Volume:
        time.sleep(random.random() * 0.2)
        return super().open_sample(session, sample_id)


@pytest.fixture
def late_page(
    visit: Visit, start_app: StartApp, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> Page:
    """A page of which both sides are slow and hasty by turns."""
    in_turn = handlers.in_turn

    async def late(*given: Any) -> AsyncIterator[Any]:
        async for event in in_turn(*given):
            await asyncio.sleep(random.choice((0.0, 0.0, 0.15)))
            yield event

    monkeypatch.setattr(handlers, "in_turn", late)
    cards = tuple(
        sample_card(name, f"Sample {name}", "A chest", chest, truth_text=f"Truth of Sample {name}.")
        for name in ("one", "two")
    )
    page = visit(start_app(NamingService(cards, seconds_per_word=0.01)))
    page.evaluate(LATE)
    return page


def test_no_order_of_late_answers_puts_a_report_beside_another_scan(late_page: Page) -> None:
    page, chance = late_page, random.Random(5)
    acts = ["one", "two", "one", "two", "generate", "generate", "cancel", "delete", "tab"]
    page.locator("[data-sample=one]").click()
    for _ in range(N_ACTS):
        act = chance.choice(acts)
        if act in ("one", "two"):
            page.locator(f"[data-sample={act}]").click()
        elif act == "tab":
            page.get_by_role("tab", name="About").click()
            page.get_by_role("tab", name="Report").click()
        else:  # a press on what is disabled by now does nothing
            page.locator(f"#{act}").evaluate("button => button.click()")
        page.wait_for_timeout(chance.choice((0, 20, 120, 400)))
    page.locator("[data-sample=two]").click()
    page.wait_for_function(f"{VIEWER}.state.name === 'Sample two'")
    page.wait_for_timeout(10_000)  # whatever is still on its way
    page.locator("#generate").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")
    expect(page.locator(".r3-text")).to_contain_text("Sample two")
    expect(page.locator("#cancel")).to_be_disabled()
    expect(page.locator("#progress")).to_have_text("")
    assert page.evaluate("[...new Set(window.mixed)]") == []
