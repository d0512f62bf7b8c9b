"""The kinds of problems, so that each problem's `type` leads somewhere."""

from comanda.api.answers import ProblemKindAnswer
from comanda.api.document import answers
from comanda.api.problems import CODES, Problem, type_of
from comanda.api.security import router

routes = router("/problems", "problems")


@routes.get("/{kind}", responses=answers("PROBLEM_NOT_FOUND"))
async def kind(kind: str) -> ProblemKindAnswer:
    """What a problem's `type` stands for."""
    code = kind.upper().replace("-", "_")
    if code not in CODES:
        raise Problem("PROBLEM_NOT_FOUND")
    status, title = CODES[code]
    return ProblemKindAnswer(type=type_of(code), title=title, status=status, code=code)
