"""A page of records that no run made, and a browser to look at it with."""

import dataclasses
import json
import os
import shutil
from itertools import islice

import pytest
from msgspec.structs import replace

from benchmarks.leaderboard.page.publish import publish
from benchmarks.leaderboard.published.figures import published_rows
from benchmarks.leaderboard.rows import make_tables
from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Store
from benchmarks.store.record import MetricValue, RunFile
from benchmarks.store.record_file import to_content

# A script, quotes, markup in other notations, direction overrides, line ends of scripts, and huge.
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>&amp;&lt;b&gt;"
    "\"'`</title></style><!-- ]]> ${window.hacked = 3} \u202eltr\u202c \u2028\u2029 "
    "مرحبا [a](javascript:hacked()) =1+1"
)
HUGE = "W" * 3000


def write(store, *found):
    for record in found:
        folder = store.folder(record.run_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.record.write_text(json.dumps(to_content(record)))


def page_of(store, path, **options):
    scan = store.scan()
    tables = [_with_published(table) for table in make_tables(scan, store)]
    publish(path, tables, scan, store, **options)
    return path


def _with_published(table):
    found = [row for row in published_rows() if row.task == "coco"][:2]
    return dataclasses.replace(table, published=tuple(found)) if table.key.data == "coco" else table


def mini(record):
    """Return a record as one of the embedded mini data."""
    spec = replace(record.spec, data_fingerprint="e" * 64)
    labels = replace(record.labels, data="mini", mini=True, protocol="mini/v1")
    return replace(record, spec=spec, labels=labels)


def with_detector(record):
    """Return a record with facts about its detector, one of them of its entry alone."""
    facts = {"attention": f"as in {record.labels.entry}", "blocks": "12"}
    details = {**record.details, "detector": facts, "layout": "channels last"}
    return replace(record, details=details)


def hostile(record, text):
    """Return a record in which everything a person could name is ``text``."""
    return replace(
        record,
        spec=replace(record.spec, backbone=text, recipe={text: {text: [text]}}),
        labels=replace(record.labels, entry=text, recipe=text, protocol=text, data=text),
        backbone=replace(
            record.backbone, name=text, method=text, data=text, licence=text, coverage=text
        ),
        per_class={text: {"APbox": 1.0}, **record.per_class},
        curves={**record.curves, text: [1.0, 2.0]},
        environment={text: text, "gpus": [text]},
        attempts=tuple(replace(a, host=text, reason=text) for a in record.attempts),
        warnings=(text,),
        details={text: [{text: text}], "detector": {text: text}},
        files=(RunFile(f"work/{text}.png", "0" * 64, 1),),
    )


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """Return a page of twelve entries in three tasks, three seeds each, and a mini table."""
    folder = tmp_path_factory.mktemp("page")
    store = Store(folder / "runs")
    found = [with_detector(record) for record in islice(records(("coco", "knn", "linear"), 3), 108)]
    lonely = [replace(r, spec=replace(r.spec, seed=9)) for r in found[:1]]
    missing = MetricValue(None, "percent", higher_is_better=True, reason="no masks")
    lonely = [replace(r, metrics={**r.metrics, "APmask": missing}) for r in lonely]
    lonely = [replace(r, labels=replace(r.labels, entry="boxes only")) for r in lonely]
    lonely = [replace(r, spec=replace(r.spec, backbone="boxes")) for r in lonely]
    write(store, *found, *lonely, *(mini(record) for record in found[:6]))
    bad = store.folder("0123456789abcdef")
    bad.path.mkdir()
    bad.record.write_text("{")
    return page_of(store, folder / "out.html")


@pytest.fixture(scope="session")
def hostile_file(tmp_path_factory):
    """Return a page whose every name is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(folder / "runs")
    found = [*islice(records(("coco",), 2), 4)]
    write(store, *(hostile(r, HOSTILE) for r in found[:2]), *(hostile(r, HUGE) for r in found[2:]))
    return page_of(store, folder / "out.html")


@pytest.fixture(scope="session")
def browser():
    """Return headless Chromium, or skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        end = pytest.fail if os.environ.get("BACKBENCH_REQUIRE_BROWSER") else pytest.skip
        end("no Chromium: install the system's package chromium")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = started.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def view(browser):
    """Return a function that opens a page; at the end nothing may have gone wrong in any."""
    opened, faults = [], []

    def open_page(path, choices="", width=1400, theme="light"):
        # A context of its own per page: themes and sizes do not reach the next one.
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        page = context.new_page()
        opened.append(context)
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: _leaving(request, path, faults))
        page.goto(f"{path.as_uri()}{f'#{choices}' if choices else ''}")
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not faults


def _leaving(request, path, faults):
    if not request.url.startswith((path.as_uri(), "data:", "blob:")):
        faults.append(f"request: {request.url[:200]}")
