"""Hadamard matrices: n rows of ±1, any two at right angles. They spread a spectrum evenly over all numbers (PHI-S)."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np


@cache
def hadamard(n: int) -> np.ndarray | None:
    """An n by n matrix of ±1 whose product with its transpose is n times the identity, int8; read only.

    Constructions: Paley's two, over fields of any prime power (so 52, of 25, and 100, of 49, too), and Kronecker
    products of what is known (Sylvester's, where one factor is 2). None where they lead to none: for n that is neither
    1, 2 nor a multiple of 4 there can be none; for others, such as 92, there is one that these do not find.
    """
    found = _hadamard(n)
    if found is not None:
        found.setflags(write=False)
    return found


def _hadamard(n: int) -> np.ndarray | None:
    if n < 1 or (n > 2 and n % 4):
        return None
    if n <= 2:
        return np.array([[1, 1], [1, -1]], np.int8)[:n, :n]
    if n - 1 == _power(n - 1) and (n - 1) % 4 == 3:
        return _conference(n - 1, -1) + np.eye(n, dtype=np.int8)
    half = n // 2
    if half - 1 == _power(half - 1) and (half - 1) % 4 == 1:
        square, corner = np.array([[1, 1], [1, -1]], np.int8), np.array([[1, -1], [-1, -1]], np.int8)
        return np.kron(_conference(half - 1, 1), square) + np.kron(np.eye(half, dtype=np.int8), corner)
    for left in range(2, int(n**0.5) + 1):
        if n % left == 0 and (first := hadamard(left)) is not None and (second := hadamard(n // left)) is not None:
            return np.kron(first, second)
    return None


def _power(number: int) -> int:
    """The number where it is a prime power, else 0."""
    if number < 2:
        return 0
    prime = next((p for p in range(2, int(number**0.5) + 1) if number % p == 0), number)
    rest = number
    while rest % prime == 0:
        rest //= prime
    return number if rest == 1 else 0


def _conference(q: int, sign: int) -> np.ndarray:
    """Zeros on the diagonal, ±1 elsewhere, rows at right angles; of q + 1 rows, symmetric (sign 1) or skew (-1)."""
    matrix = np.ones((q + 1, q + 1), np.int8)
    matrix[0, 0] = 0
    matrix[1:, 0] = sign
    matrix[1:, 1:] = _characters(q)
    return matrix


def _characters(q: int) -> np.ndarray:
    """For each two elements of the field of q: 1 where their difference is a square, -1 where it is none, 0 on the
    diagonal; int8 [q, q]."""
    prime = next(p for p in range(2, q + 1) if q % p == 0)
    digits = np.array(list(_elements(prime, q)))
    place = prime ** np.arange(digits.shape[1])[::-1]
    character = np.zeros(q, np.int8)
    character[_powers(prime, digits.shape[1]) @ place] = np.resize([1, -1], q - 1)
    differences = (digits[:, None] - digits[None]) % prime
    return character[differences @ place]


def _elements(prime: int, q: int) -> product[tuple[int, ...]]:
    """The elements of the field of q: digits in base `prime`, highest first, in the order of the numbers they spell."""
    degree = 1
    while prime**degree < q:
        degree += 1
    return product(range(prime), repeat=degree)


def _powers(prime: int, degree: int) -> np.ndarray:
    """All powers of an element that generates the field's others, from the zeroth on: its squares are the even ones.

    Returns int64 [prime^degree - 1, degree], digits, highest first.
    """
    count = prime**degree - 1
    one = (0,) * (degree - 1) + (1,)
    for tail in product(range(prime), repeat=degree):
        # x^degree = tail; x generates the field where its powers come back to 1 after all others, and not before.
        powers = [one]
        while len(powers) <= count:
            top, *rest = powers[-1]
            following = tuple((digit + top * last) % prime for digit, last in zip((*rest, 0), tail, strict=True))
            if following == one:
                break
            powers.append(following)
        if len(powers) == count:
            return np.array(powers)
    raise AssertionError("every finite field has a generator")
