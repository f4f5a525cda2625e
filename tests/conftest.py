"""Keras, the oracle, runs on its torch backend; the large sets are used where the data folder is set."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.recipe import plugins
from trainer.train.devices import settings_kept

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TRAINER_DATA", "")

pytest_plugins = ["tests.parity.census"]

# Its own import warns, and tests run with warnings as errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("keras")


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    """Whatever a test sets in torch ends with it."""
    with settings_kept():
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that tests keep for later stays behind."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def data_folder() -> Path:
    """The folder of large data sets; a test that needs it skips by name without it."""
    folder = os.environ["TRAINER_DATA"]
    if not folder:
        pytest.skip("needs the folder of large data sets: set TRAINER_DATA")
    return Path(folder)


@pytest.fixture
def plugins_forgotten() -> Iterator[None]:
    """No class of a plugin outlives the test."""
    yield
    for name in [n for n in sys.modules if n.startswith("trainer_plugin_")]:
        plugins._forget(name)
    plugins._loaded.clear()
