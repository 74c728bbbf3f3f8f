"""The page in a real browser: what it shows, that it can be used by mouse, key and finger, and that it harms nobody."""

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks.benchmark.comparison.page.page import as_html
from tests.tasks.benchmark.reports import ATTENTIONS, ENTRIES, HOSTILE, make_empty, make_partial, make_report

MAKERS = {"whole": make_report, "partial": make_partial, "empty": make_empty}
VERDICTS = len(ATTENTIONS) - 1
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


class Visit:
    """A page of the browser, and all that went wrong or out of it."""

    def __init__(self, context: Any, path: Path) -> None:
        self.page, self.problems, self.requests = context.new_page(), [], []
        self.page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator(".chart:empty").first.wait_for(state="detached")

    def rows(self, column: int, body: int = 0) -> list[str]:
        """A column's texts in a body of the leaderboard, from top to bottom."""
        texts = "([body, column]) => [...board.tBodies[body].rows].slice(1).map(row => row.cells[column].innerText)"
        return self.page.evaluate(texts, [body, column])

    def sort_by(self, title: str) -> None:
        self.page.locator("#board thead button", has_text=title).click()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in MAKERS.items():
        (folder / f"{name}.html").write_text(as_html(make()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in MAKERS}


@pytest.fixture
def visit(browser: Any, files: dict[str, Path]) -> Iterator[Callable[..., Visit]]:
    """Opens a page; at the end nothing may have gone wrong, and nothing been asked for but the file."""
    visits: list[tuple[Any, Visit, Path]] = []

    def go(name: str = "whole", **options: Any) -> Visit:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        visits.append((context, Visit(context, files[name]), files[name]))
        return visits[-1][1]

    yield go
    for context, visited, path in visits:
        context.close()
        assert visited.problems == []
        assert visited.requests == [path.as_uri()]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("width", [1280, 360])
def test_it_opens_without_a_sound_and_fits_its_window(visit: Callable[..., Visit], name: str, width: int):
    page = visit(name, viewport={"width": width, "height": 740}).page
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#board tbody tr:not(.group)").count() == len(ENTRIES) * len(ATTENTIONS)
    panels = page.locator("#panels .panel")
    assert panels.count() == len(ENTRIES)
    assert (panels.first.locator("svg").count() == 1) == (name != "empty")


def test_a_wide_table_scrolls_in_its_own_box(visit: Callable[..., Visit]):
    page = visit(**PHONE).page
    box = page.locator("#leaderboard .scroll")
    widths = box.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert widths[0] > 2 * widths[1]
    box.evaluate("box => { box.scrollLeft = 300; }")
    name = page.locator("#board tbody th[scope=row]").first.bounding_box()
    heading = page.locator("#board .group div").first.bounding_box()
    assert 0 <= name["x"] < 30  # the names stay where they can be read
    assert 0 <= heading["x"] < 30
    assert heading["x"] + heading["width"] <= 360


def numbers(texts: list[str]) -> list[float]:
    return [float(re.search(r"[\d,.]+", text)[0].replace(",", "")) for text in texts]


@pytest.mark.parametrize(("title", "column"), [("Quality", 1), ("FLOPs", 3), ("Training", 4), ("Peak memory", 6)])
def test_sorting_orders_numbers_as_numbers_in_each_task(visit: Callable[..., Visit], title: str, column: int):
    visited = visit()
    head = visited.page.locator("#board thead th").nth(column)
    for body in range(len(ENTRIES)):
        assert visited.rows(0, body)[0].startswith("full")
    for order in ("ascending", "descending"):
        visited.sort_by(title)
        assert head.get_attribute("aria-sort") == order
        for body in range(len(ENTRIES)):
            values = numbers(visited.rows(column, body))
            assert len(values) == len(ATTENTIONS)
            assert values == sorted(values, reverse=order == "descending")
    assert visited.page.locator("#board th[aria-sort]:not([aria-sort=none])").count() == 1
    assert "sorted by" in visited.page.locator("#shown").inner_text()


def test_sorting_a_thousand_comes_after_nine_hundred_and_a_row_stays_whole(visit: Callable[..., Visit]):
    visited = visit()
    before = visited.rows(4, 3)
    assert [text.split()[0] for text in before][:2] == ["489", "777"]
    visited.sort_by("Training")
    after = visited.rows(4, 3)
    assert numbers(after) == [489, 777, 872, 1154]
    assert visited.rows(0, 3)[3].startswith("linear")
    assert visited.page.locator("#board tbody").nth(3).locator("tr").first.get_attribute("class") == "group"


def test_sorting_by_names_by_verdicts_and_by_key(visit: Callable[..., Visit]):
    visited = visit()
    visited.page.locator("#board thead button").first.focus()
    visited.page.keyboard.press("Enter")
    assert [text.split()[0] for text in visited.rows(0)] == sorted(ATTENTIONS)
    visited.page.keyboard.press("Space")
    assert [text.split()[0] for text in visited.rows(0)] == sorted(ATTENTIONS, reverse=True)
    visited.sort_by("Against full")
    assert [text.split()[0] for text in visited.rows(0, 1)] == ["full", "linear", "sparse", "longformer"]  # 0, 1, 2, 2


def test_cells_without_a_number_stand_last_in_both_orders(visit: Callable[..., Visit]):
    visited = visit("partial")
    for _ in range(2):
        visited.sort_by("FLOPs")
        assert visited.rows(0)[-1].startswith("linear")


def test_the_filter_acts_on_the_whole_page(visit: Callable[..., Visit]):
    page = visit().page

    def shown(selector: str) -> int:
        return page.locator(f"{selector} >> visible=true").count()

    page.get_by_role("combobox", name="Task").select_option("asr")
    assert shown("#board tr:not(.group):not(thead tr)") == 2 * len(ATTENTIONS)
    page.get_by_role("combobox", name="Inputs").select_option("long")
    assert shown("#board tr:not(.group):not(thead tr)") == len(ATTENTIONS)
    assert page.locator("#board .group >> visible=true").inner_text().startswith("spoken sentences, 650 tokens")
    assert page.locator("#shown").inner_text() == "4 of 32 cells shown"
    assert shown("#panels .panel") == shown("#cells section") == 1
    assert shown("#losses .losses li") == 1
    page.get_by_role("combobox", name="Task").select_option("")
    page.get_by_role("combobox", name="Inputs").select_option("")
    assert shown("#board tr:not(.group):not(thead tr)") == len(ENTRIES) * len(ATTENTIONS)
    assert shown("#panels svg") == len(ENTRIES)


def test_the_best_are_marked_and_troubles_are_told(visit: Callable[..., Visit]):
    page = visit("partial").page
    rows = page.locator("#board tbody").first.locator("tr:not(.group)")
    assert [row.locator("td:nth-child(2).best").count() for row in rows.all()] == [1, 0, 0, 0]
    assert "failed: seed 1: loss is nan in epoch 3" in rows.nth(1).inner_text()
    assert "cost: the process was killed for memory" in rows.nth(2).inner_text()
    assert "1 seed" in rows.nth(3).inner_text()
    missing = page.locator("#board .reason", has_text="missing: no run has finished")
    assert missing.count() == 2 * len(ATTENTIONS)
    assert "Not drawn: linear (cost: the process was killed for memory)" in page.locator(".panel").first.inner_text()
    assert page.locator(".facts").inner_text().startswith("22 of 32 cells done\n2 failed\n8 missing")


def tip_of(page: Any) -> str | None:
    tip = page.locator("#tip")
    return tip.inner_text() if tip.is_visible() else None


FULL = "full\n97.2 ± 0.3 %, 3 seeds\nFLOPs: 19.0 MFLOPs a sample"


def test_a_tooltip_by_hovering(visit: Callable[..., Visit]):
    page = visit().page
    page.locator(".panel").first.locator(".point[aria-label^=full]").hover(force=True)
    assert tip_of(page) == FULL
    page.mouse.move(5, 5)
    assert tip_of(page) is None
    page.get_by_text("latency", exact=True).click()
    page.locator(".panel").first.locator(".point[aria-label^=sparse]").hover(force=True)
    assert tip_of(page) == "sparse\n95.9 ± 0.1 %, 3 seeds\nlatency: 0.101 [0.0926, 0.109] ms a sample"
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280


def test_a_tooltip_by_focus_and_the_arrow_keys(visit: Callable[..., Visit]):
    page = visit().page
    page.locator("input[name=cost][value=memory]").check()
    page.keyboard.press("Tab")
    assert tip_of(page).startswith("full\n97.2 ± 0.3 %, 3 seeds\npeak memory: 43.4 MiB")
    page.keyboard.press("ArrowRight")
    assert tip_of(page).startswith("linear\n")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert tip_of(page).startswith("sparse\n")  # round the end
    page.keyboard.press("Escape")
    assert tip_of(page) is None
    page.keyboard.press("Tab")  # one stop a chart
    assert tip_of(page).startswith("linear\n92.7 ± 0.1 %, 3 seeds")


def test_a_tooltip_by_tapping(visit: Callable[..., Visit]):
    page = visit(**PHONE).page
    page.locator("[data-scaling=time] .point[aria-label^='sparse. 2,048']").tap(force=True)
    assert tip_of(page) == "sparse\n2,048 tokens\n76.9 ms [73.1, 83.1]"
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    page.locator("#scaling-title").tap()
    assert tip_of(page) is None


def test_points_stand_where_their_numbers_say(visit: Callable[..., Visit]):
    """On a logarithmic axis equal ratios are equal distances, and an error bar has the length of its spread."""
    page, report = visit().page, make_report()
    panel, cells = page.locator(".panel").nth(1), report["cells"][4:8]
    places = [panel.locator(f".point[aria-label^='{cell['attention']}.']").bounding_box() for cell in cells]
    x = [box["x"] + box["width"] / 2 for box in places]
    flops = [cell["flops"] for cell in cells]
    log = page.evaluate("values => values.map(Math.log)", flops)
    assert (x[0] - x[1]) / (x[0] - x[2]) == pytest.approx((log[0] - log[1]) / (log[0] - log[2]), abs=0.01)
    y = [box["y"] + box["height"] / 2 for box in places]
    means = [cell["quality"]["mean"] for cell in cells]
    share = (means[0] - means[1]) / (means[0] - means[2])
    assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(share, abs=0.01)
    bar = panel.locator(".whisker").first.evaluate("path => path.getBBox().height")  # of full attention
    per_pixel = (means[0] - means[2]) / (y[2] - y[0])
    assert bar * per_pixel == pytest.approx(2 * cells[0]["quality"]["std"], rel=0.02)


def test_crossovers_are_marked_and_written(visit: Callable[..., Visit]):
    page = visit().page
    written = page.locator("#crossovers li").all_inner_texts()
    assert "sparse, bidirectional: faster than full from length 740 on" in written
    assert "longformer, causal: faster than full at none of the measured lengths" in written
    marked = page.locator("[data-scaling=time] .crossing-text")
    assert marked.all_text_contents() == ["linear from 333", "longformer from 392", "sparse from 740"]
    page.get_by_text("causal", exact=True).click()
    assert marked.all_text_contents() == ["linear from 333", "sparse from 740"]
    assert "full, causal, length 8192: skipped" in page.locator("#scaling details").text_content()


def test_where_a_mechanism_loses_is_said(visit: Callable[..., Visit]):
    page = visit().page
    articles = page.locator("#losses article").all_inner_texts()
    assert len(articles) == VERDICTS
    assert "behind full attention in 8 of 8 cells" in next(text for text in articles if text.startswith("linear"))
    report = make_report()
    lost = [cell["verdict"]["text"] for cell in report["cells"] if {"worse", "slower"} & set(cell["verdict"].values())]
    said = page.locator("#losses").inner_text()
    assert lost
    assert [text for text in lost if text not in said] == []
    assert page.locator(".notes li").all_inner_texts() == [report["notes"][-1]]  # the others stand above already


def test_every_command_and_run_is_there_and_can_be_copied(visit: Callable[..., Visit]):
    page, report = visit("partial").page, make_partial()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown = page.locator("#cells .command code").all_text_contents()
    wanted = [text for cell in report["cells"] for text in (cell["command"], *(run["command"] for run in cell["runs"]))]
    assert shown == wanted
    page.locator("#board tbody").first.get_by_role("link", name="sparse").click()
    details = page.locator("#cells details").nth(1)
    details.locator("pre").first.wait_for(state="visible")
    assert "folder vit/sparse/seed0" in details.inner_text()
    assert "failed: loss is nan in epoch 3" in details.inner_text()
    details.locator(".copy").first.click()
    details.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == report["cells"][1]["command"]


def test_harmful_strings_are_shown_and_do_nothing(visit: Callable[..., Visit]):
    page = visit("partial").page
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert f"mine.{HOSTILE}" in page.locator("#board").text_content()
    assert f"note {HOSTILE}" in page.locator("#losses").text_content()
    page.locator(".panel").nth(2).locator(".point[aria-label^=mine]").hover(force=True)
    assert tip_of(page).startswith(f"mine.{HOSTILE}".strip())
    assert json.loads(page.locator("#data").text_content())["panels"][2]["title"] == f"scenes {HOSTILE}"


def test_the_origin_is_told(visit: Callable[..., Visit]):
    text = visit().page.locator("#origin").inner_text()
    wanted = ("AMD EPYC 7763", "2.14.1", "9a5adfa0c0de", "2026-11-28", "2.7 %", "python -m tasks.benchmark run")
    assert [word for word in wanted if word not in text] == []


CONTRAST = """texts => texts.map(selector => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const element = document.querySelector(selector);
  let behind = element;
  while (behind && (channels(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
  const style = getComputedStyle(element);
  const front = element instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [front, getComputedStyle(behind).backgroundColor].map(c => luminance(channels(c)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})"""
"""The ratio of WCAG 2.2 (section 1.4.3) of some elements' colours to what lies behind them."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(visit: Callable[..., Visit], scheme: str):
    """4.5 for texts, 3 for marks."""
    page = visit("partial", color_scheme=scheme).page
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 60")
    assert dark == (scheme == "dark")
    texts = ["body", ".quiet", ".lead", "#board a", "#board small", "#board td .reason", ".chip.gain", ".chip.loss"]
    texts += [".chip.even", "#board thead button", "#board thead small", ".star", "pre code", ".copy", ".chart text"]
    texts += [".choice input:checked + span", ".choice input:not(:checked) + span", "select", "nav a"]
    assert {text: ratio for text, ratio in zip(texts, page.evaluate(CONTRAST, texts), strict=True) if ratio < 4.5} == {}
    marks = [f"#quality .legend li:nth-child({place}) path" for place in range(1, len(ATTENTIONS) + 2)]
    assert min(page.evaluate(CONTRAST, marks)) >= 3


def test_the_table_is_read_without_a_script(browser: Any, files: dict[str, Path]):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["whole"].as_uri())
    assert page.locator("#board tbody tr:not(.group) >> visible=true").count() == len(ENTRIES) * len(ATTENTIONS)
    assert page.get_by_text("The charts are drawn by a script").is_visible()
    assert page.locator(".copy >> visible=true").count() == page.locator("select >> visible=true").count() == 0
    context.close()


class Parts(HTMLParser):
    """Collects what a page would fetch, its ids and the targets of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("src", "href", "srcset", "action"):
                self.sources.append(value or "")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_names_nothing_outside_itself(make: Callable[[], dict[str, Any]]):
    """Holds without a browser."""
    text = as_html(make())
    parts = Parts()
    parts.feed(text)
    assert parts.sources == ["data:,"]
    assert len(set(parts.ids)) == len(parts.ids)
    assert {link.removeprefix("#") for link in parts.links} <= set(parts.ids)
    assert "@import" not in text
    assert "url(" not in text
    assert text.count("</script>") == 2
