"""The page's parts: pinned libraries, safe embedding, size; no browser needed."""

import base64
import hashlib
import json
import re
import zlib
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.data.roots import DataRoot
from benchmarks.entries import Entry
from benchmarks.leaderboard.anonymous import anonymous_scan
from benchmarks.leaderboard.joined import with_joined
from benchmarks.leaderboard.page import build
from benchmarks.leaderboard.page.document import MAX_ROWS, Board, make_document
from benchmarks.leaderboard.page.publish import publish
from benchmarks.leaderboard.rows import make_tables
from benchmarks.perf.synthetic_records import records
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import Attempt
from benchmarks.suites import get_suite

PAGE = Path(build.__file__).parent
SCRIPTS = PAGE / "script"
VENDORS = (PAGE / "vendor", Path(__file__).parent / "vendor")
# Two megabytes, less what the pictures and galleries of real runs may take.
LIMIT_BYTES = 2_000_000 - 450_000


@pytest.mark.parametrize("folder", VENDORS, ids=["page", "tests"])
def test_vendored_files_are_the_pinned_ones(folder):
    listed = json.loads((folder / "manifest.json").read_text())
    named = {"manifest.json"}
    for entry in listed:
        content = (folder / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"]
        named |= {entry["file"], *entry["licence_files"]}
        assert all((folder / name).stat().st_size > 200 for name in entry["licence_files"])
    assert {path.name for path in folder.iterdir()} == named


def test_every_module_is_in_the_page_after_what_it_uses():
    assert {path.stem for path in SCRIPTS.iterdir()} == set(build.MODULES)
    exports = {}
    for place, module in enumerate(build.MODULES):
        text = (SCRIPTS / f"{module}.js").read_text()
        for names, source in re.findall(r'^import \{ ([^}]*) \} from "\./(\w+)\.js";$', text, re.M):
            assert source in build.MODULES[:place], f"{module} uses {source}, which comes later"
            unknown = set(names.split(", ")) - exports[source]
            assert not unknown, f"{module} wants {unknown} of {source}"
        assert text.count("import {") == len(re.findall(r"^import \{", text, re.M))
        # A variable that is exported and changed later would stay as it was for those who use it.
        assert not re.search(r"^export (let|var|default|\{)", text, re.M)
        exports[module] = set(
            re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", text, re.M)
        )


def test_no_script_of_ours_makes_html_or_code_of_text():
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.html\("
    ours = {path.name: path.read_text() for path in SCRIPTS.iterdir()}
    assert not [name for name, text in ours.items() if re.search(ways, text)]


def test_modules_stay_small():
    assert all(len(path.read_text().splitlines()) <= 200 for path in SCRIPTS.iterdir())


def test_json_cannot_leave_its_element():
    text = build.as_json({"</script>": "<!-- & \u2028 \u2029 ]]> \ud800"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"</script>": "<!-- & \u2028 \u2029 ]]> ?"}


def test_the_policy_allows_the_scripts_in_the_page_and_no_others():
    text = build.page({"tables": []}, {})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', text, re.S)
    assert len(scripts) == 4
    assert policy.count("'sha256-") == 4
    assert "default-src 'none'" in policy
    assert "unsafe-inline'" not in policy.partition("style-src")[0]


def test_three_hundred_rows_stay_below_two_megabytes(tmp_path):
    # Ten more than fit, so that the page has to leave some out and say so.
    found = {record.run_id: record for record in islice(records(("coco",), 3), 3 * (MAX_ROWS + 10))}
    scan, store = Scan(found, {}, ()), Store(tmp_path)
    tables = with_joined(make_tables(scan, store))
    document, details = make_document(Board(tables, {}, (), scan, store))
    assert [len(table["rows"]) for table in document["tables"]] == [MAX_ROWS]
    assert document["tables"][0]["left_out"] == 10
    assert len(build.page(document, details).encode()) < LIMIT_BYTES


def test_an_anonymous_page_asks_the_folder_nothing(tmp_path):
    (request,) = assemble(PlanRequest(get_suite("coco"), [Entry("vit-nano")]), tmp_path)
    data = DataRoot("coco", "ours", Path("/secret/place"), "--data")
    request = replace(request, data=data, source="ckpt:/secret/file?arch=vit-nano&format=mae")
    store = Store(tmp_path / "runs")
    folder = store.prepare(request)
    folder.add_attempt(Attempt(1, "secrethost", "", "", "stopped", "secret reason"))
    scan = store.scan()
    open_page, closed_page = tmp_path / "open.html", tmp_path / "closed.html"
    publish(open_page, make_tables(scan, store), scan, store)
    assert "secret" in details_of(open_page)
    scan = anonymous_scan(scan)
    publish(closed_page, make_tables(scan, store), scan, store, anonymous=True)
    assert "secret" not in details_of(closed_page) + closed_page.read_text()


def details_of(path):
    texts = re.findall(r'id="(?:document|details)">([^<]*)<', path.read_text())
    assert len(texts) == 2
    return "".join(zlib.decompress(base64.b64decode(text)).decode() for text in texts)
