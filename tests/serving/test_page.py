"""The page at /ui in a real browser, on the real service."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from fracray.explain.answer import NOTICE
from fracray.serving.service import Service
from tests.serving.conftest import DATA_NOTE, png

pytestmark = [pytest.mark.ray, pytest.mark.browser]

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "no chromium with chromedriver is installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def upload(browser: webdriver.Chrome, service: Service, path: Path, shows: str) -> str:
    """Open the page, give it the file at `path`, wait until it `shows` something, return all its text."""
    browser.get(f"{service.url}/ui")
    wait = WebDriverWait(browser, 90)
    field = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#radiograph input[type=file]"))[0]
    field.send_keys(str(path))
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, shows))
    return browser.find_element(By.TAG_NAME, "body").text


def test_a_radiograph_dropped_on_the_page_is_answered(
    browser: webdriver.Chrome, service: Service, tmp_path: Path
) -> None:
    data = png(2)
    path = tmp_path / "knee.png"
    path.write_bytes(data)
    text = upload(browser, service, path, ".fr-answer")
    reply = httpx.post(f"{service.url}/v1/predict", files={"file": data}, timeout=120).json()
    assert f"probability {reply['probability']:.3f}" in text
    assert f"operating point {reply['operating_point']:.3f}" in text
    assert reply["caption"].splitlines()[-1] in text
    assert NOTICE in text
    assert DATA_NOTE in text
    assert "means nothing on a real radiograph" in text
    pictures = browser.find_elements(By.CSS_SELECTOR, ".fr-pictures img")
    widths = [browser.execute_script("return arguments[0].naturalWidth", picture) for picture in pictures]
    assert len(widths) == 2
    assert min(widths) > 0


def test_a_file_that_is_no_radiograph_is_refused_with_the_reason(
    browser: webdriver.Chrome, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "letter.png"
    path.write_text("Dear colleague")
    text = upload(browser, service, path, ".fr-problem")
    assert "not a PNG, JPEG, TIFF or DICOM file" in text


def test_the_page_asks_nobody_else_for_anything(browser: webdriver.Chrome, service: Service) -> None:
    browser.get_log("performance")
    browser.get(f"{service.url}/ui")
    WebDriverWait(browser, 90).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#radiograph input"))
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith(service.url) for url in asked)
    elsewhere = [url for url in asked if not url.startswith((service.url, "data:", "blob:", "chrome:"))]
    assert elsewhere == []
