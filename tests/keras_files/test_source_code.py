"""`--to code`: every layer and graph as plain PyTorch; a Python that knows no trainer lets it predict and train."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest
import torch

from tests.keras_files.drawn_models import Graph as Drawn
from tests.keras_files.importing_by import call
from tests.keras_files.loading import loaded_file
from tests.keras_files.plain_models import ANIMALS, Case, hold, network, rows, weighed
from tests.parity.fitting import ours
from tests.parity.test_graphs import GRAPHS, recipe
from tests.train.recipes import DIGITS, loaded, trained
from trainer.errors import FileError, RunError
from trainer.keras_files.source_code.source import model_body
from trainer.layers.base import Layer
from trainer.layers.conv import Conv
from trainer.layers.dense import Dense
from trainer.layers.graph import Graph, built, chain
from trainer.layers.models import Sequential
from trainer.layers.order import Call
from trainer.layers.wiring import Wiring
from trainer.model.network import Network

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer '.*was passed an input with a mask:UserWarning"),
]
NO_SOURCE = {
    "AutoContrast-0",
    "ContrastLimitedAdaptiveHistogramEqualization-0",
    "MelSpectrogram-0",
    "MelSpectrogram-1",
    "Resizing-1",
    "STFTSpectrogram-0",
    "STFTSpectrogram-1",
}
"Layers, or options of them, that have no plain PyTorch yet."


def written(names: list[str], folder: Path) -> list[Case]:
    """The sources of layers of the zoo."""
    cases = []
    for name in names:
        shape, layer = ANIMALS[name]
        case = Case(network(shape, layer), [rows(shape, layer)], folder / name)
        case.write()
        cases.append(case)
    return cases


@pytest.mark.parametrize("part", range(4))
def test_every_layer(part: int, tmp_path: Path) -> None:
    hold(written([name for name in ANIMALS if name not in NO_SOURCE][part::4], tmp_path))


@pytest.mark.parametrize("name", sorted(NO_SOURCE))
def test_layers_without_a_source_are_refused_by_name(name: str) -> None:
    shape, layer = ANIMALS[name]
    with pytest.raises(RunError, match=rf"\({name.partition('-')[0]}\): "):
        model_body(network(shape, layer))


def test_every_graph(tmp_path: Path) -> None:
    cases = []
    for number, name in enumerate(GRAPHS):
        built, training = ours(loaded(recipe(name)))
        case = Case(built.network.eval(), next(training.train.batches(16)).xs, tmp_path / str(number))
        case.write(name)
        cases.append(case)
    hold(cases)


def drawn(seeds: range, folder: Path) -> list[Case]:
    """Sources of models that were drawn with real Keras and imported."""
    cases = []
    for seed in seeds:
        graph = Drawn(seed)
        graph.model.save(folder / f"{seed}.keras")
        try:
            network, _ = loaded_file(folder / f"{seed}.keras")
        except FileError:
            # Keras writes the operations that merge masks as layers of no name.
            continue
        case = Case(network, [torch.from_numpy(x) for x in graph.rows().values()], folder / str(seed))
        case.write()
        cases.append(case)
    return cases


def test_drawn_models_of_keras(tmp_path: Path) -> None:
    cases = drawn(range(10), tmp_path)
    assert len(cases) > 6
    hold(cases)


def test_tensors_named_as_the_functions_of_the_source(tmp_path: Path) -> None:
    a = keras.Input((3,), name="a")
    made = keras.layers.Dot(1, name="dot")([keras.layers.Dense(3, name="masked_product")(a), a])
    keras.Model(a, keras.layers.Dot(1, name="second")([made, made])).save(tmp_path / "dots.keras")
    network, _ = loaded_file(tmp_path / "dots.keras")
    case = Case(network, [torch.randn(5, 3)], tmp_path / "dots")
    case.write()
    hold([case])


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_many_drawn_models_of_keras(part: int, tmp_path: Path) -> None:
    cases = drawn(range(10 + 50 * part, 60 + 50 * part), tmp_path)
    assert len(cases) > 35
    hold(cases)


def tidy(folder: Path) -> None:
    """Whether ruff finds nothing to say of the sources under a folder, nor lays them out otherwise."""
    rules = "E,F,I,B,UP,SIM,RUF,PT,PIE,RET,C4"
    common = ["--isolated", "--no-cache", "--line-length", "120"]
    check = ["check", *common, "--select", rules, "--ignore", "RUF001,RUF002,RUF003", "--target-version", "py311"]
    for words in (check, ["format", *common, "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:]


def test_the_sources_are_tidy(tmp_path: Path) -> None:
    written([name for name in ANIMALS if name not in NO_SOURCE], tmp_path)
    for number, name in enumerate(GRAPHS):
        built, training = ours(loaded(recipe(name)))
        Case(built.network.eval(), next(training.train.batches(16)).xs, tmp_path / str(number)).write(name)
    tidy(tmp_path)


def test_a_run_by_the_command(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.epochs=1")
    (tmp_path / "made").mkdir()
    words = ("export", str(outcome.directory), "--to", "code", "-o", str(tmp_path / "made"))
    answer = call(*words)
    assert answer.code == 0, answer.err
    assert "largest difference" in answer.err
    made = tmp_path / "made" / "digits"
    assert sorted(p.name for p in made.iterdir()) == ["model.py", "model.safetensors"]
    text = (made / "model.py").read_text()
    assert "self.dense = nn.Linear(64, 32)" in text
    assert "x = torch.relu(self.dense(image))" in text
    assert "image = image.reshape(image.shape[0], 64)" in text
    assert "import trainer" not in text
    tidy(tmp_path / "made")
    again = call(*words)
    assert again.code == 2
    assert "model.py exists" in again.err
    assert call(*words, "--force").code == 0


EVIL = [
    '__import__("os").system("touch pwned")',
    "'''\nimport os\nos.abort()\n'''",
    '"""\nraise SystemExit\n"""',
    "x) + exit(",
    "import",
    "self",
    "torch",
    "Model",
    "a-b",
    "a_b",
    "a.b",
    "été",
    "1st",
    "\\N{DIGIT ONE}",
    "{module}",
    "\u202eevil",
    "#",
    "ChannelsLast",
]
INSIDE = ["forward", "training", "load_state_dict", "prepare", "x"]
"Names that can only be had inside a model."


def named(kind: Any, name: str, **options: Any) -> Any:
    """A layer with a name that no recipe could give it."""
    layer = kind(**options)
    return kind.model_construct(**{**layer.__dict__, "name": name})


def test_names_of_strangers_never_become_code(tmp_path: Path) -> None:
    """Layers, inputs, models inside and the model itself are called whatever a file may say."""
    layers: dict[str, Any] = {}
    for number, name in enumerate(EVIL):
        inside = tuple(named(Dense, n, units=4) for n in (name, *INSIDE[number % 5 :]))
        layers[name] = named(Sequential, name, layers=inside) if number % 3 == 0 else inside[0]
    calls = tuple(Call(name, (n,), n + 1) for n, name in enumerate(EVIL))
    outputs = {EVIL[-1]: len(EVIL), EVIL[1]: 2}
    names = dict(enumerate([EVIL[0], *EVIL]))
    graph = Graph(Wiring({EVIL[0]: 0}, layers, calls, outputs, {}, {}, {}, names), EVIL[1])
    graph.shapes = built(graph.wiring, {0: (None, 4)}, graph.plans)
    case = Case(weighed(Network(graph, 3)), [torch.randn(5, 4)], tmp_path / "case")
    text = case.write(EVIL[2])
    tree = ast.parse(text)
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert not {name for name in called if name.partition(".")[0] in ("os", "exit", "__import__")}
    assert {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import)} == {
        "import sys",
        "import numpy as np",
        "import torch",
    }
    hold([case])
    tidy(tmp_path)
    assert not list(tmp_path.rglob("pwned"))


def test_a_plugins_layer_is_refused_whatever_it_derives_from() -> None:
    Layer.spellings()
    try:

        class Doubled(Conv, keras=""):
            """Twice what Conv1D makes."""

            rank = 1

            def forward(self, w: Any, x: torch.Tensor) -> torch.Tensor:
                return 2 * super().forward(w, x)

        odd = {"filters": 3, "kernel_size": 1}
        layers = [Doubled(**odd, name="first"), Dense(units=2), Doubled(**odd, name="last")]
        with pytest.raises(RunError) as found:
            model_body(Network(chain(layers, {"x": (None, 4, 4)})))
    finally:
        Layer.catalogue.pop("Doubled", None)
    assert [p.message.split(":")[0] for p in found.value.problems] == [
        "can't write first (Doubled)",
        "can't write last (Doubled)",
    ]


def test_another_number_type_is_refused() -> None:
    with pytest.raises(RunError, match="float16"):
        model_body(Network(chain([Dense(units=3)], {"x": (None, 4)}, dtype="mixed_float16")))
