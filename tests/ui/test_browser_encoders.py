"""What the model saw, in headless Chromium, where variants listen to different encoders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser.fixtures import Visit
from browser.launch import running_app
from browser.pages import VIEWER, upload
from ctclip_states import SMALL, convert, lipro_state
from playwright.sync_api import Page, expect
from tiny_models import (
    CountingEncoder,
    FakeEncoderStore,
    save_language,
    save_shipped,
    tiny_language,
)

from rad3d.core.encoders import ENCODERS
from rad3d.core.settings import Settings
from rad3d.model.encoders.base import LoadedEncoder
from rad3d.model.store import ModelStore
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.service.service import Service

pytestmark = pytest.mark.browser

CT_CLIP = replace(SMALL, image_size=96, frames=48)
"""CT-CLIP's network in small, on a fifth of its grid."""


class TwoEncoders(FakeEncoderStore):
    """The counting encoder in place of the shipped one; CT-CLIP is loaded from its files."""

    def encoder(self, encoder_id: str) -> LoadedEncoder:
        """Either."""
        if encoder_id == self.fake.id:
            return self.fake
        return ModelStore.encoder(self, encoder_id)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom S listens to the shipped encoder, Phantom M to CT-CLIP."""
    scratch = tmp_path_factory.mktemp("encoders")
    folder = scratch / "models"
    save_shipped(folder, "phantom-s", ("v3",))
    checkpoint = scratch / "CT_LiPro_v2.pt"
    torch.save(lipro_state(CT_CLIP), checkpoint)
    sizes = scratch / "sizes.json"
    sizes.write_text(json.dumps({"frames": CT_CLIP.frames}), encoding="utf-8")
    out = folder / ENCODERS["ct-clip"].source
    assert convert(checkpoint, "--out", out, "--config", sizes) == 0
    save_language(tiny_language("llama"), folder / "llms/phantom-m")
    config = VariantConfig(
        llm="phantom-m", mode="v3", llm_source="llms/phantom-m", encoder="ct-clip",
        preprocessing=CT_CLIP.grid().id, latent_dim=12, prefix_length=4, clip_length=3, layers=1,
        heads=4,
    )  # fmt: skip
    reporter = PrefixReporter(config, tiny_language("llama"))
    reporter.save_pretrained(variant_directory(folder, config.id), dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def address(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    chosen: dict[str, Any] = {"models_dir": models, "default_variant": "phantom-s/v3"}
    settings = Settings(**chosen)
    service = Service(settings, TwoEncoders(settings, CountingEncoder()))
    with running_app(service, tmp_path_factory.mktemp("app"), **chosen) as url:
        yield url


@pytest.fixture
def page(visit: Visit, address: str, chest: Path) -> Page:
    """A scan as the shipped encoder gets it; what the models write is as long as they may."""
    page = visit(address)
    upload(page, chest)
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.source?.dims[0] === 8")
    return page


def test_the_models_view_is_that_of_the_chosen_variants_encoder(page: Page) -> None:
    expect(page.locator(".r3-grid")).to_have_text(
        "As Phantom CNN gets it: 8 × 8 × 8 voxels of 8 × 8 × 8 mm"
    )
    expect(page.locator(".r3-read")).to_contain_text("8 x 8 x 8")
    page.get_by_role("radio", name="Phantom M").click()
    page.wait_for_function(f"{VIEWER}.source?.dims.join() === '96,96,48'")
    name = ENCODERS["ct-clip"].name
    expect(page.locator(".r3-grid")).to_have_text(
        f"As {name} gets it: 96 × 96 × 48 voxels of 0.75 × 0.75 × 1.5 mm"
    )
    expect(page.locator(".r3-read")).to_contain_text("LPS")
    page.get_by_role("button", name="Scan", exact=True).click()
    expect(page.locator(".r3-grid")).to_be_hidden()
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]
    page.get_by_role("radio", name="Phantom S").click()
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.source?.dims[0] === 8")


def test_a_variant_chosen_while_the_view_is_on_its_way_decides(page: Page) -> None:
    page.get_by_role("button", name="Scan", exact=True).click()
    page.evaluate(
        f"""() => {{ const viewer = {VIEWER};
        viewer.setEncoder({{id: 'ct-clip', name: 'Other'}});
        document.querySelector('[data-view=model]').click();
        viewer.setEncoder({{id: 'phantom-cnn', name: 'Phantom CNN'}}); }}"""
    )
    page.wait_for_function(f"{VIEWER}.source?.dims[0] === 8")
    expect(page.locator(".r3-busy")).to_be_hidden()


def test_a_report_by_a_variant_of_another_encoder_speaks_of_that_encoder(page: Page) -> None:
    page.get_by_role("radio", name="Phantom M").click()
    page.wait_for_function(f"{VIEWER}.source?.dims.join() === '96,96,48'")
    page.locator("#generate").click()
    expect(page.locator(".r3-report")).to_contain_text("phantom-m/v3")
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 48]
    expect(page.locator("#verdicts")).not_to_contain_text(ENCODERS["phantom-cnn"].trained_on)
