"""Callbacks that reach beyond the logs, beside Keras's: RemoteMonitor, SwapEMAWeights, TensorBoard."""

from __future__ import annotations

import builtins
import dataclasses
import io
import json
import math
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.parity.fitting import model_weights, ours, twin
from tests.parity.harness import close
from tests.parity.test_callbacks import FakeRun, random_logs
from tests.train.recipes import DIGITS, directory_of, loaded, trained
from trainer.callbacks import event_files
from trainer.callbacks.base import Callback
from trainer.callbacks.tensorboard import as_pictures
from trainer.errors import EnvironmentFault, RecipeError
from trainer.train.devices import settings_kept
from trainer.train.job import Options, resume
from trainer.train.loop import Training

# Keras 3.15 reads its own variables in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Message = tuple[str, dict[str, str], bytes]


class Listener(HTTPServer):
    """A server that notes what it is sent."""

    def __init__(self, status: int = 200):
        self.messages: list[Message] = []
        noted, code = self.messages, status

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                noted.append((self.path, dict(self.headers), body))
                self.send_response(code)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(params=[200])
def server(request: pytest.FixtureRequest) -> Iterator[Listener]:
    made = Listener(request.param)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def sent_by_keras(options: dict[str, Any], epochs: list[dict[str, float]], patch: pytest.MonkeyPatch) -> list[Message]:
    """What Keras's own callback hands to `requests`, which is not needed to ask it."""
    posts: list[Message] = []

    def post(url: str, data: Any = None, json: Any = None, headers: Any = None) -> None:
        body = urlencode(data) if json is None else builtins.__import__("json").dumps(json)
        posts.append((url.removeprefix(options["root"]), headers or {}, body.encode()))

    fake = SimpleNamespace(post=post, exceptions=SimpleNamespace(RequestException=OSError))
    patch.setattr(sys.modules[keras.callbacks.RemoteMonitor.__module__], "requests", fake)
    theirs = keras.callbacks.RemoteMonitor(**options)
    for epoch, logs in enumerate(epochs):
        theirs.on_epoch_end(epoch, logs)
    return posts


def content(message: Message, field: str | None) -> Any:
    text = message[2].decode()
    return json.loads(text if field is None else parse_qs(text, strict_parsing=True)[field][0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"send_as_json": True, "path": "/a/b?c=d"},
        {"field": "what & where", "headers": {"Authorization": "Bearer x", "X-Run": "7"}},
        {"send_as_json": True, "headers": {"X-Run": "7"}},
    ],
)
def test_remote_monitor(
    options: dict[str, Any], server: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"root": server.root, **options}
    logs = [{k: v for k, v in epoch.items() if v == v} for epoch in random_logs(np.random.default_rng(1), 5)]
    callback, run = Callback.parse({"RemoteMonitor": options}), FakeRun(tmp_path)
    for epoch, values in enumerate(logs):
        callback.on_epoch_end(SimpleNamespace(), run, epoch, values)
    theirs = sent_by_keras(options, logs, monkeypatch)
    field = None if options.get("send_as_json") else options.get("field", "data")
    assert run.said == []
    assert [m[0] for m in server.messages] == [m[0] for m in theirs]
    assert [content(m, field) for m in server.messages] == [content(m, field) for m in theirs]
    assert len(server.messages) == 5
    form = "application/json" if field is None else "application/x-www-form-urlencoded"
    for _, headers, _ in server.messages:
        assert headers["Content-Type"] == form
        assert {**headers, **options.get("headers", {})} == headers


def test_remote_monitor_sends_what_any_server_reads(server: Listener, tmp_path: Path) -> None:
    callback = Callback.parse({"RemoteMonitor": {"root": server.root, "send_as_json": True}})
    callback.on_epoch_end(SimpleNamespace(), FakeRun(tmp_path), 0, {"loss": math.nan, "mae": math.inf, "auc": 0.5})
    assert content(server.messages[0], None) == {"epoch": 0, "loss": None, "mae": None, "auc": 0.5}


