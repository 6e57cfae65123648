"""SlotFormer, OCVP and DINO-WM: predictors, rollouts, losses."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden import Golden
from ocwm.types import LatentBatch, LatentSpec
from ocwm_baselines.dino_wm import DinoWorldModel
from ocwm_baselines.frame_causal_vit import FrameCausalViT
from ocwm_baselines.ocvp import OCVP
from ocwm_baselines.reconstruction import ImageLoss
from ocwm_baselines.slotformer import SlotFormer
from ocwm_tasks.clevrer.windows import extend


class BroadcastDecoder(nn.Module):
    """A stand-in for the encoder's decoder, under the published names: the hook is what is checked here."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, (height, _) = config["slot_size"], config["dec_resolution"]
        layers: list[nn.Module] = []
        channels, size = config["dec_channels"], height
        for fan_in, fan_out in pairwise(channels):
            stride = 2 if size < config["resolution"][0] else 1
            convolution = nn.ConvTranspose2d(fan_in, fan_out, 5, stride, padding=2, output_padding=stride - 1)
            layers.append(nn.Sequential(convolution, nn.ReLU()))
            size *= stride
        self.decoder = nn.Sequential(*layers, nn.Conv2d(channels[-1], 4, 1))
        self.decoder_pos_embedding = nn.ModuleDict({"dense": nn.Linear(4, width)})
        self.decoder_pos_embedding.register_buffer("grid", torch.zeros(1, *config["dec_resolution"], 4))

    def parts(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, K, 3, h, w) and masks (B, K, N, 1, h, w)."""
        grid = self.decoder_pos_embedding["dense"](self.decoder_pos_embedding.grid).permute(0, 3, 1, 2)
        out = self.decoder(slots.flatten(0, 2)[..., None, None] + grid)
        rgb, logits = out.unflatten(0, slots.shape[:3]).split([3, 1], dim=3)
        masks = logits.softmax(dim=2)
        return (masks * rgb).sum(dim=2), masks

    def decode(self, slots: Tensor) -> Tensor:
        return self.parts(slots)[0]


def slotformer(config: dict, **other) -> SlotFormer:
    return SlotFormer(
        LatentSpec(num_slots=config["num_slots"], slot_dim=config["slot_size"]),
        history_frames=config["history_len"],
        pred_frames=config["rollout_len"],
        width=config["d_model"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        mlp_dim=config["ffn_dim"],
        **other,
    ).eval()


def check_slotformer_rollout(golden: Golden) -> None:
    config, weights = golden.config, golden.weights
    history, steps = config["history_len"], config["rollout_len"]
    model, decoder = slotformer(config), BroadcastDecoder(config)
    ours = {name: value for name, value in weights.items() if name.startswith("rollouter.")}
    table = model.rollouter.enc_t_pe.clone()
    model.load_state_dict(ours, strict=True)
    torch.testing.assert_close(table, model.rollouter.enc_t_pe, atol=1e-6, rtol=0.0)
    decoder.load_state_dict({name: value for name, value in weights.items() if name not in ours}, strict=True)
    model.image_loss = ImageLoss(decoder)

    slots, images = golden["in.slots"], golden["in.img"]
    predicted = model.rollout(LatentBatch(slots[:, :history]), steps=steps).latents
    golden.compare("out.pred_slots", predicted)
    decoded, masks = decoder.parts(predicted)
    golden.compare("out.recon_combined", decoded)
    golden.compare("out.masks_b0", masks[0])
    long = model.rollout(LatentBatch(slots[:, : history + 2]), steps=steps + 3).latents
    golden.compare("out.pred_slots_long", long)
    losses = model.loss(LatentBatch(slots, images=images))
    golden.compare("out.slot_recon_loss", losses["loss_slots"])
    golden.compare("out.img_recon_loss", losses["loss_images"])
    golden.compare("total", losses["loss"], golden["out.slot_recon_loss"] + golden["out.img_recon_loss"])
    per_step = functional.mse_loss(predicted, slots[:, history:], reduction="none").mean(dim=(0, 2, 3))
    golden.compare("out.slot_recon_loss_per_step", per_step)


def check_slotformer_unroll(golden: Golden) -> None:
    config = golden.config
    model = slotformer(config, frameskip=config["frame_offset"])
    model.load_state_dict(golden.weights, strict=True)
    slots = golden["in.slots"]
    assert slots.shape[1] == config["obs_frames"]
    added = extend(model, slots, steps=config["target_len"] - config["obs_frames"])
    golden.compare("out.slots_extended", torch.cat([slots, added], dim=1))


def check_ocvp(golden: Golden) -> None:
    config = golden.config
    attention = {"ocvp_seq": "sequential", "ocvp_par": "parallel"}[golden.name]

    def build(**other) -> OCVP:
        model = OCVP(
            LatentSpec(num_slots=config["num_slots"], slot_dim=config["slot_dim"]),
            attention=attention,
            history_frames=config["num_context"],
            pred_frames=config["num_preds"],
            buffer_frames=config["buffer"],
            width=config["token_dim"],
            depth=config["num_layers"],
            heads=config["n_heads"],
            mlp_dim=config["hidden_dim"],
            **{"residual": config["residual"], **other},
        ).eval()
        model.load_state_dict(golden.weights, strict=True)
        return model

    model = build()
    predictor = model.predictor
    golden.compare("out.pe", predictor.time_table)
    window = golden["in.window_full"]
    tokens = predictor.mlp_in(window) + predictor.time_table[: window.shape[1], None]
    golden.compare("out.layer0", predictor.transformer_encoders[0](tokens))
    golden.compare("out.forward_full", predictor(window))
    golden.compare("out.forward_short", predictor(golden["in.window_short"]))
    golden.compare("out.forward_full_no_residual", build(residual=False).predictor(window))

    clip, steps = golden["in.slot_history"], config["num_preds"]
    history, future = clip[:, : config["num_context"]], clip[:, config["num_context"] :]
    golden.compare("out.rollout", model.rollout(LatentBatch(history), steps=steps).latents)
    skipping = build(skip_first_frame=True)
    golden.compare("out.rollout_skip_first_frame", skipping.rollout(LatentBatch(history), steps=steps).latents)
    golden.compare("out.rollout_teacher_forced", model.predict(history, steps=steps, truth=future))
    golden.compare("out.slot_mse", model.loss(LatentBatch(clip))["loss"].reshape(1))
    forced = build(teacher_forcing=True).loss(LatentBatch(clip))["loss"]
    golden.compare("forced loss", forced, (golden["out.rollout_teacher_forced"] - future).square().mean())


def check_vit(golden: Golden) -> None:
    config = golden.config
    patches = config["num_patches"]
    model = FrameCausalViT(
        tokens=patches,
        frames=config["num_frames"],
        dim=config["dim"],
        depth=config["depth"],
        heads=config["heads"],
        head_dim=config["dim_head"],
        mlp_dim=config["mlp_dim"],
        dropout=0.1,
    ).eval()
    model.load_state_dict(golden.weights, strict=True)
    x = golden["in.x"]
    golden.compare("out.mask", model.mask.float())
    for frames in range(1, config["num_frames"] + 1):
        golden.compare(f"out.forward_{frames}frames", model(x[:, : frames * patches]))
    golden.compare("out.forward_last_frame_changed", model(golden["in.x_last_frame_changed"]))
    embedded, block = x + model.pos_embedding, model.transformer.layers[0]
    golden.compare("out.attn0", block[0](embedded, model.mask))
    golden.compare("out.block0", block(embedded, model.mask))


def check_world(golden: Golden) -> None:
    config = golden.config
    spec = LatentSpec(
        num_slots=config["num_patches"],
        slot_dim=config["emb_dim"],
        action_dim=config["action_dim"],
        proprio_dim=config["proprio_dim"],
    )
    model = DinoWorldModel(
        spec,
        history_frames=config["num_hist"],
        fusion="channels" if config["concat_dim"] == 1 else "tokens",
        action_embed_dim=config["action_emb"],
        proprio_embed_dim=config["proprio_emb"],
        action_repeat=config["action_repeat"],
        proprio_repeat=config["proprio_repeat"],
        depth=config["depth"],
        heads=config["heads"],
        head_dim=config["dim_head"],
        mlp_dim=config["mlp_dim"],
    ).eval()
    model.load_state_dict(golden.weights, strict=True)
    batch = LatentBatch(golden["in.visual"], actions=golden["in.action"], proprio=golden["in.proprio"])
    fused = model.fuse(batch.latents, actions=batch.actions, proprio=batch.proprio)
    golden.compare("out.z", fused)
    visual, proprio, action = model.split(fused)
    golden.compare("out.z_visual", visual)
    golden.compare("out.z_proprio", proprio)
    golden.compare("out.z_act", action)
    golden.compare("out.z_pred", model.predictor.predict(fused[:, : config["num_hist"]]))
    losses = model.loss(batch)
    golden.compare("out.loss", losses["loss"].reshape(1))
    golden.compare("out.z_visual_loss", losses["loss_visual"].reshape(1))
    golden.compare("out.z_proprio_loss", losses["loss_proprio"].reshape(1))

    actions = golden["in.plan_action"]
    for name, observed in (("rollout1", 1), ("rolloutH", config["num_hist"])):
        history = LatentBatch(
            batch.latents[:, :observed],
            actions=actions,
            proprio=batch.proprio[:, :observed] if batch.proprio is not None else None,
        )
        steps = config["horizon"] + 1 - observed
        unrolled = model.unroll(history, steps=steps)
        golden.compare(f"out.{name}_z", unrolled)
        visual, proprio, _ = model.split(unrolled)
        golden.compare(f"out.{name}_visual", visual)
        golden.compare(f"out.{name}_proprio", proprio)
        rolled = model.rollout(history, steps=steps)
        golden.compare(f"{name} latents", rolled.latents, golden[f"out.{name}_visual"][:, observed:])
        golden.compare(f"{name} proprio", rolled.proprio, golden[f"out.{name}_proprio"][:, observed:])


CHECKS = {
    "slotformer_rollout": check_slotformer_rollout,
    "slotformer_unroll": check_slotformer_unroll,
    "ocvp_seq": check_ocvp,
    "ocvp_par": check_ocvp,
    "dinowm_predictor": check_vit,
    "dinowm_world": check_world,
    "dinowm_world_tokens": check_world,
}
