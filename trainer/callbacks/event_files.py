"""TensorBoard's event files: a header, then records of scalars, histograms, pictures and graphs.

A file is written at a known size, so that a resumed run cuts off what the epochs that it repeats had written.
"""

from __future__ import annotations

import functools
import importlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.callbacks.growing import grown
from trainer.errors import EnvironmentFault
from trainer.lazy import np

if TYPE_CHECKING:
    import numpy

NAME = "events.out.tfevents.trainer"


@functools.cache
def proto(name: str) -> Any:
    """The generated module of TensorBoard's messages of that name (type checkers can't look into it)."""
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def require() -> None:
    """Fail early without TensorBoard.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        proto("event")
    except ImportError:
        hint = "pip install 'recipe-trainer[tensorboard]'"
        raise EnvironmentFault("TensorBoard needs tensorboard", hint=hint) from None


def write(home: Path, name: str, size: int, summaries: Sequence[tuple[int, Any]]) -> int:
    """Put (step, summary) into a file under the run directory whose first `size` bytes count; its new size.

    Raises:
        EnvironmentFault: the file can't be written.
    """
    require()
    from tensorboard.summary.writer.record_writer import RecordWriter

    made, now = io.BytesIO(), time.time()
    records, event = RecordWriter(made), proto("event").Event
    if size == 0:
        records.write(event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for step, summary in summaries:
        records.write(event(wall_time=now, step=step, summary=summary).SerializeToString())
    return grown(home, name, size, made.getvalue())


def scalar(tag: str, value: float) -> Any:
    """A number."""
    return _summary(tag, simple_value=value)


def histogram(tag: str, values: numpy.ndarray, bins: int = 30) -> Any:
    """How values are spread over `bins` ranges of one width; those that are not finite are left out."""
    values = values[np.isfinite(values)].astype("float64")
    counts, edges = np.histogram(values, bins) if values.size else (np.zeros(1), np.zeros(2))
    known = proto("summary").HistogramProto(
        min=values.min(initial=np.inf) if values.size else 0.0,
        max=values.max(initial=-np.inf) if values.size else 0.0,
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return _summary(tag, histo=known)


def picture(tag: str, values: numpy.ndarray) -> Any:
    """A picture (height, width, channels) of numbers, the least of them black and the largest white."""
    from PIL import Image

    low, high = values.min(), values.max()
    bright = np.round((values - low) / (high - low if high > low else 1) * 255).astype("uint8")
    made = io.BytesIO()
    Image.fromarray(bright[..., 0] if bright.shape[-1] == 1 else bright).save(made, "png")
    height, width, channels = bright.shape
    kind = proto("summary").Summary.Image
    shown = kind(height=height, width=width, colorspace=channels, encoded_image_string=made.getvalue())
    return _summary(tag, image=shown)


def architecture(tag: str, text: str) -> Any:
    """A model as Keras's JSON, which TensorBoard draws as a graph."""
    kind = proto("summary").SummaryMetadata
    known = kind(plugin_data=kind.PluginData(plugin_name="graph_keras_model", content=b"1"))
    held = proto("tensor").TensorProto(dtype=proto("types").DT_STRING, string_val=[text.encode()])
    return _summary(tag, tensor=held, metadata=known)


def _summary(tag: str, **content: Any) -> Any:
    kind = proto("summary").Summary
    return kind(value=[kind.Value(tag=tag, **content)])
