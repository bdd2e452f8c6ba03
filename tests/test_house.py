"""The house rules that no linter knows: see README, "How the code is laid out"."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "pretrain", "detection", "benchmarks")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_holds_one_thought(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [name_of(path) for path in SOURCES if path.stem in drawers]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_text_is_read_and_written_as_utf8(path: Path) -> None:
    # Else it depends on the locale of the machine.
    needed = {"read_text": 1, "write_text": 2}
    calls = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, ast.Call)]
    for call in calls:
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        named = any(keyword.arg == "encoding" for keyword in call.keywords)
        assert named or len(call.args) >= needed.get(method, 0), f"line {call.lineno}"


def test_nothing_beside_run_py_hides_a_package() -> None:
    # `python benchmarks/run.py` puts benchmarks/ first on the import path.
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    taken |= set(PACKAGES) - {"benchmarks"}
    names = {path.stem for path in (ROOT / "benchmarks").iterdir() if path.stem[:2] != "__"}
    assert not names & taken


def test_one_file_imports_submitit() -> None:
    users = [path for path in SOURCES if "import submitit" in path.read_text()]
    assert [name_of(path) for path in users] in ([], ["benchmarks/slurm/launch.py"])


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_commands_with_values_are_quoted_for_a_shell(path: Path) -> None:
    # A folder may have blanks and quotes in its name: wording.command and shlex know how.
    if path.name == "wording.py":
        return
    nodes = ast.walk(ast.parse(path.read_bytes()))
    for text in (node for node in nodes if isinstance(node, ast.JoinedStr)):
        inside = False
        for part in text.values:
            if isinstance(part, ast.Constant):
                _, *rest = str(part.value).split("`")
                inside = (inside and not rest) or (bool(rest) and "run.py " in rest[-1])
            else:
                assert not inside, f"line {text.lineno} prints a command without quoting"


def test_no_absolute_path_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    needles = ("/home" + "/", "/root" + "/", "/Users" + "/")
    texts = {name: (ROOT / name).read_bytes() for name in listed.stdout.split()}
    assert not [
        name for name, text in texts.items() if any(needle.encode() in text for needle in needles)
    ]
