"""An order's moves against the table of moves. Pure."""

from collections.abc import Sequence

from comanda.orders.model import LEGAL, OrderState

_LEGAL = {("", str(OrderState.PENDING)), *((str(before), str(after)) for before, after in LEGAL)}


def problem(state: str | None, moves: Sequence[str]) -> str | None:
    """What is wrong with a history, or None.

    Args:
        state: that the order has now; None: there is no such order.
        moves: its moves as `FROM>TO`, the first one as `>PENDING`, in any order: a state is never come back to, so
            there is only one order that they can have.
    """
    steps = [(before, after) for before, _, after in (move.partition(">") for move in moves)]
    if state is None:
        return "moves of an order that is not there"
    if not steps:
        return "no moves at all"
    illegal = [f"{before or 'nothing'} to {after}" for before, after in steps if (before, after) not in _LEGAL]
    if illegal:
        return f"not allowed: {', '.join(illegal)}"
    left = dict(steps)
    if len(left) < len(steps):
        return "two moves from the same state"
    at = ""
    while at in left:
        at = left.pop(at)
    if left:
        return f"a gap before {', '.join(f'{before} to {after}' for before, after in sorted(left.items()))}"
    return None if at == state else f"the moves lead to {at}, the order is {state}"
