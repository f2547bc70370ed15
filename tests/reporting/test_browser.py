"""The page in a real headless browser: it draws, switches, sorts and filters, by keyboard too, and fits a phone.

Skipped where there is no Chromium with its driver (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import hostile_study
from studies import example_study

from efflab.reporting.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver here")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(example_study(), tmp_path_factory.mktemp("page") / "x").paths[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(1200, 900)
    browser.get(page.as_uri())
    WebDriverWait(browser, 20).until(
        lambda driver: titles(driver) and driver.find_elements("css selector", ".vega-embed")
    )
    return browser


def test_no_script_of_a_study_runs(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    written = write_report(hostile_study(), tmp_path / "x").paths[0]
    browser.get(written.as_uri())
    WebDriverWait(browser, 60).until(lambda driver: driver.find_elements("css selector", ".vega-embed svg"))
    assert browser.title.endswith(": efflab report")
    browser.get((written.parent / "frontier.svg").as_uri())
    assert browser.execute_script("return document.title") != "ran"


def test_a_script_that_got_into_a_page_would_not_run(browser: Any, page: Path, tmp_path: Path) -> None:
    planted = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\"></main>"
    (tmp_path / "index.html").write_text(page.read_text().replace("</main>", planted))
    browser.get((tmp_path / "index.html").as_uri())
    assert browser.title == "synthetic: efflab report"
    told = [one["message"] for one in browser.get_log("browser")]
    assert any("Content Security Policy" in one for one in told)


def test_pages_that_share_a_library_draw(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    written = write_report(example_study(), tmp_path / "page", library=tmp_path / "charts.js").paths[0]
    browser.get(written.as_uri())
    WebDriverWait(browser, 60).until(lambda driver: driver.find_elements("css selector", ".vega-embed svg"))
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def titles(browser: Any) -> str:
    return str(browser.execute_script("return document.querySelector('#frontier svg').textContent"))


def column(browser: Any, index: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#rows tbody tr')].map(row => row.children[arguments[0]].dataset.value)"
    )
    return list(browser.execute_script(script, index))


def test_it_loads_nothing_and_complains_of_nothing(opened: Any) -> None:
    fetched = opened.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in fetched if not name.startswith(("data:", "blob:"))] == []
    assert [one for one in opened.get_log("browser") if one["level"] == "SEVERE"] == []


def test_the_first_figure_is_there_before_any_script(page: Path) -> None:
    before = page.read_text().split("<script")[0]
    assert "Error against work" in before
    assert "<svg" in before


def test_the_axis_is_switched(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select, WebDriverWait

    choice = Select(opened.find_element("id", "view"))
    names = [option.text for option in choice.options]
    assert {"Error against measured time, on torch, batch 1", "Error against bit-operations, on onnxruntime"} <= {
        *names
    }
    for name in names:
        choice.select_by_visible_text(name)
        WebDriverWait(opened, 10).until(lambda driver, wanted=name: wanted in titles(driver))


def test_hovering_tells_the_details(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    marks = opened.find_elements("css selector", "#frontier svg path[aria-label*='technique: quantize_static']")
    assert marks
    ActionChains(opened).move_to_element(marks[0]).perform()
    tip = WebDriverWait(opened, 5).until(lambda driver: driver.find_element("css selector", ".vg-tooltip.visible"))
    assert "speed-up" in tip.text
    assert "shift" in tip.text


def test_the_table_sorts_by_keyboard_and_filters(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    heads = opened.find_elements("css selector", "#rows th")
    index = next(number for number, head in enumerate(heads) if head.text.startswith("ms"))
    heads[index].find_element("css selector", "button").send_keys(Keys.ENTER)
    numbers = [float(value) for value in column(opened, index) if value]
    assert numbers == sorted(numbers)
    assert heads[index].get_attribute("aria-sort") == "ascending"
    heads[index].find_element("css selector", "button").send_keys(Keys.ENTER)
    numbers = [float(value) for value in column(opened, index) if value]
    assert numbers == sorted(numbers, reverse=True)
    opened.find_element("id", "filter").send_keys("prune50-int8")
    shown = [row.text for row in opened.find_elements("css selector", "#rows tbody tr") if row.is_displayed()]
    assert shown
    assert all("prune50-int8" in row for row in shown)


def test_it_fits_a_phone(opened: Any) -> None:
    opened.set_window_size(500, 900)
    wide = opened.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]


def test_print_hides_what_only_a_screen_can_use(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = opened.execute_script("return getComputedStyle(document.getElementById('view')).display")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert hidden == "none"


def test_the_page_of_a_validation_sorts_and_complains_of_nothing(browser: Any) -> None:
    browser.get((Path(__file__).parents[2] / "reports" / "validation" / "onnxruntime" / "index.html").as_uri())
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    (table, *_) = [one for one in browser.find_elements("css selector", "table.wrap") if "sqnr_db" in one.text]
    head = next(one for one in table.find_elements("css selector", "th button") if one.text == "sqnr_db")
    place = [one.text for one in table.find_elements("css selector", "th button")].index("sqnr_db")
    head.click()
    shown = [
        row.find_elements("css selector", "td")[place].text for row in table.find_elements("css selector", "tbody tr")
    ]
    numbers = [float(one) for one in shown if one and one != "equal"]
    assert len(numbers) > 20
    assert numbers == sorted(numbers)
