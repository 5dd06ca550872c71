"""Cells that wander, change shape, grow and divide: the geometry of a simulated movie."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_osvos.shapes import Shape, outline
from napari_osvos.textures import band_noise

ORDERS = np.arange(2, 7)
"""Fourier orders of an outline; 2 is elongation."""
MITOSIS = 2.0
"""How many frames before its division a cell rounds up."""


@dataclass
class Cell:
    """One cell at one moment; lengths in pixels, times in frames, angles in radians."""

    label: int
    position: NDArray[np.float64]  # (y, x)
    velocity: NDArray[np.float64]
    heading: float
    shape: NDArray[np.complex128]  # Fourier terms of the outline in the frame of the cell
    diameter: float  # at birth
    age: float
    lifetime: float
    brightness: float
    patch: NDArray[np.int64]  # where in the texture this cell's interior lies
    mother: int = 0

    @property
    def rounding(self) -> float:
        """0 in interphase, 1 on the point of dividing and again at birth."""
        before = 1 - (self.lifetime - self.age) / MITOSIS
        after = 1 - self.age / (1.5 * MITOSIS) if self.mother else 0.0
        return float(np.clip(max(before, after), 0, 1))

    @property
    def radius(self) -> float:
        """Mean radius: the area doubles from birth to division, and a rounded cell covers less."""
        growth = np.sqrt(1 + min(self.age / self.lifetime, 1.0))
        return float(self.diameter / 2 * growth * (1 - 0.14 * self.rounding))


@dataclass(frozen=True)
class Scene:
    """One moment of the colony, seen from above.

    Attributes
    ----------
    labels
        (Y, X) uint16.
    height
        (Y, X) float32, thickness of the cells in units of their radius, 0..1.
    depth
        (Y, X) float32, 0 outside and at the outline, 1 at the middle of a cell.
    texture
        (Y, X) float32 of standard deviation about 1; it moves and turns with its cell.
    brightness
        (Y, X) float32, about 1; 0 outside.
    rounding
        (Y, X) float32, 0..1, how far a cell has rounded up to divide.
    """

    labels: NDArray[np.uint16]
    height: NDArray[np.float32]
    depth: NDArray[np.float32]
    texture: NDArray[np.float32]
    brightness: NDArray[np.float32]
    rounding: NDArray[np.float32]


@dataclass
class Colony:
    """Cells in a field of view and in a margin around it, from which they enter and into which they leave.

    Parameters
    ----------
    rng
        Everything random comes from here.
    shape
        (Y, X) of the field of view in pixels.
    count
        How many cells lie in the field of view at the start.
    diameter
        Their mean diameter in pixels, half-way through their lives.
    divides
        Whether cells grow and divide.
    elongation
        Typical size of the Fourier term of order 2; 0.1 is nearly round, 0.3 long.
    """

    rng: np.random.Generator
    shape: Shape
    count: int
    diameter: float
    divides: bool = True
    elongation: float = 0.11
    cells: list[Cell] = field(default_factory=list)
    mothers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.margin = 1.5 * self.diameter
        side = int(8 * np.ceil(max(16.0, 4 * self.diameter) / 8))
        self.tile = band_noise(self.rng, (side, side), max(self.diameter / 3.5, 4.0), width=0.7)
        course = self.rng.uniform(0, 2 * np.pi)
        self.drift = 0.03 * self.diameter * np.array((np.sin(course), np.cos(course)))
        self._next = 1
        around = (self.shape[0] + 2 * self.margin) * (self.shape[1] + 2 * self.margin) / (self.shape[0] * self.shape[1])
        for _ in range(self.count):
            self._settle(outside=False)
        for _ in range(round(self.count * (around - 1))):
            self._settle(outside=True)
        for _ in range(20):  # neighbours make room for each other before anybody looks
            self._push_apart()

    def _settle(self, outside: bool) -> None:
        """Add a cell at the roomiest of some random places, inside or outside of the field of view."""
        size = np.array(self.shape)
        places = self.rng.uniform(-self.margin, size + self.margin, (80, 2))
        seen = ((places >= 0.2 * self.diameter) & (places < size - 0.2 * self.diameter)).all(1)
        places = places[~seen] if outside and not seen.all() else places[seen] if seen.any() else size[None] / 2
        places = places[: 8 if len(self.cells) < 400 else 2]
        if self.cells:
            others = np.array([cell.position for cell in self.cells])
            room = np.hypot(*(places[:, None] - others[None]).transpose(2, 0, 1)).min(1)
            places = places[np.argsort(-room)]
        self.cells.append(self._cell(places[0]))

    def _cell(self, position: NDArray[np.float64]) -> Cell:
        rng = self.rng
        lifetime = rng.uniform(18, 42)
        age = rng.uniform(0.05, 1.0) * lifetime if self.divides else 0.5 * lifetime
        self._next += 1
        return Cell(
            label=self._next - 1,
            position=position.astype(float),
            velocity=rng.normal(0, 0.02 * self.diameter, 2),
            heading=rng.uniform(0, 2 * np.pi),
            shape=self._random_terms(),
            diameter=self.diameter * 0.82 * float(np.exp(rng.normal(0, 0.1))),
            age=age,
            lifetime=lifetime if self.divides else np.inf,
            brightness=float(np.exp(rng.normal(0, 0.25))),
            patch=rng.integers(0, self.tile.shape[0], 2),
        )

    def _random_terms(self) -> NDArray[np.complex128]:
        terms = self.rng.normal(0, 1, ORDERS.size) + 1j * self.rng.normal(0, 1, ORDERS.size)
        return terms * np.where(ORDERS == 2, self.elongation, 0.09 * (2 / ORDERS) ** 1.9)

    def step(self) -> None:
        """Let one frame pass."""
        grown: list[Cell] = []
        for cell in self.cells:
            cell.age += 1 if self.divides else 0
            cell.velocity = 0.85 * cell.velocity + self.rng.normal(0, 0.018 * self.diameter, 2)
            cell.position = cell.position + self.drift + cell.velocity * (1 - 0.8 * cell.rounding)
            cell.heading += self.rng.normal(0, 0.05)
            cell.shape = 0.93 * cell.shape + 0.36 * self._random_terms()
            grown.extend(self._daughters(cell) if cell.age >= cell.lifetime else [cell])
        self.cells = grown
        for _ in range(4):
            self._push_apart()
        self._replace_the_lost()

    def _daughters(self, mother: Cell) -> list[Cell]:
        axis = np.array((np.sin(mother.heading), np.cos(mother.heading)))
        pair = []
        for side in (-1, 1):
            daughter = self._cell(mother.position + side * 0.62 * mother.radius * axis)
            flat = np.zeros(ORDERS.size, complex)
            flat[0] = -0.3  # plates across the axis of division
            self.mothers[daughter.label] = mother.label
            pair.append(
                replace(
                    daughter,
                    velocity=side * 0.04 * self.diameter * axis,
                    heading=mother.heading,
                    shape=flat,
                    diameter=mother.diameter * float(np.exp(self.rng.normal(0, 0.04))),
                    age=0.0,
                    brightness=mother.brightness,
                    mother=mother.label,
                )
            )
        return pair

    def _push_apart(self) -> None:
        """Move overlapping neighbours apart by a part of their overlap."""
        if len(self.cells) < 2:
            return
        at = np.array([cell.position for cell in self.cells])
        radii = np.array([cell.radius for cell in self.cells])
        apart = at[:, None] - at[None]
        distance = np.hypot(apart[..., 0], apart[..., 1]) + 1e-6
        overlap = np.maximum(1.04 * (radii[:, None] + radii[None]) - distance, 0)
        np.fill_diagonal(overlap, 0)
        shifts = 0.25 * (overlap / distance)[..., None] * apart
        for cell, shift in zip(self.cells, shifts.sum(1), strict=True):
            cell.position = cell.position + shift

    def _replace_the_lost(self) -> None:
        """Let a stranger come in at the other side for each cell that has left the margin."""
        for index, cell in enumerate(self.cells):
            span = np.array(self.shape) + 2 * self.margin
            place = (cell.position + self.margin) % span - self.margin
            if np.abs(place - cell.position).max() > 1:
                self.cells[index] = self._cell(place)

    def scene(self) -> Scene:
        """Rasterise the cells; where two overlap, a pixel belongs to the one in which it lies deeper."""
        nearest = np.ones(self.shape, np.float32)
        labels = np.zeros(self.shape, np.uint16)
        texture, brightness, rounding = (np.zeros(self.shape, np.float32) for _ in range(3))
        for cell in self.cells:
            reach = 1.8 * cell.radius + 2
            y0, x0 = np.maximum(np.floor(cell.position - reach), 0).astype(int)
            y1, x1 = np.minimum(np.ceil(cell.position + reach) + 1, self.shape).astype(int)
            if y1 <= y0 or x1 <= x0:
                continue
            window = np.s_[y0:y1, x0:x1]
            y = (np.arange(y0, y1) - cell.position[0]).astype(np.float32)[:, None]
            x = (np.arange(x0, x1) - cell.position[1]).astype(np.float32)[None]
            c, s = np.float32(np.cos(cell.heading)), np.float32(np.sin(cell.heading))
            u, v = x * c + y * s, y * c - x * s
            terms = cell.shape * np.where(ORDERS == 2, 1.0, 1 - cell.rounding)
            limit = outline(np.arctan2(v, u), np.abs(terms), np.angle(terms))
            rho = np.hypot(u, v) / (limit * np.float32(cell.radius))
            mine = rho < nearest[window]
            nearest[window][mine] = rho[mine]
            labels[window][mine] = cell.label
            rows, columns = (np.rint(w[mine]).astype(int) + p for w, p in zip((v, u), cell.patch, strict=True))
            texture[window][mine] = self.tile[rows % self.tile.shape[0], columns % self.tile.shape[1]]
            brightness[window][mine] = cell.brightness
            rounding[window][mine] = cell.rounding
        depth = 1 - nearest
        return Scene(labels, np.sqrt(1 - nearest**2), depth, texture, brightness, rounding)
