"""The kinds of problems, so that each problem's `type` leads somewhere."""

from fastapi import Request, Response

from comanda.api import language
from comanda.api.answers import Answer
from comanda.api.document import answers
from comanda.api.explained import EXPLAINED
from comanda.api.problems import CODES, Problem, type_of
from comanda.api.security import router

routes = router("/problems", "problems")


class ProblemKindAnswer(Answer):
    """`explanation`: why there is such an answer, and what to do next."""

    type: str
    title: str
    status: int
    code: str
    explanation: str


@routes.get("/{kind}", responses=answers("PROBLEM_NOT_FOUND"))
async def kind(kind: str, request: Request, response: Response) -> ProblemKindAnswer:
    """What a problem's `type` stands for, in the language that is asked for (`Accept-Language`: English or Spanish)."""
    code = kind.upper().replace("-", "_")
    if code not in CODES:
        raise Problem("PROBLEM_NOT_FOUND")
    status, title = CODES[code]
    spoken = language.asked_for(request.scope["headers"])
    response.headers.update({"Content-Language": spoken, "Vary": "Accept-Language"})
    return ProblemKindAnswer(
        type=type_of(code),
        title=language.title(code, title, spoken),
        status=status,
        code=code,
        explanation=language.explained(code, " ".join(EXPLAINED[code]), spoken),
    )
