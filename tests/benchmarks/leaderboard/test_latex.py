"""Tables for papers: what they show, and that LaTeX takes them."""

import re
import shutil
import subprocess

import pytest

from benchmarks import cli
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels, MetricValue

HOSTILE = r"a_b%c&d#e$f{g}h~i^j\k|<>" + '"'


@pytest.fixture
def runs(tmp_path, make_record, make_spec):
    """Return a folder of two rows, one with a name that is hard for LaTeX."""
    store = Store(tmp_path / "runs")
    for entry, value in (("vit-nano", 20.0), (HOSTILE, 30.5)):
        facts = {"unit": "percent", "higher_is_better": True, "reason": None}
        metrics = {n: MetricValue(value, **facts) for n in ("APbox", "APmask", "AP50box")}
        record = make_record(
            make_spec(backbone=entry), metrics=metrics, columns=tuple(metrics),
            labels=Labels("coco", entry, "mini", "mini/v1", "mini", True),
        )  # fmt: skip
        store.folder(record.run_id).write_record(record)
    return store.root


def latex(capsys, runs, *flags):
    code = cli.main(["leaderboard", "--out", str(runs), "--format", "latex", *flags])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_table_has_what_fits_a_column(runs, capsys):
    _, text, _ = latex(capsys, runs)
    (head,) = re.findall(r"\\toprule\n(.*) \\\\", text)
    assert head == "entry & APbox & APmask & ties & seeds"
    assert r"\usepackage{booktabs,graphicx}" in text.splitlines()[0]
    assert r"\label{tab:coco-mini-v1}" in text
    assert r"\resizebox{\ifdim\width>\linewidth" in text


def test_columns_caption_and_label_are_chosen(runs, capsys):
    flags = [
        "--columns",
        "entry,AP50box",
        "--caption",
        r"Our \emph{own} words.",
        "--label",
        "t:own",
    ]
    _, text, _ = latex(capsys, runs, *flags)
    assert r"\caption{Our \emph{own} words.}" in text
    assert r"\label{t:own}" in text
    assert "entry & AP50box \\\\" in text


def test_the_best_of_several_rows_is_bold(runs, capsys):
    _, text, _ = latex(capsys, runs, "--columns", "APbox")
    assert text.count(r"\textbf{30.5}") == 1
    assert text.count(r"\textbf") == 1
    assert "Bold: best." in text
    _, text, _ = latex(capsys, runs, "--columns", "APbox", "--filter", "APbox > 25")
    assert r"\textbf" not in text


@pytest.mark.parametrize("form", ["csv", "table", "json"])
def test_caption_and_label_are_for_latex(form, runs, capsys):
    assert cli.main(["leaderboard", "--out", str(runs), "--format", form, "--caption", "x"]) == 2
    assert f"are for --format latex, not for {form}." in capsys.readouterr().err


def test_a_caption_is_for_one_table(runs, make_record, capsys):
    record = make_record(labels=Labels("coco", "a", "mini", "other/v1", "mini", True))
    Store(runs).folder(record.run_id).write_record(record)
    code, text, err = latex(capsys, runs, "--caption", "x")
    assert (code, text) == (2, "")
    assert "there are 2; choose one with --filter" in err
    _, text, _ = latex(capsys, runs, "--label", "t")
    assert re.findall(r"\\label\{(.*)\}", text) == ["t", "t-2"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
def test_latex_takes_the_tables(runs, tmp_path, capsys):
    _, text, _ = latex(capsys, runs)
    source = "\n".join(
        [
            r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}",
            r"\usepackage[T1]{fontenc}\begin{document}",
            text,
            r"\end{document}",
        ]
    )
    (tmp_path / "paper.tex").write_text(source)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("LaTeX has no booktabs")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
