"""The leaderboard as a person meets it: in a real browser, from a file:// address, without any network."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from made_results import made_board, made_cell, made_result, store
from metabench import Result
from metabench.cli import metabench
from metabench.errors import RequestError
from test_reports import HOSTILE
from test_sizes import sized

pytest.importorskip("jinja2", reason="the site needs Jinja2: pip install 'metabench[site]'")


def built(results: list[Result], folder: Path, *options: str) -> Path:
    store(folder / "results", results)
    arguments = [str(folder / "results"), "-o", str(folder / "site"), *options]
    found = CliRunner().invoke(
        metabench,
        ["leaderboard", *arguments],
        standalone_mode=False,
        env={"METABENCH_CACHE": str(folder / "c")},
    )
    if found.exception is not None:
        raise found.exception
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    more = [made_result(made_cell("protonet", s, dataset="mini-imagenet"), 0.49) for s in range(3)]
    many = [
        made_result(made_cell(f"method{i:02d}", suite="other", test_tasks=60), 0.5 + i / 200)
        for i in range(60)
    ]
    return built([*made_board(), *more, *many], tmp_path_factory.mktemp("site"))


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
        found = condition()
        if found:
            return found
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
        one = made_result(made_cell("anil", backend=backend, test_tasks=60), exact=True)
        results.append(replace(one, environment={**one.environment, "device": device}))
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
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one for one in told if one["method"] == "Network.requestWillBeSent"]
    return {one["params"]["request"]["url"] for one in sent}


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


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = HOSTILE + "</script><script>document.title='taken'</script>"
    cells = [made_cell(f"{text}{i}", label=text, dataset=text, network=text, plugin=text) for i in range(2)]
    good = [made_result(cell, machine=text, notes=(text,), command=text) for cell in cells]
    failed = made_result(
        made_cell("x"), status="failed", reason=text, log_tail=(text,), scores=None, training=None
    )
    folder = tmp_path_factory.mktemp("hostile")
    for i, result in enumerate([*good, failed]):  # names of markup make no file names
        file = folder / "results" / "made-v1" / f"{i}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result.to_json()))
    return built([], folder)


def test_a_result_full_of_markup_is_shown_as_text(browser: Any, hostile_site: Path) -> None:
    severe(browser)
    opened(browser, hostile_site / "made-v1.html")

    assert browser.execute_script("return document.title") == "made v1 · metabench"
    assert "<img src=x onerror=alert(1)>" in column(browser, "method")[0]
    assert (
        browser.execute_script(
            "return document.querySelectorAll('#table img, main script:not([src]):not([type])').length"
        )
        == 0
    )
    opened(browser, hostile_site / "failures.html")
    assert "<img src=x onerror=alert(1)>" in browser.find_element("tag name", "main").text
    assert severe(browser) == []


def test_no_page_holds_markup_from_a_result(hostile_site: Path) -> None:
    class Found(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.scripts: list[dict[str, str | None]] = []
            self.images: list[str | None] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "script":
                self.scripts.append(dict(attrs))
            if tag == "img":
                self.images.append(dict(attrs)["src"])

    for page in hostile_site.glob("*.html"):
        found = Found()
        found.feed(page.read_text())
        assert all("src" in one or one.get("type") == "application/json" for one in found.scripts)
        assert all(src is not None and src.startswith("plots/") for src in found.images)


def test_every_row_links_to_its_raw_results_and_the_command_that_repeats_them(site: Path) -> None:
    text = (site / "made-v1.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]

    assert len(data["rows"]) == 4
    for row in data["rows"]:
        assert len(row["raw"]) == 3
        for _, file in row["raw"]:
            assert json.loads((site / file).read_text())["status"] == "ok"
        assert re.fullmatch(r"metabench reproduce results/made-v1/[\w.-]+\.json", row["reproduce"])


def test_every_local_link_leads_somewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#:]+)"', page.read_text()):
            assert (site / target).exists(), f"{page.name}: {target}"


def test_failures_are_a_page(site: Path) -> None:
    text = (site / "failures.html").read_text()

    assert "out-of-memory" in text
    assert "the host has no memory left" in text


def test_the_same_results_make_the_same_site(tmp_path: Path) -> None:
    results = made_board(test_tasks=60)
    once, twice = (built(results, tmp_path / name) for name in "ab")

    for file in once.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (twice / file.relative_to(once)).read_bytes(), file


def test_an_empty_folder_makes_no_site(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()

    with pytest.raises(RequestError, match="nothing to show"):
        built([], tmp_path)


def test_many_suites_have_a_picture_each(tmp_path: Path) -> None:
    results = [made_result(made_cell(suite=f"s{i}", test_tasks=20)) for i in range(3)]

    few = built(results, tmp_path / "few", "--pictures", "2")
    none = built(results, tmp_path / "none", "--pictures", "0")

    for i in range(3):
        page = (few / f"s{i}-v1.html").read_text()
        assert page.count("<img") == 1
        assert "shows 1 picture at most" in page
        assert "<img" not in (none / f"s{i}-v1.html").read_text()


def test_a_broken_file_is_told_on_the_first_page(tmp_path: Path) -> None:
    (path, *_) = store(tmp_path / "results", made_board(test_tasks=60))
    (path.parent / "foreign.json").write_text("{")

    site = built(made_board(test_tasks=60), tmp_path, "--pictures", "0")

    text = (site / "index.html").read_text()
    assert "<li>foreign.json: " in text
    assert str(tmp_path) not in text


def test_times_of_several_machines_are_not_shown_without_a_word(tmp_path: Path) -> None:
    here, there = (made_result(made_cell(n, test_tasks=60), machine=n) for n in ("here", "there"))
    one = built([here], tmp_path / "one", "--pictures", "0")
    two = built([here, there], tmp_path / "two", "--pictures", "0")

    assert "Several machines" not in (one / "made-v1.html").read_text()
    assert "Several machines" in (two / "made-v1.html").read_text()


def test_the_name_of_a_foreign_file_cannot_move_the_terminal(tmp_path: Path) -> None:
    (path,) = store(tmp_path / "results", [made_result()])
    (path.parent / "foreign\x1b[2J.json").write_text("{}")

    arguments = [str(tmp_path / "results"), "-o", str(tmp_path / "site"), "--pictures", "0"]
    found = CliRunner().invoke(
        metabench, ["leaderboard", *arguments], env={"METABENCH_CACHE": str(tmp_path / "c")}
    )

    assert "foreign [2J.json" in found.output
    assert "\x1b" not in found.output
