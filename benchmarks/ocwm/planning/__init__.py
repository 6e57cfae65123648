"""Planning with world models: searches over action sequences, and the cost of a sequence under a model."""

from ocwm.goal_cost import GoalCost, Objective
from ocwm.planning.config import PLANNING_VERSION, PlannerConfig
from ocwm.planning.model_cost import ModelCost, PlanTimes
from ocwm.planning.planner import CostFunction, Plan, Planner
from ocwm.planning.searches import Bounds

__all__ = [
    "PLANNING_VERSION",
    "Bounds",
    "CostFunction",
    "GoalCost",
    "ModelCost",
    "Objective",
    "Plan",
    "PlanTimes",
    "Planner",
    "PlannerConfig",
]
