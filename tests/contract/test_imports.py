"""The house's rules that imports show: one way, no Keras, nothing heavy before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "trainer"
ORDER = [
    {"cache", "errors", "folders", "lazy", "shapes", "streams", "wording", "__init__"},
    {"options", "naming", "native", "program", "switches"},
    {"block"},
    {"declare"},
    {"initializers", "regularizers", "constraints", "activations", "schedules"},
    {"layers", "losses", "metrics", "optimizers", "callbacks", "sources"},
    {"model"},
    {"recipe"},
    {"runs"},
    {"train"},
    {"keras_files", "report"},
    {"cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
ALLOWED_UP = {("train", "report")}
"Pictures of a run are drawn by report, which knows no run: plain data in, bytes out."
FILES = sorted(ROOT.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Dotted names of everything that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def room(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_imports_point_one_way() -> None:
    assert len(FILES) > 50
    wrong = []
    for file in FILES:
        here = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imported(file):
            if not name.startswith("trainer.") or room(name) not in LEVEL:
                continue
            if LEVEL[room(name)] > LEVEL[here] and (here, room(name)) not in ALLOWED_UP:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_every_room_has_its_place() -> None:
    rooms = {f.relative_to(ROOT).parts[0].removesuffix(".py") for f in FILES}
    assert rooms - set(LEVEL) == set()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_file_imports_an_oracle_or_runs_what_it_reads(file: Path) -> None:
    names = {n.split(".")[0] for n in imported(file)}
    assert not names & {"keras", "tensorflow", "marshal", "shelve"}
    calls = {
        n.func.id
        for n in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("file", [f for f in FILES if "cli" not in f.parts], ids=lambda f: str(f.relative_to(ROOT)))
def test_only_the_command_line_prints_or_exits(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit"), f"{file}:{node.lineno}"


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded after running code in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n"))


def test_help_loads_neither_torch_nor_pydantic() -> None:
    loaded = modules_after(
        "import contextlib, io\nfrom trainer.cli.app import run\n"
        "with contextlib.redirect_stdout(io.StringIO()): assert run(['--help']) == 0"
    )
    assert not loaded & {"torch", "numpy", "pydantic", "pyarrow", "sklearn", "matplotlib", "h5py"}


def test_validate_loads_no_torch() -> None:
    recipe = ROOT.parent / "recipes" / "digits.yaml"
    loaded = modules_after(
        "import contextlib, io\nfrom trainer.cli.app import run\n"
        f"with contextlib.redirect_stderr(io.StringIO()): assert run(['validate', {str(recipe)!r}]) == 0"
    )
    assert "pydantic" in loaded
    assert not loaded & {"torch", "numpy", "pyarrow", "sklearn", "matplotlib", "h5py"}


@pytest.mark.parametrize("kind", ["layers", "losses", "metrics", "optimizers", "callbacks", "sources"])
def test_listing_loads_no_torch(kind: str) -> None:
    loaded = modules_after(
        "import contextlib, io\nfrom trainer.cli.app import run\n"
        f"with contextlib.redirect_stdout(io.StringIO()): assert run(['list', {kind!r}]) == 0"
    )
    assert not loaded & {"torch", "numpy", "pyarrow", "sklearn", "matplotlib", "h5py"}
