"""The leaderboard as a person meets it: in a real browser, from a file:// address, without any network."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import board_site, built, hostile_site
from helpers.results import made_cell, made_result, sized

pytest.importorskip("jinja2", reason="the site needs Jinja2: pip install 'metabench[site]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return board_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_site(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="no Selenium: pip install selenium")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--window-size=1500,1200"):  # fmt: skip
        options.add_argument(flag)
    downloads = str(tmp_path_factory.mktemp("downloads"))
    options.add_experimental_option("prefs", {"download.default_directory": downloads})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.downloads = Path(downloads)
    yield chrome
    chrome.quit()


def opened(browser: Any, page: Path, fragment: str = "") -> Any:
    browser.get("about:blank")
    browser.get(page.as_uri() + fragment)
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready || !window.Tabulator"))
    return browser


def wait(condition: Any, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def column(browser: Any, field: str) -> list[str]:
    # read at once: between two calls the table may draw its rows anew
    script = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.innerText.trim())"
    return list(browser.execute_script(script, f'.tabulator-row [tabulator-field="{field}"]'))


def scores(browser: Any) -> list[float]:
    return [float(text.split()[0]) for text in column(browser, "score")]


def rising(values: list[float]) -> bool:
    return len(values) > 1 and values == sorted(values)


def title(browser: Any, field: str) -> Any:
    return browser.find_element(
        "css selector", f'.tabulator-col[tabulator-field="{field}"] .tabulator-col-title'
    )


def filter_box(browser: Any, field: str) -> Any:
    return browser.find_element("css selector", f'.tabulator-col[tabulator-field="{field}"] input')


def shown(browser: Any) -> str:
    return str(browser.find_element("id", "status").text)


def test_the_page_of_a_suite_shows_tiers_intervals_references_and_labels(browser: Any, site: Path) -> None:
    opened(browser, site / "made-v1.html")

    assert shown(browser) == "4 of 4 rows"
    assert set(column(browser, "method")) == {"maml", "protonet", "nearest-neighbour"}
    assert all(re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d %", text) for text in column(browser, "score"))
    assert "agrees" in "".join(column(browser, "published"))
    assert "transductive" in "".join(column(browser, "labels"))
    assert column(browser, "rank") == ["1", "1", "3", "1"]
    body = browser.find_element("tag name", "main").text
    for words in (
        "@misc{metabench-made-v1",
        "Strong scaling",
        "metabench run made",
        "Tier: in order",
    ):
        assert words in body


def test_a_click_sorts_and_a_second_one_turns_round(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html")

    title(browser, "score").click()
    wait(lambda: rising(scores(browser)))
    title(browser, "score").click()
    wait(lambda: rising(scores(browser)[::-1]))


def test_a_filter_narrows_the_rows_and_the_address_keeps_it(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html")

    filter_box(browser, "method").send_keys("method1")
    wait(lambda: shown(browser) == "10 of 60 rows")
    title(browser, "score").click()
    wait(lambda: "sort=score" in browser.current_url)
    address = browser.current_url
    rows = column(browser, "method")

    browser.get("about:blank")
    browser.get(address)
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    wait(lambda: shown(browser) == "10 of 60 rows")
    assert column(browser, "method") == rows
    assert filter_box(browser, "method").get_attribute("value") == "method1"


def test_a_number_filter_asks_for_at_least_or_at_most(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html", "#f.score=79")
    wait(lambda: 0 < len(column(browser, "score")) < 5)
    assert all(score >= 79 for score in scores(browser))

    box = filter_box(browser, "score")
    for asked in ("<=51.5", "≤ 51.5"):
        box.clear()
        box.send_keys(asked)
        wait(lambda: 0 < len(column(browser, "score")) < 10 and max(scores(browser)) <= 51.5)
    wait(lambda: "f.score=" in browser.current_url)
    count = len(column(browser, "score"))
    opened(browser, site / "other-v1.html", "#" + browser.current_url.partition("#")[2])
    wait(lambda: len(column(browser, "score")) == count)


def test_a_strange_address_breaks_nothing(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html", "#f.nothing=1&sort=evil:asc,score:up&<script>")

    assert shown(browser) == "60 of 60 rows"
    assert not severe(browser)


def test_what_is_shown_is_downloaded_as_csv(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html", "#f.method=method2")
    wait(lambda: shown(browser) == "10 of 60 rows")

    browser.find_element("id", "csv").click()

    file = browser.downloads / "other-v1.csv"
    wait(file.exists)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["method"] for row in rows] == column(browser, "method")
    assert len(rows) == 10


@pytest.fixture(scope="module")
def mixed_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two metrics, with every table and a name that a spreadsheet would run."""
    results = [made_result(made_cell("maml", s, label="=1+1", target=0.6, test_tasks=60)) for s in range(3)]
    error = made_result(made_cell("cnp", dataset="sinusoid", ways=1, shots=10, test_tasks=60), 0.65)
    assert error.scores is not None
    squared = replace(error.scores, metric="mse", unit="", higher_is_better=False)
    results.append(replace(error, scores=squared))
    for backend, device in (("cpu", "cpu"), ("cuda", "cuda:0")):
        result = made_result(made_cell("anil", backend=backend, test_tasks=60), exact=True)
        results.append(replace(result, environment={**result.environment, "device": device}))
    for ranks in (1, 2):
        cell = made_cell("reptile", backend="cpu-ranks", ranks=ranks, tasks=8 * ranks, group="scaling-weak",
                         test_tasks=60)  # fmt: skip
        results.append(made_result(cell))
    results += [sized(shots, shots < 5) for shots in (1, 5)]
    return built(results, tmp_path_factory.mktemp("mixed"))


