"""C-JEPA with actions and proprioception: losses, rollouts, costs of plans, and the matching of slots."""

from typing import NamedTuple

import torch
from torch.nn import functional

from golden import Golden
from ocwm.goal_cost import Objective
from ocwm.matching import distances, match, reorder
from ocwm.types import LatentBatch, LatentSpec
from ocwm_encoders.videosaur_modules import Processor
from ocwm_methods.cjepa import CJEPA
from ocwm_methods.conditioning import Layout


def build_conditioned(golden: Golden, **other) -> CJEPA:
    """The world model with embeddings, under the published names; the slot attention of the vector is left out."""
    config = golden.config
    concat = golden.name == "cjepa_concat"
    if concat:
        embeddings = {"action_embed_dim": config["action_embed_dim"], "proprio_embed_dim": config["proprio_embed_dim"]}
        other = {"conditioning": "concat", **embeddings, **other}
    model = CJEPA(
        LatentSpec(
            num_slots=config["num_slots"],
            slot_dim=config["slot_dim_pixels" if concat else "slot_dim"],
            action_dim=config["action_dim"] * config["frameskip"],
            proprio_dim=config["proprio_dim"],
        ),
        history_frames=config["history_frames"],
        pred_frames=config["pred_frames"],
        frameskip=config["frameskip"],
        depth=config["depth"],
        heads=config["heads"],
        mlp_dim=config["mlp_dim"],
        **{"num_masked": config["num_masked_slots"], "mask_seed": config["seed"], **other},
    )
    weights = {name: value for name, value in golden.weights.items() if not name.startswith("slot_attention.")}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def compare_terms(golden: Golden, prefix: str, losses: dict[str, torch.Tensor]) -> None:
    golden.compare(f"{prefix}loss", losses["loss"])
    golden.compare(f"{prefix}loss_future", losses["loss_future"])
    golden.compare(f"{prefix}proprio_loss", losses["loss_proprio"])


def compare_training(golden: Golden) -> tuple[CJEPA, LatentBatch]:
    model = build_conditioned(golden)
    batch = LatentBatch(golden["in.pixels_embed"], actions=golden["in.action"], proprio=golden["in.proprio"])
    nodes = model.nodes(batch.latents, actions=batch.actions, proprio=batch.proprio)
    golden.compare("out.embed", nodes)
    history = batch.latents[:, : model.clip.history]
    mask = model.mask(history)
    assert set(mask[0].nonzero().flatten().tolist()) == set(golden["in.mask_indices"].tolist())
    wide = functional.pad(mask, (0, model.layout.extra_nodes))
    golden.compare("out.pred", model.predictor(nodes[:, : model.clip.history], wide))
    losses = model.loss(batch)
    compare_terms(golden, "out.", losses)
    golden.compare("out.loss_masked_history", losses["loss_history"])
    matched = build_conditioned(golden, future_matching="mse").loss(batch)
    compare_terms(golden, "out.hungarian_", matched)
    golden.compare("out.hungarian_loss_masked_history", matched["loss_history"])
    golden.compare("out.hungarian_direct_mse_future_loss", losses["loss_future"])
    return model, batch


@torch.no_grad()
def check_ap_train(golden: Golden) -> None:
    model, batch = compare_training(golden)
    frames = model.clip.history
    nodes = golden["out.embed"]
    _, proprio, action = model.layout.split(nodes)
    golden.compare("out.proprio_embed", proprio[:, :, 0])
    golden.compare("out.action_embed", action[:, :, 0])
    mask = functional.pad(model.mask(batch.latents[:, :frames]), (0, 2))
    golden.compare("out.tokens_in", model.predictor.training_tokens(nodes[:, :frames], mask))
    cosine = build_conditioned(golden, future_matching="cosine").loss(batch)
    compare_terms(golden, "out.hungarian_cosine_", cosine)
    golden.compare("out.hungarian_cosine_loss_masked_history", cosine["loss_history"])
    golden.compare("out.hungarian_cosine_direct_mse_future_loss", model.loss(batch)["loss_future"])

    plain = build_conditioned(golden, num_masked=0)
    nothing = torch.zeros(frames, nodes.shape[2], dtype=torch.bool)
    golden.compare("out.ocjepa_pred", plain.predictor(nodes[:, :frames], nothing))
    losses = plain.loss(batch)
    assert losses["loss_history"] == 0
    compare_terms(golden, "out.ocjepa_", losses)
    golden.compare("out.inference", model.predictor.infer(nodes[:, :frames]))
    golden.compare("out.inference_one_frame", model.predictor.infer(nodes[:, :1]))


class Planned(NamedTuple):
    """Nodes of history and rollout, the rollout, and its goal, for every candidate of every environment."""

    nodes: torch.Tensor
    rollout: LatentBatch
    goal: LatentBatch


