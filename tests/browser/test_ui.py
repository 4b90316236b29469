"""MLflow's page on a real store in a real browser: runs listed, two compared, metrics and params shown."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fewtable.files import read_json
from fewtable.specs import TrackingSpec
from fewtable.tracking import Outcome, track_all, ui_command
from fixtures.mlflow_store import wait_for
from fixtures.results_tree import write_results_tree

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium or chromedriver"
    ),
]
KEYS = ["toy/2-shot/instructionner/smollm2", "toy/2-shot/lc-bert/minilm"]
WAIT = 90
SCROLL = """for (const e of document.querySelectorAll("*"))
  if (e.scrollHeight > e.clientHeight + 5)
    e.scrollTop = e.scrollTop + e.clientHeight + 5 > e.scrollHeight ? 0 : e.scrollTop + 0.8 * e.clientHeight"""
"""Long tables of the page hold only the rows in sight."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ui") / "results"
    write_results_tree(folder)
    return folder


@pytest.fixture(scope="module")
def tracked(results: Path) -> Outcome:
    return track_all(results, TrackingSpec(uri=f"sqlite:///{results}/mlflow.db"), {})


@pytest.fixture(scope="module")
def page(results: Path, tracked: Outcome) -> Iterator[str]:
    with socket.socket() as probe, pytest.MonkeyPatch.context() as patch:
        probe.bind(("127.0.0.1", 0))
        patch.setenv("PORT", str(probe.getsockname()[1]))
        command, environment, runs = ui_command(results, TrackingSpec(uri=f"sqlite:///{results}/mlflow.db"))
        address = runs.partition("/#")[0]
    with (results / "ui.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(address + "/health", process)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-proxy-server",
        "--window-size=1500,1100",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    yield driver
    driver.quit()


@pytest.fixture
def see(browser: Any, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Open an address, wait until all of some texts are on the page, return the page's text.

    With $FEWTABLE_SHOTS set, a picture of the page is left in that folder.
    """
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    def open_and_wait(address: str, *texts: str) -> str:
        browser.get(address)
        seen: list[str] = []

        def shown(driver: Any) -> bool:
            seen.append(driver.find_element("tag name", "body").text)
            found = all(any(t in text for text in seen) for t in texts)
            if not found:
                driver.execute_script(SCROLL)
            return found

        wait = WebDriverWait(browser, WAIT, ignored_exceptions=[StaleElementReferenceException])
        try:
            wait.until(shown)
        except TimeoutException:
            pytest.fail(f"not shown: {[t for t in texts if not any(t in s for s in seen)]} in\n{seen[-1]}")
        finally:
            if folder := os.environ.get("FEWTABLE_SHOTS"):
                browser.save_screenshot(str(Path(folder) / f"{request.node.name}.png"))
        return "\n".join(seen)

    return open_and_wait


def figure(results: Path, key: str, metric: str) -> float:
    """Return a cell's metric."""
    value = read_json(results / "cells" / f"{key}.json")["metrics"][metric]["mean"]
    assert isinstance(value, float)
    return value


def experiment(tracked: Outcome, results: Path) -> str:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{results}/mlflow.db")
    return str(client.get_run(tracked.entries[KEYS[0]]["run_id"]).info.experiment_id)


def test_the_runs_are_listed(see: Callable[..., str], page: str, results: Path, tracked: Outcome) -> None:
    names = ["instructionner · smollm2", "lc-bert · minilm", "lexicon · none"]
    see(f"{page}/#/experiments/{experiment(tracked, results)}/runs", *names)


def test_a_run_shows_metrics_and_params(see: Callable[..., str], page: str, results: Path, tracked: Outcome) -> None:
    run = tracked.entries[KEYS[0]]["run_id"]
    address = f"{page}/#/experiments/{experiment(tracked, results)}/runs/{run}"
    value = str(figure(results, KEYS[0], "strict.f1"))[:6]
    see(address, "strict.f1", value, "train.lr", "0.0001", "toy/test")


def test_two_runs_are_compared(see: Callable[..., str], page: str, results: Path, tracked: Outcome) -> None:
    runs = ",".join(f'"{tracked.entries[key]["run_id"]}"' for key in KEYS)
    address = f'{page}/#/compare-runs?runs=[{runs}]&experiments=["{experiment(tracked, results)}"]'
    figures = [f"{figure(results, key, 'strict.f1'):.4g}" for key in KEYS]
    text = see(address, "Comparing 2 Runs", "strict.f1", "train.epochs", *figures)
    assert figures[0] != figures[1]
    assert "instructionner · smollm2" in text


def test_a_draws_loss_curve_is_drawn(
    see: Callable[..., str], browser: Any, page: str, results: Path, tracked: Outcome
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    run = tracked.entries[KEYS[1]]["draws"]["1"]
    see(f"{page}/#/experiments/{experiment(tracked, results)}/runs/{run}/model-metrics", "train/loss")
    WebDriverWait(browser, WAIT).until(lambda d: d.find_elements("css selector", ".js-plotly-plot .scatterlayer"))


def test_the_artifacts_are_served(see: Callable[..., str], page: str, results: Path, tracked: Outcome) -> None:
    run = tracked.entries[KEYS[0]]["run_id"]
    address = f"{page}/#/experiments/{experiment(tracked, results)}/runs/{run}/artifacts"
    see(address, "confusion.png", "predictions.html", "cell.json")