def test_remote_monitor_without_a_server(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        root = f"http://127.0.0.1:{taken.server_port}"
    run = FakeRun(tmp_path)
    Callback.parse({"RemoteMonitor": {"root": root}}).on_epoch_end(SimpleNamespace(), run, 0, {"loss": 1.0})
    assert len(run.said) == 1
    assert run.said[0].startswith(f"RemoteMonitor: could not reach the server at {root} (")
    assert "refused" in run.said[0]


@pytest.mark.parametrize("server", [500], indirect=True)
def test_remote_monitor_that_is_refused(server: Listener, tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    Callback.parse({"RemoteMonitor": {"root": server.root}}).on_epoch_end(SimpleNamespace(), run, 0, {"loss": 1.0})
    assert run.said == [f"RemoteMonitor: {server.root}/publish/epoch/end/ answered 500 Internal Server Error"]


@pytest.mark.parametrize("root", ["localhost:9000", "file:///etc/passwd", "ftp://x", "http://", "http://a\nb", 7])
def test_remote_monitor_speaks_http(root: Any) -> None:
    with pytest.raises(ValidationError, match="an address such as http://localhost:9000"):
        Callback.parse({"RemoteMonitor": {"root": root}})
    for headers in ({"X": "a\r\nY: b"}, {"X": 1}, "X: 1"):
        with pytest.raises(ValidationError, match="a mapping of header names to texts"):
            Callback.parse({"RemoteMonitor": {"headers": headers}})


AVERAGED = """
seed: 5
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  targets: {label: {}}
  limit: 200
model: {layers: [{Dense: {units: 8, activation: tanh}}, {Dense: {units: 10, activation: softmax}}]}
compile: {optimizer: OPTIMIZER, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 5, batch_size: 16, shuffle: false, validation_split: 0.2}
"""
EMA = "{Adam: {learning_rate: 0.02, use_ema: true, ema_momentum: 0.9}}"
SCALED = f"{{LossScaleOptimizer: {{inner_optimizer: {EMA}, initial_scale: 64.0}}}}"


class Notes(Callback):
    """Notes the weights at the end of every epoch, as a callback listed below does."""

    def on_train_begin(self, my: SimpleNamespace, run: Any) -> None:
        my.weights = []

    def on_epoch_end(self, my: SimpleNamespace, run: Any, epoch: int, logs: Any) -> None:
        my.weights.append(run.weights())


# Not in the catalogue: tests that sweep it know nothing of this one.
del Callback.catalogue["Notes"]


def averaged(optimizer: str, swap_on_epoch: bool) -> tuple[Any, Training]:
    built, training = ours(loaded(AVERAGED.replace("OPTIMIZER", optimizer)))
    swap = Callback.parse({"SwapEMAWeights": {"swap_on_epoch": swap_on_epoch}})
    return built, dataclasses.replace(training, callbacks=[swap, Notes()])


@pytest.mark.parametrize("swap_on_epoch", [False, True])
@pytest.mark.parametrize("optimizer", [EMA, SCALED])
def test_swap_ema_weights(optimizer: str, swap_on_epoch: bool) -> None:
    """The same values, weights at the ends of epochs and weights in the end as Keras; and without it, other values."""
    built, training = averaged(optimizer, swap_on_epoch)
    model, noted = twin(built), []
    feeds = (training.train, training.validation)
    rows = [(f.xs[0].rows(slice(None)).numpy(), f.ys[0].rows(slice(None)).numpy()) for f in feeds if f]
    theirs = model.fit(
        *rows[0],
        epochs=5,
        batch_size=16,
        validation_data=rows[1],
        validation_batch_size=16,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: noted.append(model_weights(model))),
        ],
    ).history
    with settings_kept():
        history = training.run()
    for name, values in theirs.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
    for mine, their in zip(training.mine[1].weights, noted, strict=True):
        for a, b in zip(mine, their, strict=True):
            close(a, b, "weights at the end of an epoch")
    for a, b in zip(training.weights(), model_weights(model), strict=True):
        close(a, b, "weights in the end")
    _, plain = ours(loaded(AVERAGED.replace("OPTIMIZER", optimizer)))
    assert plain.run()["val_loss"] != history["val_loss"]


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_going_on_with_averages_in_place(swap_on_epoch: bool) -> None:
    _, straight = averaged(EMA, swap_on_epoch)
    straight.run()
    _, first = averaged(EMA, swap_on_epoch)
    saved: list[tuple[list[np.ndarray], dict[str, Any]]] = []
    first.checkpoint = lambda training, force: saved.append((training.weights(), training.state()))
    first.run()
    _, second = averaged(EMA, swap_on_epoch)
    second.set_weights(saved[1][0])
    second.load_state(saved[1][1])
    second.run()
    assert second.history == straight.history
    for a, b in zip(second.weights(), straight.weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_swapping_ends_early_with_the_averages() -> None:
    """Keras's own ends with the weights then, and only then."""
    _, training = averaged(EMA, True)
    stop = keras_like_stop(2)
    training = dataclasses.replace(training, callbacks=[training.callbacks[0], stop, training.callbacks[1]])
    training.run()
    assert len(training.mine[2].weights) == 3
    for a, b in zip(training.weights(), training.mine[2].weights[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def keras_like_stop(epoch: int) -> Callback:
    """Ends training after an epoch: nothing beats the first one's loss by so much."""
    return Callback.parse({"EarlyStopping": {"monitor": "loss", "patience": epoch, "min_delta": 100.0}})


def test_no_averages_to_swap() -> None:
    _, training = averaged("adam", False)
    with pytest.raises(RecipeError, match="no averages of weights") as caught:
        training.run()
    assert "use_ema: true" in str(caught.value)
    assert training.history == {}


def read(directory: Path) -> EventAccumulator:
    """What TensorBoard itself finds."""
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def scalars(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in found.Scalars(tag)]


BOARD = DIGITS + "callbacks: [{TensorBoard: OPTIONS}]\n"


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    """Every value of the history, under Keras's names; the model as Keras's JSON."""
    made = trained(tmp_path, BOARD.replace("OPTIONS", "{write_steps_per_second: true}"))
    train, judged = read(made.directory / "logs" / "train"), read(made.directory / "logs" / "validation")
    history = made.history
    epochs = range(len(history["loss"]))
    for name, values in history.items():
        found = judged if name.startswith("val_") else train
        tag = f"epoch_{name.removeprefix('val_')}"
        expected = [(epoch, float(np.float32(value))) for epoch, value in zip(epochs, values, strict=True)]
        assert scalars(found, tag) == expected, name
    steps = 15
    assert [s for s, _ in scalars(judged, "evaluation_loss_vs_iterations")] == [steps * (e + 1) for e in epochs]
    assert [v for _, v in scalars(judged, "evaluation_loss_vs_iterations")] == [
        v for _, v in scalars(judged, "epoch_loss")
    ]
    assert all(value > 0 for _, value in scalars(train, "epoch_steps_per_second"))
    assert set(judged.Tags()["scalars"]) == {
        f"{kind}{name}{end}"
        for name in ("loss", "accuracy")
        for kind, end in (("epoch_", ""), ("evaluation_", "_vs_iterations"))
    }
    assert train.Tags()["histograms"] == []
    assert train.SummaryMetadata("keras").plugin_data.plugin_name == "graph_keras_model"
    (event,) = train.Tensors("keras")
    model = keras.models.model_from_json(event.tensor_proto.string_val[0].decode())
    assert [layer.__class__.__name__ for layer in model.layers] == ["Dense", "Dropout", "Dense"]


@pytest.mark.parametrize(("every", "expected"), [("batch", range(1, 61)), (3, range(3, 61, 3))])
def test_tensorboard_by_batches(every: Any, expected: range, tmp_path: Path) -> None:
    options = f"{{update_freq: {every}, write_graph: false, write_steps_per_second: true}}"
    made = trained(tmp_path, BOARD.replace("OPTIONS", options))
    train = read(made.directory / "logs" / "train")
    for tag in ("batch_loss", "batch_accuracy", "batch_steps_per_second"):
        assert [step for step, _ in scalars(train, tag)] == list(expected)
    if every == "batch":
        ends = [value for step, value in scalars(train, "batch_loss") if step % 15 == 0]
        assert ends == [float(np.float32(v)) for v in made.history["loss"]]
    assert train.Tags()["tensors"] == []


def test_tensorboard_weights(tmp_path: Path) -> None:
    made = trained(tmp_path, BOARD.replace("OPTIONS", "{histogram_freq: 2, write_images: true, log_dir: a/b}"))
    train = read(made.directory / "a" / "b" / "train")
    names = ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
    assert train.Tags()["histograms"] == [f"{name}/histogram" for name in names]
    for name, size in zip(names, (64 * 32, 32, 320, 10), strict=True):
        events = train.Histograms(f"{name}/histogram")
        assert [e.step for e in events] == [0, 2]
        assert all(sum(e.histogram_value.bucket) == e.histogram_value.num == size for e in events)
    assert train.Tags()["images"] == [f"{name}/image/0" for name in names]
    shown = train.Images("dense/kernel/image/0")[-1]
    picture = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)))
    assert picture.shape == (32, 64) == (shown.height, shown.width)
    assert (picture.min(), picture.max()) == (0, 255)


