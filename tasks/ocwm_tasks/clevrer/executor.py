"""Runs CLEVRER question programs on a `World`.

A program is a list of tokens in postfix order: a module pops its arguments and pushes its result, any other token is a
constant. The language follows the CLEVRER paper (Yi et al. 2020, appendix) and its question files; where the files and the
official executor name a module differently, both names work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ocwm_tasks.clevrer.program_modules import MODULES, Events, Failed, NotExecutable, Thing, Things
from ocwm_tasks.clevrer.world import World

__all__ = ["ERROR", "Events", "NotExecutable", "Thing", "Things", "answer", "judge", "run"]

ERROR = "error"


def run(program: Sequence[str], world: World) -> Any:
    """Return the value on top of the stack after the program, or `ERROR`.

    Values: yes, no, attribute words (str), counts and frames (int), `Thing`, `Event`, `Things`, `Events`.

    Raises:
        NotExecutable: the program needs the future or a removal that the world does not know.
    """
    stack: list[Any] = []
    try:
        for token in program:
            module = MODULES.get(token)
            if module is None:
                stack.append(token)
                continue
            arity, function = module
            if len(stack) < arity:
                return ERROR
            if arity == 0:
                stack.append(function(world))
            elif arity == 1:
                stack[-1] = function(world, stack[-1])
            else:
                last = stack.pop()
                stack[-1] = function(world, stack[-1], last)
    except Failed:
        return ERROR
    return stack[-1] if stack else ERROR


def answer(question: Mapping[str, Any], world: World) -> str:
    """Answer of a descriptive question as a word, or `ERROR`.

    Raises:
        NotExecutable: see `run`; also when the question carries no program.
    """
    result = run(_program(question, "question"), world)
    return result if isinstance(result, str) else str(result) if type(result) is int else ERROR


def judge(question: Mapping[str, Any], choice: Mapping[str, Any], world: World) -> str:
    """Return "correct", "wrong" or `ERROR` for a choice of an explanatory, predictive or counterfactual question.

    Raises:
        NotExecutable: see `run`; also when the choice or the question carries no program.
    """
    result = run([*_program(choice, "choice"), *_program(question, "question")], world)
    return {"yes": "correct", "no": "wrong"}.get(result, ERROR) if isinstance(result, str) else ERROR


def _program(item: Mapping[str, Any], what: str) -> Sequence[str]:
    program: Sequence[str] | None = item.get("program")
    if not program:
        raise NotExecutable(f"the {what} carries no program")
    return program