def compare_planning(golden: Golden, model: CJEPA, *, actions: str, proprio: str, prefix: str) -> Planned:
    """Compare encoded slots and the rollout of every candidate."""
    config = golden.config
    features = prefix.replace("out.", "in.")
    processor = Processor(config["feature_dim"], heads=config["predictor_heads_videosaur"])
    processor.load_state_dict(golden.group("w.slot_attention.module."), strict=True)
    observed = processor(golden[f"{features}obs_features"], golden[f"{features}slots_init"]).state
    golden.compare(f"{prefix}obs_slots", observed)
    aim = processor(golden[f"{features}goal_features"], observed[:, -1]).state
    golden.compare(f"{prefix}goal_slots", aim)

    plans = golden[actions]
    candidates = plans.shape[1]

    def repeat(value: torch.Tensor) -> torch.Tensor:
        return value.repeat_interleave(candidates, dim=0)

    history = LatentBatch(repeat(observed), actions=plans.flatten(0, 1), proprio=repeat(golden[proprio]))
    steps = plans.shape[2] + 1 - observed.shape[1]
    nodes = model.unroll(history, steps=steps)
    golden.compare(f"{prefix}predicted_embedding", nodes.unflatten(0, plans.shape[:2]))
    goal_proprio = model.embed_proprio(golden[f"{features}goal_proprio"])
    goal = LatentBatch(repeat(aim), proprio=repeat(goal_proprio))
    return Planned(nodes, model.rollout(history, steps=steps), goal)


@torch.no_grad()
def check_concat(golden: Golden) -> None:
    model, batch = compare_training(golden)
    golden.compare("out.hungarian_direct_mse_proprio_loss", model.loss(batch)["loss_proprio"])
    planned = compare_planning(golden, model, actions="in.plan_actions", proprio="in.plan_proprio", prefix="out.plan_")
    cost = Objective()(planned.rollout, planned.goal).total
    golden.compare("out.plan_cost", cost.view_as(golden["out.plan_cost"]))


@torch.no_grad()
def check_ap_planning(golden: Golden) -> None:
    model = build_conditioned(golden)
    nodes, rollout, goal = compare_planning(golden, model, actions="in.actions", proprio="in.proprio", prefix="out.")
    envs = golden["in.actions"].shape[:2]
    frames = golden["out.init_embed_with_first_actions"].shape[2]
    golden.compare("out.init_embed_with_first_actions", nodes[:, :frames].unflatten(0, envs))
    proprio = model.layout.split(nodes)[1][:, :, 0].unflatten(0, envs)
    golden.compare("out.predicted_proprio_embed", proprio)
    golden.compare("rollout proprio", rollout.proprio.unflatten(0, envs), proprio[:, :, frames:])
    golden.compare("out.proprio_goal_embed", model.embed_proprio(golden["in.goal_proprio"]))
    cost = Objective()(rollout, goal)
    golden.compare("out.cost_slots", cost.slots.unflatten(0, envs))
    golden.compare("out.cost_proprio", cost.proprio.unflatten(0, envs))
    golden.compare("out.cost", cost.total.unflatten(0, envs))


def check_hungarian(golden: Golden) -> None:
    config = golden.config
    first, slots = config["first_dims"], config["slots"]
    predicted, goal = golden["in.cost_pred"], golden["in.cost_goal"]

    def cost(width: int | None = None, **other) -> torch.Tensor:
        parts = (LatentBatch(x[..., :width].flatten(0, 1)[:, None]) for x in (predicted, goal))
        return Objective(**other)(*parts).total.unflatten(0, predicted.shape[:2])

    golden.compare("out.cost_mse", cost())
    golden.compare("out.cost_mse_first_dims", cost(first))
    golden.compare("out.cost_cosine", cost(distance="cosine"))

    reference = golden["in.reorder_reference"]
    for name, source, width, distance in (
        ("reordered", "in.reorder_pred", None, "mse"),
        ("reordered_cosine", "in.reorder_pred", None, "cosine"),
        ("reordered_first_dims", "in.reorder_pred", first, "mse"),
        ("reordered_ap", "in.reorder_pred_ap", None, "mse"),
    ):
        block = golden[source]
        order = match(block[:, 0, :slots, :width], reference[..., :width], distance=distance)
        golden.compare(f"out.{name}", Layout("nodes", proprio=0, action=0).reorder(block, order))

    predicted, truth = golden["in.loss_pred"], golden["in.loss_target"]
    for distance in ("mse", "cosine"):
        order = match(predicted, truth, distance=distance)
        matched = distances(reorder(predicted, order), truth, distance=distance)
        golden.compare(f"out.loss_ap_{distance}", matched.mean())
        if distance == "mse":
            golden.compare("out.loss_ap_mse_sum", matched.sum())
    error = (reorder(predicted, match(predicted[..., :first], truth[..., :first])) - truth).square()
    pixels, proprio, _ = error.split(
        [first, config["proprio_dim"], error.shape[-1] - first - config["proprio_dim"]], -1
    )
    golden.compare("out.loss_concat_pixels", pixels.mean())
    golden.compare("out.loss_concat_proprio", proprio.mean())
    golden.compare("out.loss_concat_total", pixels.mean() + proprio.mean())


CHECKS = {
    "cjepa_ap_train": check_ap_train,
    "cjepa_ap_planning": check_ap_planning,
    "cjepa_concat": check_concat,
    "hungarian": check_hungarian,
}
