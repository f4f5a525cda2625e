"""What commands make ready beforehand, and leave out of torch until it is wanted: nothing else changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli import ahead

RECIPE = Path(__file__).parents[2] / "recipes" / "digits.yaml"
MAIN = "from trainer.cli.app import main; main()"
TRACED = """
class Twice(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.softplus(x * 2).sum(-1)
program = torch.export.export(Twice(), (torch.ones(3, 4),))
assert torch.equal(program.module()(torch.ones(3, 4)), Twice()(torch.ones(3, 4)))
assert torch.linalg.lu_factor(torch.empty(3, 3, device="meta"))[0].shape == (3, 3)
"""


def ran(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def prepared(rest: str, begin: str = "", **environment: str) -> None:
    """Run code after a command's preparation, in a process of its own."""
    begin += "import sys\nfrom trainer.cli.ahead import make_ready\nmake_ready('fit')\nimport torch\n"
    done = ran(begin + rest, **environment)
    assert done.returncode == 0, done.stderr


def test_torch_comes_without_what_only_tracing_needs() -> None:
    prepared("assert 'torch._refs' not in sys.modules; torch.Generator().manual_seed(1)")
    prepared("assert 'torch._refs' in sys.modules", TRAINER_WITHOUT="start")


@pytest.mark.parametrize(
    "wanted",
    [
        "from trainer.lazy import with_tracing; with_tracing()",
        "from torch._meta_registrations import activate_meta",
        "import torch._meta_registrations; torch._meta_registrations.activate_meta",
    ],
)
def test_and_is_whole_when_someone_wants_it(wanted: str) -> None:
    prepared(f"{wanted}\nassert 'torch._refs' in sys.modules\n{TRACED}")


def test_a_run_through_the_command_itself(tmp_path: Path) -> None:
    """What tests call within their own process finds torch whole; a user's process does not."""
    done = ran(MAIN, "fit", str(RECIPE), "--epochs", "2", "--runs", str(tmp_path), "--set", "expect={}")
    assert done.returncode == 0, done.stderr
    run, out = done.stdout.strip().splitlines()[-1], str(tmp_path / "digits.pt2")
    for command in (["evaluate", run], ["resume", run, "--epochs", "3"], ["export", run, "--to", "pt2", "-o", out]):
        done = ran(MAIN, *command, "--runs", str(tmp_path))
        assert done.returncode == 0, done.stderr


def test_another_release_of_torch_is_left_whole() -> None:
    prepared("assert 'torch._refs' in sys.modules", begin="import trainer.lazy\ntrainer.lazy.KNOWN = '2.12.'\n")


def test_walking_through_the_modules_wants_nothing() -> None:
    prepared(
        "import inspect; [inspect.getmodule(m) for m in sys.modules.values()]; assert 'torch._refs' not in sys.modules"
    )


def test_a_plugin_finds_torch_whole(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"import torch\n{TRACED}")
    recipe = tmp_path / "digits.yaml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8") + "plugins: [mine.py]\n", encoding="utf-8")
    done = ran(MAIN, "fit", str(recipe), "--dry-run")
    assert done.returncode == 0, done.stderr


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "trainer", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == ran(MAIN, "--version").stdout != ""


@pytest.mark.parametrize("missing", ["package", "library", "one core"])
def test_nothing_depends_on_the_library(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if missing == "package":
        monkeypatch.setattr(ahead, "find_spec", lambda name: None)
    elif missing == "library":
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "libtorch_cpu.so").write_bytes(b"no library")
        found = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
        monkeypatch.setattr(ahead, "find_spec", lambda name: found)
    else:
        monkeypatch.setattr(ahead, "cores", lambda: 1)
        monkeypatch.setattr(ahead, "Thread", None)
        ahead.make_ready("fit")
        return
    ahead._load_library()


@pytest.mark.parametrize("arguments", [["fit", "nothing.yaml"], ["fit", "faulty.yaml"], ["import", "nothing.h5"]])
def test_a_program_that_ends_at_once_ends_well(arguments: list[str], tmp_path: Path) -> None:
    """Ending while the library is still loading must not crash."""
    (tmp_path / "faulty.yaml").write_text("model: {layers: [Dens]}")
    codes = {ran(MAIN, arguments[0], str(tmp_path / arguments[1])).returncode for _ in range(4)}
    assert codes == {3 if arguments[0] == "import" else 2}


def test_a_switch_that_there_is_not_is_named() -> None:
    done = ran(MAIN, "fit", str(RECIPE), TRAINER_WITHOUT="starts")
    assert done.returncode == 2, done
    assert 'there is no optimisation called "starts"' in done.stderr
    assert "Traceback" not in done.stderr
