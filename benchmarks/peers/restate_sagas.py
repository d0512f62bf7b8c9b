"""The service side of sagas in Restate: so many steps, each stored. Served to a Restate server by hypercorn."""

import restate

benchmark = restate.Service("benchmark")


@benchmark.handler()
async def saga(context: restate.Context, steps: int) -> int:
    for number in range(steps):
        await context.run_typed(f"step-{number}", lambda: 1)
    return steps


app = restate.app(services=[benchmark])
