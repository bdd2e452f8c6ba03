"""Records of before content identified data, and what plans say of data."""

from benchmarks.commands.plan_view import plan_lines
from benchmarks.commands.run import facts
from benchmarks.plan.plan import make_plan
from benchmarks.store.folders import Scan, Store
from benchmarks.task import Facts


def test_a_record_by_names_and_sizes_is_stale(tmp_path, make_spec, make_request, make_record):
    before = make_record(make_spec(data_fingerprint="1" * 64))
    request = make_request(make_spec(data_fingerprint="2" * 64), former_fingerprint="1" * 64)
    scan = Scan({before.run_id: before}, {}, ())
    (cell,) = make_plan([request], Store(tmp_path), scan)
    assert cell.state == "stale"
    assert "names and sizes" in cell.note
    (other,) = make_plan([make_request(request.spec)], Store(tmp_path), scan)
    assert other.state == "missing"


def test_notes_on_data_stand_in_the_plan(tmp_path, make_spec, make_request):
    request = make_request(make_spec(), notes=("val.json: 3 boxes, clipped.",))
    cells = make_plan([request], Store(tmp_path), Scan({}, {}, ()))
    assert "data: val.json: 3 boxes, clipped." in plan_lines(cells, cells, gpu=False)


def test_the_plan_says_how_weights_are_read(tmp_path, make_spec, make_request):
    request = make_request(make_spec(), weights_notes=("the ema copy", "positions bicubic"))
    cells = make_plan([request], Store(tmp_path), Scan({}, {}, ()))
    line = f"weights of {request.entry}: the ema copy; positions bicubic"
    assert line in plan_lines(cells, cells, gpu=False)
    assert facts(cells[0])["weights_notes"] == ["the ema copy", "positions bicubic"]
    begun = make_request(make_spec(), notes=("first weights: encoder from x.pth.",))
    (cell,) = make_plan([begun], Store(tmp_path), Scan({}, {}, ()))
    assert facts(cell)["weights_notes"] == ["first weights: encoder from x.pth."]


def test_facts_bear_both_identities():
    facts = Facts("new", 1, 1, "old")
    assert facts.bear("new")
    assert facts.bear("old")
    assert not facts.bear("other")
