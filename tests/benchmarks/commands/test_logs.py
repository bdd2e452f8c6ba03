"""``run.py logs`` finds a run by its id or its entry."""

import re


def test_logs_take_the_name_of_an_entry_with_one_run(run_py):
    assert run_py("--entries", "vit-nano,swin-nano", "--seeds", "1").returncode == 0
    shown = run_py("logs", "vit-nano")
    assert shown.returncode == 0, shown.stderr
    assert "training vit-nano" in shown.stdout
    assert run_py("--entries", "vit-nano", "--seeds", "2").returncode == 0
    refused = run_py("logs", "vit-nano")
    assert refused.returncode == 2
    assert re.fullmatch(
        r"2 runs in runs are of the entry 'vit-nano': \w{16} \(coco, seed [01]\), "
        r"\w{16} \(coco, seed [01]\)\.\n",
        refused.stderr,
    )
    unknown = run_py("logs", "vit-b16")
    assert unknown.stderr == (
        "No run in runs has the id or entry 'vit-b16'; `run.py status --out runs` shows them.\n"
    )
