"""The learning rate of every update against the published trainer's."""

from golden import Golden
from ocwm.schedules import learning_rate


def check_lr_schedule(golden: Golden) -> None:
    for number, case in enumerate(golden.meta["cases"]):
        total = case["total_steps"]
        rates = [
            learning_rate(
                step,
                total=total,
                lr=case["max_lr"],
                schedule="warmup_cosine",
                min_lr_ratio=case["min_lr"] / case["max_lr"],
                warmup=case["warmup_steps"],
            )
            for step in range(total + 1)
        ]
        golden.compare(f"cases[{number}].lr_used_at_update", rates[:total], case["lr_used_at_update"])
        golden.compare(f"cases[{number}].lr_after_last_step", rates[total], case["lr_after_last_step"])


CHECKS = {"lr_schedule": check_lr_schedule}
