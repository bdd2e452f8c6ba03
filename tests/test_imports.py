"""What stands behind the import contracts of setup.cfg: what is loaded when, and no circle.

The contract "torch" names what plans and shows without torch, and the imports that are left out of
the count because they run later. Here both are held to what Python really does.
"""

import ast
import configparser
import fnmatch
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "pretrain", "detection", "benchmarks")
# What is worth delaying: loading one takes longer than everything of ours that a plan needs.
HEAVY = {"torch", "torchvision", "timm", "detectron2", "scipy", "pycocotools", "submitit"}
# Delayed for another reason.
ALSO_DELAYED = {
    # The handlers stand before anything else is loaded: a signal may come in the first second.
    ("benchmarks.slurm.job", "benchmarks.slurm.submission"),
    ("benchmarks.slurm.job", "benchmarks.work.worker"),
    ("benchmarks.slurm.test_job", "benchmarks.slurm.requeue"),
    ("benchmarks.work.follower", "backbones.base.reading"),
    ("benchmarks.work.follower", "benchmarks.store.folders"),
    ("benchmarks.work.follower", "benchmarks.work.crash"),
    ("benchmarks.work.follower", "benchmarks.work.execute"),
    ("benchmarks.work.follower", "benchmarks.work.memory"),
    ("benchmarks.work.follower", "benchmarks.work.ranks"),
    # A run loads the code as it is when the run begins, not when its server began.
    ("benchmarks.local.forked", "benchmarks.work.worker"),
    # --dry-run shows no leaderboard, whose files are an eighth of its time.
    ("benchmarks.commands.run", "benchmarks.commands.leaderboard"),
    ("benchmarks.commands.run", "benchmarks.leaderboard.formats.sheets"),
    ("benchmarks.commands.run", "benchmarks.leaderboard.shown"),
}


def contract() -> dict[str, list[str]]:
    """Return the lists of the contract on torch, comments left out."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    section = parser["importlinter:contract:torch"]
    found = {}
    for name in ("source_modules", "forbidden_modules", "ignore_imports"):
        lines = [line.strip() for line in section[name].splitlines()]
        found[name] = [line for line in lines if line and not line.startswith("#")]
    return found


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def ours() -> list[str]:
    return sorted(name for name in graph().modules if is_ours(name))


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def imports() -> list[tuple[str, str]]:
    return [
        (importer, imported)
        for importer in ours()
        for imported in sorted(graph().find_modules_directly_imported_by(importer))
    ]


@cache
def lines_within(module: str, kind: str) -> frozenset[int]:
    """Return the lines of imports in functions ("later"), or for type checkers only ("types")."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        later = isinstance(node, ast.FunctionDef)
        types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if later if kind == "later" else types:
            inner = (own for own in ast.walk(node) if isinstance(own, ast.Import | ast.ImportFrom))
            found |= {own.lineno for own in inner}
    return frozenset(found)


def stands_within(importer: str, imported: str, *kinds: str) -> bool:
    allowed = frozenset().union(*(lines_within(importer, kind) for kind in kinds))
    details = graph().get_import_details(importer=importer, imported=imported)
    return {detail["line_number"] for detail in details} <= allowed


@cache
def loaded_by(module: str) -> frozenset[str]:
    """Return the libraries of ``HEAVY`` that importing a module loads."""
    found, waiting, seen = set(), [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen or not is_ours(name):
            continue
        seen.add(name)
        for imported in graph().find_modules_directly_imported_by(name):
            if not stands_within(name, imported, "later", "types"):
                found |= {imported} & HEAVY
                waiting.append(imported)
    return frozenset(found)


def test_what_plans_and_shows_loads_no_torch():
    lists = contract()
    forms = [form for name in lists["source_modules"] for form in (name, f"{name}.*")]
    names = [
        name
        for name in ours()
        if any(fnmatch.fnmatch(name, form) for form in forms) and not name.endswith("__main__")
    ]
    assert len(names) > 150
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"    loaded = [top for top in {lists['forbidden_modules']!r} if top in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", contract()["ignore_imports"])
def test_what_the_contract_leaves_out_runs_later(line):
    forms = line.split(" -> ")
    met = [pair for pair in imports() if all(map(fnmatch.fnmatch, pair, forms))]
    assert met, "no such import"
    assert [pair for pair in met if not stands_within(*pair, "later", "types")] == []


def delayed() -> list[tuple[str, str]]:
    """Return the imports of ours that run when a function is called and not before."""
    return [
        (importer, imported)
        for importer, imported in imports()
        if is_ours(imported)
        and not importer.startswith("benchmarks.perf.")
        and stands_within(importer, imported, "later", "types")
        and not stands_within(importer, imported, "types")
    ]


def test_an_import_is_delayed_only_for_what_it_loads():
    """Anything else in a function could hide a circle, or hides what a file depends on."""
    useless = [
        pair for pair in delayed() if not loaded_by(pair[1]) - loaded_by(pair[0])
    ]  # fmt: skip
    assert set(useless) == ALSO_DELAYED


def test_files_import_each_other_in_no_circle():
    """Imports inside functions and for type checkers count: none of them hides a circle."""
    needs = {name: set() for name in ours()}
    for importer, imported in imports():
        needs[importer] |= {imported} & set(needs)
    TopologicalSorter(needs).prepare()
