"""A Keras model file of 100 MB, for the time that `trainer import` takes.

python tests/benchmarks/model_file.py FILE    # .keras or .h5
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

LAYERS = ((5000, "relu"), (3900, "relu"), (100, "softmax"))
"Units and activation: 24.9 million weights behind 1,000 inputs."

model = keras.Sequential([keras.Input((1000,)), *(keras.layers.Dense(n, activation=kind) for n, kind in LAYERS)])
model.save(sys.argv[1])
