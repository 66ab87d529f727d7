"""The page in a real browser: `make test-browser` installs Debian's Chromium and axe-core, and runs these."""

import os
import shutil
import time
from pathlib import Path

import pytest

from phf.report import report
from report.test_report import OBJECTIVES, make_run

AXE = Path(os.environ.get("PHF_AXE", "node_modules/axe-core/axe.min.js"))
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None or shutil.which("chromium") is None, reason="no Chromium; `make test-browser` installs it"),
]
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium; `make test-browser` installs it")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return report([make_run(folder / "runs" / name, name, n=120) for name in OBJECTIVES], folder / "report")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking")
    for flag in (*flags, "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(page.as_uri())
    return browser


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def choose(browser, name, value):
    script = """const field = document.querySelector(`#controls [name=${arguments[0]}]`);
        if (field.type === 'checkbox') field.checked = arguments[1]; else field.value = arguments[1];
        field.dispatchEvent(new Event('input', {bubbles: true}));"""
    browser.execute_script(script, name, value)
    time.sleep(0.4)


def resize(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def keys(browser, *pressed):
    for key in pressed:
        browser.switch_to.active_element.send_keys(key)
        time.sleep(0.15)


def test_there_is_no_script_error_and_nothing_is_asked_of_the_network(opened):
    assert [line for line in opened.get_log("browser") if line["level"] == "SEVERE"] == []
    requests = [line["message"] for line in opened.get_log("performance") if '"Network.requestWillBeSent"' in line["message"]]
    assert [request for request in requests if '"url":"http' in request] == []
    assert len(find(opened, "#samples li")) == 20


def test_samples_are_filtered_by_run_scenario_and_words(opened):
    everything = find(opened, "#count")[0].text
    choose(opened, "run", "0")
    assert find(opened, "#count")[0].text == "120 samples" != everything
    choose(opened, "scenario", "2")
    assert "Synthetic prompt" in find(opened, "#samples .prompt")[0].text
    choose(opened, "found", True)
    assert all(find(item, "mark") for item in find(opened, "#samples li"))
    choose(opened, "search", "no such words anywhere")
    assert find(opened, "#count")[0].text == "0 samples"


def test_two_runs_stand_side_by_side_on_the_same_prompt(opened):
    choose(opened, "run", "0")
    choose(opened, "scenario", "2")
    choose(opened, "beside", "2")
    pairs = find(opened, "#samples li.pair")
    assert len(pairs) == 20
    for pair in pairs[:5]:
        assert [name.text for name in find(pair, "header b")] == ["mle", "conditional"]
        prompts = [prompt.text for prompt in find(pair, ".prompt")]
        assert prompts[0] == prompts[1] != ""


def test_the_address_holds_the_state(opened, page):
    choose(opened, "run", "1")
    choose(opened, "order", "best")
    opened.execute_script("arguments[0].click()", find(opened, "#pages button")[1])
    address, first = opened.current_url, find(opened, "#samples .text")[0].text
    assert address.startswith(page.as_uri() + "#samples&")
    opened.get("about:blank")
    opened.get(address)
    assert find(opened, "#samples .text")[0].text == first
    assert find(opened, "#pages span")[0].text.startswith("2 of")


def test_the_keyboard_turns_pages_and_walks_samples(opened):
    keys(opened, "\ue014")  # right arrow
    assert find(opened, "#pages span")[0].text.startswith("2 of")
    keys(opened, "\ue012")  # left arrow
    assert find(opened, "#pages span")[0].text.startswith("1 of")
    keys(opened, "j", "j", "k")
    texts = find(opened, "#samples .text")
    assert opened.switch_to.active_element == texts[0]
    keys(opened, "c")
    assert find(opened, "#samples .copy")[0].text == "Copied"


def test_scores_have_a_histogram_and_tables_can_be_copied(opened):
    choose(opened, "scenario", "4")
    assert len(find(opened, "#histogram i")) == 24
    button = find(opened, "main section button.copy")[0]
    opened.execute_script("window.copied = null; navigator.clipboard.writeText = async (text) => { window.copied = text; };")
    opened.execute_script("arguments[0].click()", button)
    copied = opened.execute_script("return window.copied").splitlines()
    assert copied[0].startswith("| Run |")
    assert set(copied[1]) == set("| -")
    assert copied[2].startswith("| mle")
    assert len({line.count("|") for line in copied}) == 1


def test_hostile_samples_are_inert(opened):
    choose(opened, "search", "hacked")
    assert find(opened, "#samples li")
    assert opened.execute_script("return window.hacked") is None
    assert find(opened, "#samples img, #samples script") == []


def test_it_prints_with_its_details_open(opened):
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert find(opened, "details:not([open])") == []
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert find(opened, "details[open]") == []
    pdf = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 50_000


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core; `make test-browser` installs it")
def test_axe_finds_nothing_serious(opened, theme, width):
    resize(opened, width)
    try:
        opened.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        opened.execute_script(AXE.read_text(encoding="utf-8"))
        found = opened.execute_async_script("const done = arguments[0]; axe.run().then((result) => done(result.violations));")
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    serious = [
        (one["id"], one["help"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_narrow_page_does_not_scroll_sideways(opened):
    resize(opened, 400)
    try:
        wide = opened.execute_script("return document.documentElement.scrollWidth")
        shown = opened.execute_script("return getComputedStyle(document.querySelector('td')).display")
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 400
    assert shown == "grid"