def test_a_resumed_run_writes_each_step_once(tmp_path: Path) -> None:
    """Beyond the checkpoint the file is cut off; the board shows one training."""
    made = trained(tmp_path, BOARD.replace("OPTIONS", "{update_freq: 5, histogram_freq: 1}"))
    file = made.directory / "logs" / "train" / event_files.NAME
    with file.open("ab") as stray:
        stray.write(b"what a killed run had written")
    resume(directory_of(made), Options(device="cpu", epochs=6))
    train = read(made.directory / "logs" / "train")
    assert [step for step, _ in scalars(train, "epoch_loss")] == list(range(6))
    assert [step for step, _ in scalars(train, "batch_loss")] == list(range(5, 91, 5))
    assert [e.step for e in train.Histograms("dense/bias/histogram")] == list(range(6))


def test_pictures_of_weights() -> None:
    """Keras's own rule for which weights are pictures, and how they lie."""

    class Board(keras.callbacks.TensorBoard):
        summary = SimpleNamespace(image=lambda name, picture, step: shown.append(picture))

    random = np.random.default_rng(0)
    shapes = [(5,), (1,), (4, 7), (7, 4), (3, 3, 6), (3, 3, 1, 6), (3, 3, 2, 5), (2, 5, 5, 3), (2, 5, 5, 4), (2, 2)]
    for shape in [*shapes, (2, 2, 2, 2, 2), ()]:
        shown: list[np.ndarray] = []
        values = random.normal(size=shape).astype("float32")
        Board(write_graph=False)._log_weight_as_image(torch.from_numpy(values), "w", 0)
        mine = as_pictures(values)
        assert len(mine) == (min(len(shown[0]), 3) if shown else 0), shape
        for a, b in zip(mine, shown[0] if shown else [], strict=False):
            np.testing.assert_array_equal(a, b)
    assert as_pictures(np.full((2, 2), np.nan)) == []
    assert event_files.picture("flat", np.zeros((2, 2, 3))).value[0].image.colorspace == 3
    assert event_files.histogram("h", np.array([np.nan, 1, 2, 2])).value[0].histo.num == 3
    assert event_files.histogram("h", np.array([])).value[0].histo.num == 0


