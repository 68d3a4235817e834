"""A log-linear histogram of integers: quantiles in bounded memory, half a microsecond per value.

Each power of two is divided into ``SUB`` cells of equal width, so a quantile is at most
``1/SUB`` of itself too high, over any range. Pure: no Trio, no clock.
"""

from __future__ import annotations

from typing import Final

SUB: Final = 16
_SHIFT: Final = 4


class Histogram:
    """Counts of non-negative integers, for example nanoseconds.

    Attributes:
      total: sum of the recorded values.
      least: the smallest value, 0 while there is none.
      most: the largest value, 0 while there is none.
    """

    __slots__ = ("_cells", "least", "most", "total")

    def __init__(self) -> None:
        self._cells: dict[int, int] = {}
        self.total = 0
        self.least = 0
        self.most = 0

    def record(self, value: int) -> None:
        """Record one value; a negative one counts as 0."""
        # This runs twice per command: every line counts.
        cells = self._cells
        exponent = value.bit_length() - _SHIFT - 1
        if exponent > 0 and value > 0:
            cell = (exponent << (_SHIFT + 1)) + (value >> exponent)
        else:
            cell = value = max(value, 0)
        if value > self.most:
            self.most = value
        if value < self.least or not cells:
            self.least = value
        if cell in cells:
            cells[cell] += 1
        else:
            cells[cell] = 1
        self.total += value

    def merged(self, other: Histogram) -> Histogram:
        """Return a new histogram with the values of both."""
        both = Histogram()
        both.total = self.total + other.total
        both.most = max(self.most, other.most)
        both.least = min((each.least for each in (self, other) if each._cells), default=0)
        for cells in (self._cells, other._cells):
            for cell, count in cells.items():
                both._cells[cell] = both._cells.get(cell, 0) + count
        return both

    @property
    def count(self) -> int:
        """Number of recorded values."""
        return sum(self._cells.values())

    @property
    def mean(self) -> float:
        """Mean of the recorded values, 0.0 while there is none."""
        return self.total / self.count if self._cells else 0.0

    def quantile(self, fraction: float) -> int:
        """Return the upper edge of the cell that holds a quantile; at most ``1/SUB`` too high.

        Args:
          fraction: 0.5 for the median, 0.99 for the 99th percentile.

        Returns 0 while there is no value.
        """
        wanted = fraction * self.count
        seen = 0
        for cell in sorted(self._cells):
            seen += self._cells[cell]
            if seen >= wanted:
                exponent, mantissa = cell >> (_SHIFT + 1), cell & ((1 << (_SHIFT + 1)) - 1)
                return min(((mantissa + 1) << exponent) - 1, self.most)
        return self.most
