"""C-JEPA: masked predictor, losses, gradients, rollouts, mask ablations, attention probing."""

import numpy as np
import torch

from golden import Golden
from ocwm.types import LatentBatch, LatentSpec
from ocwm_methods.cjepa import CJEPA
from ocwm_methods.masking import token_mask, tube_mask
from ocwm_methods.probing import normalize_attention, probing_tokens, read_attention
from ocwm_tasks.clevrer.windows import ClipSet, extend


def build(config: dict, weights: dict, **other) -> CJEPA:
    model = CJEPA(
        LatentSpec(num_slots=config["num_slots"], slot_dim=config["slot_dim"]),
        history_frames=config["history_frames"],
        pred_frames=config["pred_frames"],
        depth=config["depth"],
        heads=config["heads"],
        mlp_dim=config["mlp_dim"],
        num_masked=config["num_masked_slots"],
        mask_seed=config["seed"],
        **other,
    )
    model.predictor.load_state_dict(weights, strict=True)
    return model.eval()


def check_predictor(golden: Golden) -> None:
    config = golden.config
    model = build(config, golden.weights)
    clip = golden["in.clip"]
    history, future = clip[:, : config["history_frames"]], clip[:, config["history_frames"] :]
    mask = model.mask(history)
    assert set(mask[0].nonzero().flatten().tolist()) == set(golden["in.mask_indices"].tolist())
    golden.compare("out.tokens_in", model.predictor.training_tokens(history, mask))
    predicted = model.predictor(history, mask)
    golden.compare("out.pred", predicted)

    losses = model.loss(LatentBatch(clip))
    golden.compare("out.loss", losses["loss"])
    golden.compare("out.loss_future", losses["loss_future"])
    golden.compare("out.loss_masked_history", losses["loss_history"])
    losses["loss"].backward()
    golden.compare("out.grad_mask_token", model.predictor.mask_token.grad)
    golden.compare("out.grad_id_projector_weight", model.predictor.id_projector.weight.grad)
    golden.compare("out.grad_to_out_weight", model.predictor.to_out.weight.grad)

    tokens = model.predictor.training_tokens(history, mask).flatten(1, 2)
    maps = model.predictor.transformer.attention(tokens)
    golden.compare("out.attention_first_layer_head_mean", maps[0])
    golden.compare("out.attention_last_layer_head_mean", maps[-1])

    inferred = model.rollout(LatentBatch(history), steps=config["pred_frames"]).latents
    golden.compare("out.inference", inferred)
    golden.compare("out.loss_validation", (inferred - future).square().mean())
    short = model.rollout(LatentBatch(golden["in.history_short"]), steps=config["pred_frames"]).latents
    golden.compare("out.inference_short", short)

    plain = build({**config, "num_masked_slots": 0}, golden.weights)
    nothing = plain.mask(history)
    golden.compare("out.ocjepa_tokens_in", plain.predictor.training_tokens(history, nothing))
    golden.compare("out.ocjepa_pred", plain.predictor(history, nothing))
    losses = plain.loss(LatentBatch(clip))
    golden.compare("out.ocjepa_loss", losses["loss"])
    golden.compare("out.ocjepa_loss_future", losses["loss_future"])


def check_rollout(golden: Golden) -> None:
    model = build(golden.config, golden.weights, frameskip=golden.config["frameskip"])
    slots = golden["in.slots"]
    steps = golden["out.rollout_128_to_160"].shape[1] - slots.shape[1]
    golden.compare("out.rollout_128_to_160", torch.cat([slots, extend(model, slots, steps=steps)], dim=1))
    clips = ClipSet(slots.numpy(), model.clip)
    golden.compare("out.dataset_length", len(clips))
    golden.waive("out.dataset_item_index", "says which item out.dataset_item is")
    generator = np.random.default_rng(0)
    items = clips.batch(np.array([0, int(golden["out.dataset_item_index"])]), generator).latents
    golden.compare("out.dataset_first_sample", items[0])
    golden.compare("out.dataset_item", items[1])


def check_masking(golden: Golden) -> None:
    for name in ("token_ap", "block"):
        config = golden.config[name]
        frames, slots = config["num_frames"], config["num_slots"]
        rng = np.random.RandomState(config["seed"])
        mask = np.zeros((frames, slots), dtype=bool)
        if name == "token_ap":  # the two auxiliary nodes at the end are never masked
            mask[:, : slots - 2] = token_mask(rng, frames, slots - 2, ratio=config["mask_ratio"])
        else:
            mask = tube_mask(rng, frames, slots, ratio=config["mask_ratio"], tubes=config["num_mask_blocks"])
        golden.compare(f"in.{name}_mask_time_by_slot", mask)
        named = {
            **config,
            "history_frames": frames,
            "pred_frames": config["num_pred"],
            "num_masked_slots": 0,
        }
        model = build(named, golden.group(f"w.{name}."))
        history = golden[f"in.{name}_history"]
        hidden = torch.from_numpy(mask)
        golden.compare(f"out.{name}_tokens_in", model.predictor.training_tokens(history, hidden))
        predicted = model.predictor(history, hidden)
        golden.compare(f"out.{name}_pred", predicted)
        losses = model.losses(predicted, history, predicted[:, frames:], hidden)
        golden.compare(f"out.{name}_loss_masked_history", losses["loss_history"])


def check_probing(golden: Golden) -> None:
    predictor = build(golden.config, golden.weights).predictor
    visible = golden["in.visible_mask_slot_by_time"]
    tokens = probing_tokens(predictor, golden["in.slots"], visible)
    golden.compare("out.tokens_in", tokens)
    queries = []
    for name in golden.config["tokens"]:
        slot, frame = name.removeprefix("token").split("_")
        queries.append((int(slot), int(frame)))
    attention = read_attention(predictor, tokens, queries)
    golden.compare("out.raw", attention)
    slots = [slot for slot, _ in queries]
    golden.compare("out.normalized", normalize_attention(attention, visible, slots=slots))


CHECKS = {
    "cjepa_predictor": check_predictor,
    "cjepa_clevrer_rollout": check_rollout,
    "masking_ablation": check_masking,
    "cjepa_probing": check_probing,
}