def test_tensorboard_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(event_files, "proto", missing)
    with pytest.raises(EnvironmentFault, match="needs tensorboard") as caught:
        Callback.parse({"TensorBoard": {"write_graph": False}}).on_train_begin(SimpleNamespace(), FakeRun(tmp_path))
    assert "recipe-trainer[tensorboard]" in str(caught.value)


def test_tensorboard_that_can_not_write(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    callback, my, run = Callback.parse({"TensorBoard": {"write_graph": False}}), SimpleNamespace(), FakeRun(tmp_path)
    callback.on_train_begin(my, run)
    with pytest.raises(EnvironmentFault, match="can't write"):
        callback.on_epoch_end(my, run, 0, {"loss": 1.0})


def test_tensorboard_does_not_bring_a_removed_run_back(tmp_path: Path) -> None:
    run, my = FakeRun(tmp_path / "gone"), SimpleNamespace()
    callback = Callback.parse({"TensorBoard": {"write_graph": False}})
    callback.on_train_begin(my, run)
    with pytest.raises(EnvironmentFault, match="No such file"):
        callback.on_epoch_end(my, run, 0, {"loss": 1.0})
    assert not run.directory.exists()


@pytest.mark.parametrize("options", [{"update_freq": 0}, {"update_freq": "step"}, {"log_dir": "../x"}, {"profile": 1}])
def test_tensorboard_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"expected|no option"):
        Callback.parse({"TensorBoard": options})
