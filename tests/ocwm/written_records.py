"""Records as runs write them, made by hand: a CLEVRER section and a Push-T section."""

from __future__ import annotations

import hashlib
from typing import Any

from ocwm.stats import wilson
from ocwm.store import Record

# key: unit, higher is better, items
METRICS: dict[str, tuple[str, bool, int]] = {
    **{f"rollout.position_error.{h}": ("world units", False, 250) for h in (1, 8, 16, 31)},
    **{f"rollout.slot_error.{h}": ("mean squared error", False, 250) for h in (1, 8, 16, 31)},
    "rollout.collision_f1.31": ("%", True, 250),
    "symbolic.predictive.per_option": ("%", True, 1200),
    "symbolic.predictive.per_question": ("%", True, 600),
    "symbolic.counterfactual.per_option": ("%", True, 1800),
    "symbolic.counterfactual.flipped": ("%", True, 900),
    "symbolic.counterfactual.unflipped": ("%", True, 900),
    "aloe.descriptive.per_question": ("%", True, 2500),
    "aloe.explanatory.per_option": ("%", True, 900),
    "aloe.explanatory.per_question": ("%", True, 300),
    "aloe.predictive.per_option": ("%", True, 1200),
    "aloe.predictive.per_question": ("%", True, 600),
    "aloe.counterfactual.per_option": ("%", True, 1800),
    "aloe.counterfactual.per_question": ("%", True, 500),
    "aloe.average.per_question": ("%", True, 3900),
    "aloe.mean_over_types.per_question": ("%", True, 3900),
}
ROLLOUT = {"rollout.position_error.1": 0.02, "rollout.position_error.8": 0.1, "rollout.position_error.16": 0.14}
ROLLOUT |= {"rollout.position_error.31": 0.22, "rollout.collision_f1.31": 65.0, "symbolic.predictive.per_option": 71.0}
NOTES = {
    "imagined_share": {
        "aloe.descriptive": 0.0, "aloe.explanatory": 0.0, "aloe.predictive": 0.24, "aloe.counterfactual": 0.0,
    },
    "references": ["constant_velocity", "copy_last", "no_rollout", "question_only", "true_future"],
    "about": {
        "rollout": "The world model itself, from frame 128 to 160.",
        "rollout.position_error": "Distance of the predicted object centres after 1, 8, 16 and 31 frames.",
        "symbolic": "Answers of the untrained reasoner that reads events off the imagined states.",
    },
}  # fmt: skip


def make(
    method: str = "cjepa", *, seed: int = 0, figures: dict[str, float | None] | None = None, **changes: Any
) -> Record:
    """Return a record; `figures` sets metric values (None: not measured), the rest are 50 or 0.5."""
    preset, overrides = changes.pop("preset", "mini"), changes.pop("overrides", [])
    encoder, reads = changes.pop("encoder", "state"), changes.pop("reads", "state")
    kind = changes.pop("kind", "method")
    metrics = {}
    for key, (unit, higher, n) in METRICS.items():
        value = (figures or {}).get(key, 50.0 if unit == "%" else 0.5)
        half = None if value is None else abs(value) * 0.04
        metrics[key] = {
            "value": value,
            "low": None if value is None or half is None else value - half,
            "high": None if value is None or half is None else value + half,
            "n": 0 if value is None else n,
            "unit": unit,
            "higher_is_better": higher,
            "interval": "" if value is None else "bootstrap over videos",
        }
    seeds = {"data": 0, "encoder": 0, "model": seed, "reasoner": seed, "eval": 0}
    config = {
        "method": {"name": method, "changed": overrides}, "encoder": {"name": encoder}, "task": {"name": "clevrer"},
        "seeds": seeds, "preset": preset,
    }  # fmt: skip
    versions = {"method": 1, "encoder": 1, "task": 1, "aloe": 1}
    identity = {"schema": 1, "config": config, "versions": versions}
    stages = {"data": 55.2, "slots": 1.4, "world model": 212.0, "rollouts": 8.8, "reasoner": 301.0, "evaluation": 12.1}
    values: dict[str, Any] = {
        "repeat": 1, "created": "2026-11-22T12:00:00+00:00", "method": method, "kind": kind, "privileged": "none",
        "task": "clevrer", "encoder": encoder, "encoder_reads": reads, "preset": preset, "seeds": seeds,
        "overrides": overrides, "config": config, "identity": identity,
        "data": {"kind": "embedded", "name": "clevrer_embedded", "manifest": "5ce1a9f0b7d24e63"},
        "split": {"name": "test", "hash": "90ab12cd34ef"},
        "section": {"data": "embedded", "encoder_reads": reads, "preset": preset, "protocol": "published"},
        "metrics": metrics, "notes": NOTES, "warnings": [], "collapsed": [], "curves": {},
        "costs": {
            **{name: {"seconds": s, "cached": name == "data", "peak_memory_mb": 800.0} for name, s in stages.items()},
            "total": {"seconds": 540.0, "cached": False, "peak_memory_mb": 2100.0},
            "model": {"seconds": 0.0, "cached": False, "parameters": 612_352, "tokens_per_frame": 6},
        },
        "provenance": {"dirty": False, "cpu": "AMD EPYC", "gpu": None, "threads": 2, "device": "cpu"},
        **changes,
    }  # fmt: skip
    identity["config"]["task"] = {"name": values["task"]}
    values["id"] = hashlib.sha256(repr([identity, values["data"], values["section"]]).encode()).hexdigest()[:12]
    return Record(**values)


