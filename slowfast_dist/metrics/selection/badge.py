"""The samples that a model would learn most from, if they had a label: unsure ones, of every kind.

J. Ash, C. Zhang, A. Krishnamurthy, J. Langford and A. Agarwal, "Deep Batch Active Learning by
Diverse, Uncertain Gradient Lower Bounds" (BADGE), ICLR 2020: of each sample the gradient of the
loss in the last linear layer, as if what is predicted were true, which is long where the model is
unsure; of these k-means++ draws some that lie far apart (Arthur and Vassilvitskii, 2007).

That gradient is the outer product of a factor of K numbers and the features, F numbers. It is never
made: the products of two of them are those of their factors, multiplied.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Factors = NDArray[np.float32]

ROWS_AT_ONCE = 4096
"""Rows of a block of `Rows`: 38 MB of slowfast_r50's features, so that little is allocated in
vain, and a product with a block is worth its call."""

SAME = 1e-5
"""Squared distance of two gradients, as a share of their squared lengths together, below which they
count as equal: some times the rounding of float32 products, so that a copy is never drawn."""


class Rows:
    """Rows of ``width`` float32 numbers, any number of them, in blocks: they are never copied to
    make room."""

    def __init__(self, width: int) -> None:
        self._width, self._blocks, self._count = width, list[Factors](), 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: NDArray[np.floating]) -> None:
        place = self._count % ROWS_AT_ONCE
        if not place:
            self._blocks.append(np.empty((ROWS_AT_ONCE, self._width), np.float32))
        self._blocks[-1][place] = row
        self._count += 1

    def blocks(self) -> list[Factors]:
        """(n, width) each, which share the memory."""
        rest = self._count - ROWS_AT_ONCE * (len(self._blocks) - 1)
        return [*self._blocks[:-1], self._blocks[-1][:rest]] if self._blocks else []


def gradient_factors(
    probabilities: NDArray[np.floating], decided: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """(..., K): the gradient of the loss in the logits, where the ``decided`` classes (..., K), of
    one label a sample one, were true; of cross-entropy and of binary cross-entropy alike."""
    return probabilities - decided


def choose(
    features: Sequence[Factors], factors: Sequence[Factors], count: int, seed: int,
    clashes: Callable[[int], NDArray[np.int64]] = lambda row: np.empty(0, np.int64),
) -> list[int]:  # fmt: skip
    """The rows that are chosen, at most ``count``, in the order in which they were.

    ``features`` (n, F) and ``factors`` (n, K) of each block of rows, all but the last of one
    length; ``clashes``: the rows that are not to be chosen beside one. The first one is that of the
    longest gradient, as in the authors' code; each further one is drawn with the square of its
    distance to the nearest chosen one. Where all others are copies of those, the longest gradients
    follow. Beside the rows it takes less than 100 bytes each.
    """
    lengths = _products(features, features) * _products(factors, factors)
    free = np.ones(len(lengths), bool)
    nearest = np.full(len(lengths), np.inf)
    chosen = list[int]()
    rng = np.random.default_rng(seed)
    while len(chosen) < count and free.any():
        weights = np.where(free, nearest, 0.0)
        ends = np.cumsum(weights)
        if chosen and ends[-1] > 0:
            place = min(rng.random() * ends[-1], np.nextafter(ends[-1], 0))
            row = int(np.searchsorted(ends, place, side="right"))
        else:
            row = int(np.where(free, lengths, -1.0).argmax())
        chosen.append(row)
        free[row] = False
        free[clashes(row)] = False
        np.minimum(nearest, _distances(features, factors, lengths, row), out=nearest)
    return chosen


def _products(blocks: Sequence[Factors], others: Sequence[Factors]) -> NDArray[np.float64]:
    """Of each row with the other one."""
    parts = [
        np.einsum("nf,nf->n", block, other, dtype=np.float64)
        for block, other in zip(blocks, others, strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _distances(
    features: Sequence[Factors], factors: Sequence[Factors], lengths: NDArray[np.float64], row: int
) -> NDArray[np.float64]:
    """(N,): the squared distance of each gradient to that of one row."""
    block, place = divmod(row, len(features[0]))
    near = np.concatenate([one @ features[block][place] for one in features]).astype(np.float64)
    near *= np.concatenate([one @ factors[block][place] for one in factors])
    together = lengths + lengths[row]
    squares = together - 2 * near
    squares[squares < SAME * together] = 0.0
    return squares
