"""The words of CLEVRER questions and answers, as ALOE numbers them.

Both tuples are sorted by bytes; a word's token is its place in the tuple + 1, and 0 is padding. Punctuation stays glued to
a word (`cube,` and `cube's` are entries of their own), except the question mark, which is deleted.
"""

from __future__ import annotations

QUESTION_WORDS: tuple[str, ...] = (
    *("after", "and", "any", "are", "before", "begins", "between", "blue", "brown", "collide", "collides", "colliding"),
    *("collision", "collisions", "color", "cube", "cube's", "cube,", "cubes", "cyan", "cylinder", "cylinder's"),
    *("cylinder,", "cylinders", "ends", "enter", "entering", "enters", "entrance", "event", "exit", "exiting", "exits"),
    *("first", "following", "for", "gray", "green", "happen", "how", "if", "is", "last", "many", "material", "metal"),
    *(
        "moving",
        "next",
        "not",
        "object",
        "object's",
        "object,",
        "objects",
        "of",
        "presence",
        "purple",
        "red",
        "removed",
    ),
    *("removed,", "responsible", "rubber", "scene", "second", "shape", "sphere", "sphere's", "sphere,", "spheres"),
    *(
        "stationary",
        "that",
        "the",
        "there",
        "to",
        "video",
        "what",
        "when",
        "which",
        "will",
        "with",
        "without",
        "yellow",
    ),
)

ANSWERS: tuple[str, ...] = (
    *("0", "1", "2", "3", "4", "5", "blue", "brown", "cube", "cyan", "cylinder", "gray", "green", "metal", "no"),
    *("purple", "red", "rubber", "sphere", "yellow", "yes"),
)