def mini(*, gap: float = 0.08, seeds: int = 3) -> list[Record]:
    """Return a plausible mini section: two learned methods, five references."""
    found = []
    for seed in range(seeds):
        wobble = 0.01 * (seed - 1)
        better = {key: value * (1 + wobble) for key, value in ROLLOUT.items()}
        worse = {
            key: value * (1 + wobble / 2 + (gap if not METRICS[key][1] else -gap)) for key, value in ROLLOUT.items()
        }
        found += [make("ocjepa", seed=seed, figures=better), make("cjepa", seed=seed, figures=worse)]
    nothing = {key: None for key in METRICS if key.startswith(("rollout", "symbolic"))}
    found.append(make("copy_last", kind="reference", figures={"rollout.position_error.31": 0.495}))
    found.append(make("constant_velocity", kind="reference", figures={"rollout.position_error.31": 0.217}))
    found.append(
        make("true_future", kind="reference", privileged="future", figures={"rollout.position_error.31": 0.004})
    )
    found.append(make("question_only", kind="reference", figures=nothing))
    return found


PUSHT_ERRORS = {"error.agent.final": "px", "error.block.final": "px", "error.angle.final": "degrees"}
PUSHT_ROLLOUT = {
    f"rollout.{name}_error.{h}": unit for name, unit in (("slot", "mse"), ("agent", "px")) for h in (1, 3, 5)
}
PUSHT_LABEL = "held_out, cem 128 x 10, 5 x 5 actions, a plan every 25, history 3"


def pusht(
    method: str = "cjepa", *, hits: int = 60, n: int = 100, seed: int = 0, seconds: float = 1.2, **changes: Any
) -> Record:
    """Return a Push-T record with `hits` of `n` episodes reached."""
    learned = changes.get("kind", "method") == "method"
    metrics: dict[str, dict[str, Any]] = {}
    for place, key in enumerate(("joint.first_hit", "joint.final", "block.first_hit", "block.final")):
        reached, of = max(0, hits - 3 * place), n if place < 2 else n - 20
        reached = min(reached, of)
        low, high = wilson(reached, of)
        metrics[f"success.{key}"] = {
            "value": 100 * reached / of, "low": 100 * low, "high": 100 * high, "n": of, "unit": "%",
            "higher_is_better": True, "interval": "Wilson",
        }  # fmt: skip
    for place, (key, unit) in enumerate({**PUSHT_ERRORS, **(PUSHT_ROLLOUT if learned else {})}.items()):
        value = 20.0 + place - hits / 10
        metrics[key] = {
            "value": value, "low": value - 2, "high": value + 2, "n": n, "unit": unit, "higher_is_better": False,
            "interval": "bootstrap over episodes",
        }  # fmt: skip
    parts = {"encode": 0.02, "predict": seconds, "match": 0.1, "environment": 0.3}
    latency = {
        "plans": 3, "warm_up": parts, "median": parts, "p95": {name: 1.1 * value for name, value in parts.items()},
    }  # fmt: skip
    notes = {
        "references": ["random", "zero_action", "replay", "simulator"],
        "pairs": {"drawn_from": "test", "offset": 25, "block_must_move": 0.7, "sha256": "ab" * 32},
        "seconds": parts,
        **(
            {"latency": latency, "budget_curve": [{"samples": 64, "iterations": 8, "success": 41.0}]} if learned else {}
        ),
    }
    preset = changes.pop("preset", "mini")
    base = {
        "task": "pusht", "preset": preset, "metrics": metrics, "notes": {**notes, **changes.pop("notes", {})},
        "data": {"kind": "embedded", "name": "pusht_play", "manifest": "77" * 16},
        "split": {"name": "test pairs", "hash": "abababababababab"},
        "section": {"data": "embedded", "encoder_reads": "state", "preset": preset, "protocol": PUSHT_LABEL},
        "costs": {
            "world_model": {"seconds": 400.0, "cached": True, "peak_memory_mb": 900.0},
            "planning": {"seconds": 120.0, "cached": False, "peak_memory_mb": 1100.0, "flops": 2e6, "token_width": 64},
            "total": {"seconds": 530.0, "cached": False, "parameters": 208_960, "tokens_per_frame": 2},
        } if learned else {"total": {"seconds": 30.0, "cached": False, "peak_memory_mb": 500.0}},
    }  # fmt: skip
    return make(method, seed=seed, **{**base, **changes})


def pusht_section(*, seeds: int = 1) -> list[Record]:
    """Return two learned methods, two floors and two ceilings."""
    found = []
    for seed in range(seeds):
        found += [
            pusht("cjepa", hits=60 + seed, seed=seed),
            pusht("oc_dino_wm", hits=55 - seed, seed=seed, seconds=2.9),
        ]
    found += [pusht("random", hits=2, kind="reference"), pusht("zero_action", hits=0, kind="reference")]
    found.append(pusht("replay", hits=100, kind="reference", privileged="recorded_actions"))
    found.append(pusht("simulator", hits=96, kind="reference", privileged="simulator"))
    return found
