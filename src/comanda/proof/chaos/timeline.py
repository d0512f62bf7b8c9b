"""The timeline as geometry: where curves, bars and labels stand in a drawing. Pure; `page.html` draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, LEFT, RIGHT = 1160, 84, 16
TOP, CHART, GAP = 12, 170, 34
ROW, LANE_GAP, BAR = 19, 9, 12
_LETTER = 5.9  # of a label, on average
_NARROWEST = 4.0
_LABEL_GAP = 5
PARTS = ("API", "worker", "relay", "gateway", "PostgreSQL", "Redis", "network", "receiver")
_NICE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True, slots=True)
class Bar:
    """A fault: the bar itself, the shade of its recovery behind it, its label at the left or the right of it."""

    x: float
    y: float
    width: float
    shade: float
    label: str
    label_x: float
    anchor: str
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """All faults of one part."""

    part: str
    y: float
    height: float
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything; `accepted` and `ended` are paths."""

    height: float
    accepted: str
    ended: str
    xs: Sequence[Tick]
    ys: Sequence[Tick]
    lanes: Sequence[Lane]


def drawing(report: Mapping[str, Any]) -> Drawing:
    """Of the report's timeline and faults."""
    timeline = report["timeline"]
    accepted, ended = timeline["accepted"], timeline["ended"]
    whole = len(accepted) * timeline["every"]
    scale = (WIDTH - LEFT - RIGHT) / whole
    highest = max([*accepted, *ended, 1.0])
    lanes, y = [], float(TOP + CHART + GAP)
    for part in PARTS:
        faults = [fault for fault in report["faults"] if fault["part"] == part]
        if faults:
            lane = _lane(part, faults, y, scale)
            lanes.append(lane)
            y += lane.height + LANE_GAP
    x_step, y_step = _step(whole, 10), _step(highest, 3)
    return Drawing(
        height=y + 4,
        accepted=_area(accepted, timeline["every"] * scale, highest),
        ended=_line(ended, timeline["every"] * scale, highest),
        xs=[Tick(round(LEFT + at * scale, 1), f"{at} s") for at in range(0, int(whole) + 1, x_step)],
        ys=[Tick(round(_height(at, highest), 1), str(at)) for at in range(0, int(highest) + 1, y_step)],
        lanes=lanes,
    )


def _lane(part: str, faults: Sequence[Mapping[str, Any]], y: float, scale: float) -> Lane:
    """Bars in as many rows as it takes to keep them and their labels apart."""
    rows: list[float] = []  # where each ends
    bars = []
    for fault in sorted(faults, key=lambda one: one["at"]):
        x, width = LEFT + fault["at"] * scale, max(_NARROWEST, fault["seconds"] * scale)
        recovered = (fault["endedAfter"] or 0.0) * scale
        shade = fault["seconds"] * scale + recovered
        letters = len(fault["kind"]) * _LETTER
        end = x + max(width, shade)
        is_left = end + _LABEL_GAP + letters > WIDTH
        begins = x - _LABEL_GAP - letters if is_left else x
        ends = end if is_left else end + _LABEL_GAP + letters
        row = next((n for n, used in enumerate(rows) if used + _LABEL_GAP < begins), len(rows))
        rows[row : row + 1] = [ends]
        bars.append(
            Bar(
                x=round(x, 1),
                y=y + row * ROW,
                width=round(width, 1),
                shade=round(shade, 1),
                label=fault["kind"],
                label_x=round(x - _LABEL_GAP if is_left else end + _LABEL_GAP, 1),
                anchor="end" if is_left else "start",
                title=_title(fault),
            )
        )
    return Lane(part, y, len(rows) * ROW, bars)


def _title(fault: Mapping[str, Any]) -> str:
    lasted = f", {fault['seconds']:.1f} s" if fault["seconds"] else ""
    took = fault["endedAfter"]
    after = "nothing ended any more" if took is None else f"orders end again after {took:.2f} s"
    return f"{fault['kind']} at {fault['at']:.1f} s{lasted}: {fault['what']}; {after}"


def _height(rate: float, highest: float) -> float:
    return TOP + CHART * (1 - rate / highest)


def _line(rates: Sequence[float], step: float, highest: float) -> str:
    points = [f"{LEFT + (n + 0.5) * step:.1f},{_height(rate, highest):.1f}" for n, rate in enumerate(rates)]
    return f"M{' L'.join(points)}"


def _area(rates: Sequence[float], step: float, highest: float) -> str:
    first, last, floor = LEFT + 0.5 * step, LEFT + (len(rates) - 0.5) * step, TOP + CHART
    return f"{_line(rates, step, highest)} L{last:.1f},{floor} L{first:.1f},{floor} Z"


def _step(whole: float, most: int) -> int:
    """A round distance between marks, so that there are not too many."""
    return next((step for step in _NICE if whole / step <= most), _NICE[-1])
