"""The page in headless Chromium: what a person does with it, and what must never happen."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()


def entries(page):
    return page.locator("table.board tbody tr .entry-cell button").all_inner_texts()


def numbers(page, title):
    place = page.locator("table.board thead th .dt-column-title").all_inner_texts().index(title)
    cells = page.locator(f"table.board tbody tr > :nth-child({place + 1}) .value")
    return [float(text) for text in cells.all_inner_texts()]


def open_table(page, text):
    page.get_by_role("navigation", name="Tables").get_by_text(text, exact=True).first.click()


@pytest.fixture
def coco(view, page_file):
    page = view(page_file)
    open_table(page, "coco")
    return page


def test_sorting_with_the_mouse_and_the_keyboard(coco):
    header = coco.locator("table.board thead th", has_text="APmask").first
    # DataTables sorts a moment after the click, so that it could show that it is busy.
    header.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert numbers(coco, "APmask") == sorted(numbers(coco, "APmask"), reverse=True)
    header.get_by_role("button").focus()
    coco.keyboard.press("Space")
    expect(header).to_have_attribute("aria-sort", "ascending")
    assert numbers(coco, "APmask") == sorted(numbers(coco, "APmask"))
    # What was not measured is last in both directions, and says why.
    last = coco.locator("table.board tbody tr").last
    assert last.locator(".why").first.inner_text() == "no masks"


def test_search_and_filters_narrow_the_rows_and_live_in_the_address(coco, view, page_file):
    total = len(entries(coco))
    coco.get_by_label("Search rows").fill("swin")
    assert 0 < len(entries(coco)) < total
    assert all("swin" in entry for entry in entries(coco))
    coco.get_by_role("button", name="Reset").click()
    assert len(entries(coco)) == total
    coco.locator("#toolbar summary", has_text="Backbone").click()
    coco.locator("#toolbar details[data-key=backbone]").get_by_label("vit-b16").check()
    # A published row of that network is one of them.
    assert {entry.partition("-")[2] for entry in entries(coco)} == {"vit-b16", "B"}
    again = view(page_file, coco.url.partition("#")[2])
    assert entries(again) == entries(coco)


def test_columns_come_and_go(coco):
    coco.locator("#toolbar summary", has_text="Columns").click()
    menu = coco.locator("#toolbar details[data-key=columns]")
    menu.get_by_label("GFLOPs").check()
    assert "GFLOPs" in coco.locator("table.board thead").inner_text()
    menu.get_by_label("APmask").uncheck()
    assert "APmask" not in coco.locator("table.board thead").inner_text()


def test_pinned_rows_are_compared(coco):
    for box in coco.locator("input.pin").all()[:2]:
        box.check()
    coco.get_by_role("button", name="Compare").click()
    dialog = coco.locator("#comparison")
    expect(dialog).to_be_visible()
    assert "run.py compare" in dialog.inner_text()
    differing = dialog.locator("#comparison-detectors")
    expect(differing).to_contain_text("Detectors differ in")
    assert differing.inner_text().count("as in ") == 2
    assert "blocks" not in differing.inner_text()
    first = dialog.locator("tbody tr").first
    own = [float(text) for text in first.locator(".value").all_inner_texts()]
    shown = first.locator(".difference").inner_text().split()[0].replace("\u2212", "-")
    assert float(shown) == pytest.approx(own[1] - own[0], abs=0.11)
    coco.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    # The address changes in the dialog's close event, a moment later.
    # The page forbids to evaluate strings, so the address is watched from outside.
    expect(coco).not_to_have_url(re.compile("compare"))


def test_a_row_tells_where_it_comes_from(coco):
    coco.locator("table.board .entry-cell button").first.click()
    drawer = coco.locator("#drawer")
    drawer.get_by_text("Do it again").wait_for()
    text = drawer.inner_text()
    assert "python benchmarks/run.py --tasks coco --entries" in text
    assert "--seeds 0," in text
    for part in (
        "memory format",
        "SHA-256",
        "Data fingerprint",
        "Environment",
        "Curves",
        "Attempts",
        "Recipe",
    ):
        assert part in text
    drawer.get_by_role("button", name="seed 1").click()
    assert "--seeds 1," in drawer.inner_text()
    coco.keyboard.press("Escape")
    assert not drawer.is_visible()


def test_mini_rows_are_marked_and_apart(view, page_file):
    page = view(page_file)
    page.locator(".table-group.mini button", has_text="coco").click()
    rows = page.locator("table.board tbody tr").count()
    assert rows > 0
    assert page.locator("table.board tbody .mark.mini").count() == rows
    assert "not comparable" in page.locator("#notices").inner_text()
    page.locator(".table-group.real button", has_text="coco").click()
    assert page.locator(".mark.mini").count() == 0


def test_published_rows_are_muted_and_never_ranked_or_compared(coco):
    rows = coco.locator("table.board tbody tr.published")
    assert rows.count() == 2
    for row in rows.all():
        assert row.locator(".rank").inner_text() == ""
        assert row.locator("input.pin").count() == 0
        assert row.locator(".mark.published").inner_text() == "published"
    rows.first.locator(".entry-cell button").click()
    assert "not measured here" in coco.locator("#drawer").inner_text()
    coco.keyboard.press("Escape")
    coco.get_by_label("Published rows").uncheck()
    assert rows.count() == 0


def test_downloads_say_what_was_measured(coco):
    coco.locator("#toolbar summary", has_text="Download").click()
    with coco.expect_download() as waiting:
        coco.get_by_role("button", name="CSV").click()
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0].startswith("#,Entry,Method")
    assert sum("published: " in line for line in lines) == 2
    assert sum(line.endswith(",measured") for line in lines) == len(lines) - 3
    assert lines[0].endswith(",costs_in_doubt,source")
    assert any("images_per_second_train: loaded" in line for line in lines)


@pytest.mark.parametrize(
    ("format_name", "meaning", "mark"),
    [("Markdown", "± and brackets: the 95 % interval, over test images and training again.", " †"),
     ("LaTeX", "% ± and brackets: the 95 % interval, over test images and training", r"$\dagger$")],
)  # fmt: skip
def test_downloads_say_what_their_marks_mean(coco, format_name, meaning, mark):
    coco.set_viewport_size({"width": 1600, "height": 900})
    coco.locator("#toolbar summary", has_text="Download").click()
    with coco.expect_download() as waiting:
        coco.get_by_role("button", name=format_name).click()
    first, *lines = waiting.value.path().read_text().splitlines()
    assert first.startswith(meaning)
    assert "1 seed: training again is taken from the protocol's seed floor." in first
    assert "† and ?: measured while other work used the machine" in first
    # A cell with an interval has the sign or the brackets that the first line explains.
    assert any(("±" in line) if format_name == "Markdown" else ("$_{[" in line) for line in lines)


def test_every_figure_shows_something(coco):
    found = [tab.get_attribute("data-figure") for tab in coco.locator("[data-figure]").all()]
    assert {"cost", "seeds", "curves", "classes", "sizes", "gallery", "pictures"} <= set(found)
    for figure in found:
        coco.locator(f"[data-figure={figure}]").click()
        shown = coco.locator(f"#figure [data-shown={figure}]")
        shown.wait_for()
        assert "cannot be drawn" not in shown.inner_text()
        if figure in ("gallery", "pictures"):
            assert shown.locator("p").count()
        else:
            assert shown.locator("svg :is(circle, path, rect)").count() > 5


def test_damaged_files_are_named(view, page_file):
    assert "0123456789abcdef" in view(page_file).locator("#left-out").inner_text()


def test_the_accessibility_checker_finds_nothing_serious(view, page_file):
    page = view(page_file)
    open_table(page, "coco")
    for box in page.locator("input.pin").all()[:2]:
        box.check()
    assert_accessible(page)
    page.locator("table.board .entry-cell button").first.click()
    page.locator("#drawer").get_by_text("Do it again").wait_for()
    assert_accessible(page, "#drawer")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare").click()
    assert_accessible(page, "#comparison")


def test_the_dark_theme_has_contrast(view, page_file):
    page = view(page_file, theme="dark")
    open_table(page, "coco")
    page.locator("input.pin").first.check()
    assert_accessible(page, rules=["color-contrast"])


def assert_accessible(page, part="body", rules=()):
    # As a debugger would: the page's policy refuses scripts that are not its own.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE})
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    answer = session.send(
        "Runtime.evaluate",
        {
            "expression": f"axe.run({json.dumps(part)}, {json.dumps(options)}).then(found => "
            "found.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => "
            "[v.id, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary]))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    assert answer["result"].get("value") == []


@pytest.mark.parametrize("width", [390, 900, 1600])
def test_no_width_scrolls_the_whole_page_sideways(view, page_file, hostile_file, width):
    for path in (page_file, hostile_file):
        page = view(path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_figure_is_wider_than_a_phone(view, page_file):
    page = view(page_file, width=390)
    for table in page.locator("#tables .table-button").all():
        table.click()
        for name in [tab.get_attribute("data-figure") for tab in page.locator(".figure-tab").all()]:
            page.locator(f"[data-figure={name}]").click()
            page.locator(f"#figure [data-shown={name}]").wait_for()
            # As wide as a choice of two long names would like to be.
            page.evaluate(
                "document.querySelectorAll('#figure select').forEach("
                "one => one.append(new Option('correspondence_accuracy '.repeat(3))))"
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_hostile_names_stay_text(view, hostile_file):
    page = view(hostile_file)
    for figure in page.locator("[data-figure]").all():
        figure.click()
        page.locator(f"#figure [data-shown={figure.get_attribute('data-figure')}]").wait_for()
    page.get_by_label("Search rows").fill("<img src=x onerror=alert(1)>&amp;")
    page.get_by_label("Search rows").fill("")
    for button in page.locator("#tables .table-button").all():
        button.click()
        page.locator("table.board .entry-cell button").first.click()
        page.locator("#drawer").get_by_text("Attempts").first.wait_for()
        page.keyboard.press("Escape")
    assert page.evaluate("window.hacked") is None
    assert page.locator("body img[src='x']").count() == 0
    # The name is there, whole, as text.
    texts = page.locator("table.board .entry-cell bdi").all_inner_texts()
    assert any("<script>window.hacked = 1</script>" in text for text in texts) or any(
        text.startswith("WWWW") for text in texts
    )


def test_an_address_of_others_does_no_harm(view, page_file):
    words = quote("<img src=x onerror='window.hacked=1'>")
    choices = (
        f"table={words}&q={words}&row={words}&pin={words}|{words}&sort={words}:asc&fig={words}"
    )
    page = view(page_file, f"{choices}&method={words}&x={words}&y={words}&theme={words}")
    assert page.evaluate("window.hacked") is None
    page.get_by_role("button", name="Reset").click()
    assert entries(page)


def test_it_prints_the_table_whole(view, page_file):
    page = view(page_file)
    page.emulate_media(media="print")
    assert page.locator("table.board").is_visible()
    assert not page.locator("#toolbar").is_visible()


def test_one_seed_is_marked_and_says_what_its_interval_rests_on(view, page_file):
    page = view(page_file)
    row = page.locator("tr[data-row]", has_text="boxes only").first
    assert row.locator(".mark.seed").inner_text() == "1 seed"
    cells = row.locator("td.number[title*='interval over']")
    assert cells.first.get_attribute("title").startswith("1 seed: this training, and a new one may")
    other = page.locator("tr[data-row]:not(:has(.mark))").first
    title = other.locator("td.number[title*='interval over']").first.get_attribute("title")
    assert title.endswith("training again, from 3 seeds")
    assert "with 1 seed, a new training may differ" in page.locator("#board-info").inner_text()
