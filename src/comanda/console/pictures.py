"""Pictures of numbers over time: shapes for an SVG. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600.0, 96.0
_GAP = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, and what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    label: str


def bars(values: Sequence[float], labels: Sequence[str], top: float) -> list[Bar]:
    """A bar for each value; `top` is as high as the picture."""
    if not values:
        return []
    step = WIDTH / len(values)
    highest = max(top, 1e-9)
    shapes = []
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        height = HEIGHT * min(value / highest, 1.0)
        if value > 0:
            height = max(height, 1.0)
        shapes.append(
            Bar(round(number * step, 2), round(HEIGHT - height, 2), round(step - _GAP, 2), round(height, 2), label)
        )
    return shapes


def line(values: Sequence[float | None], top: float) -> list[str]:
    """The points of a line, in pieces: it breaks where there is no value. One alone is a short stroke."""
    if not values:
        return []
    step = WIDTH / len(values)
    highest = max(top, 1e-9)
    pieces: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        x, y = number * step + step / 2 - _GAP / 2, HEIGHT - (HEIGHT - 2) * min(value / highest, 1.0) - 1
        pieces[-1].append(f"{x:.1f},{y:.1f}")
    made = []
    for piece in pieces:
        if len(piece) == 1:
            middle, _, height = piece[0].partition(",")
            made.append(f"{float(middle) - 3:.1f},{height} {float(middle) + 3:.1f},{height}")
        elif piece:
            made.append(" ".join(piece))
    return made


def rounded_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 …, also below one: a scale that can be read."""
    if value <= 0:
        return 1.0
    size = 1e-3
    while True:
        for part in (1, 2, 5):
            if value <= size * part:
                return size * part
        size *= 10
