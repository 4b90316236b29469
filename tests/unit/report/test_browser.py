"""The error browser in a real browser, by keyboard and by mouse."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.results_tree import NASTY

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(chrome: Any, html: str, tmp_path: Path) -> Any:
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    chrome.set_window_size(1200, 900)
    chrome.get(path.as_uri())
    return chrome


def choose(page: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("name", name)).select_by_visible_text(text)


def only(page: Any, kind: str) -> None:
    from selenium.webdriver.common.keys import Keys

    for box in page.find_elements("css selector", "input[name=kind]"):
        if box.is_selected() != (box.get_attribute("value") == kind):
            box.send_keys(Keys.SPACE)


def sentences(page: Any) -> list[Any]:
    while (more := page.find_element("id", "more")).is_displayed():
        more.click()
    return list(page.find_elements("css selector", "#sentences > li"))


def test_kinds_filter_and_their_counts_are_the_sentences_shown(page: Any) -> None:
    choose(page, "cell", "InstructionNER <i>")
    for kind in ("correct", "type", "boundary", "spurious", "missed", "dropped"):
        only(page, kind)
        shown = sentences(page)
        count = page.find_element("css selector", f"[data-count={kind}]").text
        assert len(shown) == int(count) > 0
        assert all(item.find_elements("css selector", f".chip.k-{kind}") for item in shown)
    assert page.get_log("browser") == []


def test_type_draw_and_text_narrow_the_list(page: Any) -> None:
    only(page, "missed")
    every = len(sentences(page))
    choose(page, "type", "product")
    narrowed = sentences(page)
    assert 0 < len(narrowed) < every
    assert all("product" in item.text for item in narrowed)
    choose(page, "draw", "2")
    assert "of draw 2" in page.find_element("id", "found").text
    choose(page, "type", "all")
    only(page, "dropped")
    page.find_element("name", "text").send_keys("script")
    shown = sentences(page)
    assert shown and all(NASTY in item.find_element("class name", "words").text for item in shown)


def test_a_value_opens_its_cell_and_the_cell_opens_its_answers(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    link = page.find_element("css selector", "#table-toy td.best a.mean")
    link.send_keys(Keys.ENTER)
    section = page.find_element("id", link.get_attribute("href").partition("#")[2])
    assert section.get_attribute("open") is not None
    section.find_element("css selector", "[data-browse]").click()
    chosen = page.find_element("name", "cell")
    assert chosen.find_element("css selector", "option:checked").text == "InstructionNER <i>"


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_never_scrolls_sideways(page: Any, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    wide = page.execute_script("return document.documentElement.scrollWidth")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width
