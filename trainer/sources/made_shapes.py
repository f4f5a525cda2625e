"""Made pictures of shapes with the places that they cover, for a model that marks places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import model_validator

from trainer.lazy import np
from trainer.options import NonNegativeFloat, NonNegativeInt, PositiveInt, complaint, ints, raise_all
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.drawn import MOST_BYTES, digest_of
from trainer.streams import stream

if TYPE_CHECKING:
    import numpy

    Generator = numpy.random.Generator


class MadeShapes(Source):
    """Grey pictures with discs, rectangles and triangles: `image`, from 0 to 1, and `mask`, 1 where a shape is.

    A shape is brighter or darker than the ground behind it, which itself grows brighter to one side: no single level
    of grey tells them apart.
    """

    size: Annotated[tuple[int, int], ints(2, least=8)] = (64, 64)
    "Height and width in pixels; one number for both."
    samples: PositiveInt = 1_000
    "Training rows."
    test_samples: NonNegativeInt = 200
    "Test rows; 0 for none."
    shapes: PositiveInt = 3
    "Most shapes in a picture; each has one at least."
    noise: NonNegativeFloat = 0.1
    "Standard deviation of the noise on every pixel, of which black to white is 1."
    seed: NonNegativeInt = 0
    "Seed that the pictures are drawn from."

    @model_validator(mode="after")
    def _can_be(self) -> MadeShapes:
        rows = self.samples + self.test_samples
        if rows * self.size[0] * self.size[1] * 5 > MOST_BYTES:
            message = f"{rows:,} pictures of {self.size[0]} x {self.size[1]} take more than {MOST_BYTES >> 30} GiB"
            raise_all([(complaint(message, "fewer samples, or a smaller size"), ("samples",))])
        if self.shapes > 100:
            raise_all([(complaint(f"expected at most 100 shapes, found {self.shapes}"), ("shapes",))])
        return self

    def fields(self) -> dict[str, Field]:
        shape = (*self.size, 1)
        return {"image": Field(shape, "float32"), "mask": Field(shape, "uint8", ("ground", "shape"))}

    def open(self, places: Places) -> Table:
        train = self._rows("train", self.samples)
        test = self._rows("test", self.test_samples) if self.test_samples else None
        arrays = [column for rows in (train, test) if rows is not None for column in rows.columns.values()]
        return Table(train, test, self.fields(), {"made_shapes": digest_of(*arrays)})

    def _rows(self, part: str, count: int) -> Rows:
        generator = stream(self.seed, "made_shapes", part)
        image = np.empty((count, *self.size, 1), "float32")
        mask = np.empty((count, *self.size, 1), "uint8")
        for row in range(count):
            image[row, :, :, 0], mask[row, :, :, 0] = self._picture(generator)
        return Rows({"image": image, "mask": mask})

    def _picture(self, generator: Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
        height, width = self.size
        y, x = np.arange(height)[:, None], np.arange(width)[None, :]
        level, down, right = generator.uniform(0.35, 0.65), *generator.uniform(-0.3, 0.3, 2)
        ground = level + down * (y / height - 0.5) + right * (x / width - 0.5)
        image, mask = ground.copy(), np.zeros(self.size, bool)
        for _ in range(generator.integers(1, self.shapes + 1)):
            inside = covered(generator, y, x)
            contrast = generator.uniform(0.25, 0.4) * (1 if generator.integers(2) else -1)
            image = np.where(inside, ground + contrast, image)
            mask |= inside
        image += self.noise * generator.standard_normal(self.size)
        return image.clip(0, 1), mask


def covered(generator: Generator, y: numpy.ndarray, x: numpy.ndarray) -> numpy.ndarray:
    """The pixels inside a shape of any kind, size and place."""
    height, width = y.size, x.size
    kind, radius = generator.integers(3), min(height, width) * generator.uniform(0.1, 0.25)
    dy, dx = y - height * generator.uniform(0.15, 0.85), x - width * generator.uniform(0.15, 0.85)
    if kind == 0:
        return dy * dy + dx * dx <= radius * radius
    if kind == 1:
        # As tall as wide, or up to half as much.
        tall, wide = radius * generator.uniform(0.5, 1, 2)
        return (abs(dy) <= tall) & (abs(dx) <= wide)
    return (abs(dy) <= radius) & (2 * abs(dx) <= dy + radius)