def test_a_page_tells_metrics_apart_and_has_every_table(browser: Any, mixed_site: Path) -> None:
    opened(browser, mixed_site / "made-v1.html")

    assert {"accuracy", "mse"} <= set(column(browser, "metric"))
    headings = [heading.text for heading in browser.find_elements("tag name", "h2")]
    for title in ("Time to target", "Weak scaling", "Change of device", "Largest that fits", "Cost"):
        assert title in headings


def test_one_metric_needs_no_column(browser: Any, site: Path) -> None:
    opened(browser, site / "other-v1.html")

    assert column(browser, "metric") == []


def test_a_download_runs_no_formula_and_has_the_interval(browser: Any, mixed_site: Path) -> None:
    opened(browser, mixed_site / "made-v1.html")

    browser.find_element("id", "csv").click()

    file = browser.downloads / "made-v1.csv"
    wait(file.exists)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    (row,) = [row for row in rows if "1+1" in row["method"]]
    assert row["method"] == "'=1+1"
    assert 0 < float(row["half of the 95 % interval"]) < 5
    assert float(row["score"]) > 50


def test_the_keyboard_reaches_and_sorts_the_table(browser: Any, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, site / "other-v1.html")

    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        if active.get_attribute("role") == "button" and active.text == "score":
            break
    else:
        raise AssertionError("the title of the column score is never reached by Tab")
    active.send_keys(Keys.ENTER)
    wait(lambda: rising(scores(browser)))
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(lambda: rising(scores(browser)[::-1]))


def severe(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def requests(browser: Any) -> set[str]:
    """Every address that was asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {message["params"]["request"]["url"] for message in sent}


def test_no_page_logs_an_error_or_asks_any_host(browser: Any, site: Path) -> None:
    requests(browser), severe(browser)

    pages = sorted(site.glob("*.html"))
    for page in pages:
        opened(browser, page)

    assert len(pages) == 5
    asked = requests(browser)
    assert len(asked) > len(pages)
    assert {url.split(":")[0] for url in asked} <= {"file", "about", "data"}
    assert severe(browser) == []


def test_light_and_dark_follow_the_reader(browser: Any, site: Path) -> None:
    def colours(scheme: str) -> tuple[str, str]:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        style = "return getComputedStyle(document.querySelector('.tabulator-row')).{}"
        return (
            browser.execute_script(style.format("backgroundColor")),
            browser.execute_script(style.format("color")),
        )

    opened(browser, site / "made-v1.html")
    light, dark = colours("light"), colours("dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def brightness(text: str) -> int:
        return sum(int(part) for part in re.findall(r"\d+", text)[:3])

    assert brightness(light[0]) > 600 > 300 > brightness(light[1])
    assert brightness(dark[0]) < 150 < 600 < brightness(dark[1])


def test_a_result_full_of_markup_is_shown_as_text(browser: Any, hostile: Path) -> None:
    severe(browser)
    opened(browser, hostile / "made-v1.html")

    assert browser.execute_script("return document.title") == "made v1 · metabench"
    assert "<img src=x onerror=alert(1)>" in column(browser, "method")[0]
    assert (
        browser.execute_script(
            "return document.querySelectorAll('#table img, main script:not([src]):not([type])').length"
        )
        == 0
    )
    opened(browser, hostile / "failures.html")
    assert "<img src=x onerror=alert(1)>" in browser.find_element("tag name", "main").text
    assert severe(browser) == []
