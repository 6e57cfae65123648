"""The learned methods written down straightforwardly, on torch's own attention and encoder layers.

`plain(model)` has the sizes and the weights of a model, computes the same numbers and does nothing to be fast: a rollout
projects and encodes its whole window at every step, and every layer computes every token.

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension, L tokens.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.interfaces import WorldModel
from ocwm.types import LatentBatch
from ocwm_baselines.dino_wm import DinoWorldModel
from ocwm_baselines.ocvp import OCVP
from ocwm_baselines.ocvp_predictor import ParallelLayer, SequentialLayer
from ocwm_baselines.slotformer import SlotFormer
from ocwm_baselines.transformer import PreNormLayer, SelfAttention
from ocwm_methods.cjepa import CJEPA


class PlainModel(nn.Module, ABC):
    @abstractmethod
    def loss(self, batch: LatentBatch) -> Tensor: ...

    @abstractmethod
    def rollout(self, history: LatentBatch, *, steps: int) -> Tensor: ...


def plain(model: WorldModel) -> PlainModel | None:
    """The straightforward version of a model on slots alone; None where there is none."""
    if model.spec.action_dim or model.spec.proprio_dim:
        return None
    versions: Mapping[type, type[PlainModel]] = {
        CJEPA: PlainCJEPA,
        SlotFormer: PlainSlotFormer,
        OCVP: PlainOCVP,
        DinoWorldModel: PlainDino,
    }
    return versions[type(model)](model) if type(model) in versions else None


def attention(weights: Mapping[str, Tensor], heads: int, dropout: float) -> nn.MultiheadAttention:
    made = nn.MultiheadAttention(weights["out_proj.bias"].shape[0], heads, dropout=dropout, batch_first=True)
    made.load_state_dict(weights)
    return made


def encoder_layer(layer: PreNormLayer) -> nn.TransformerEncoderLayer:
    made = nn.TransformerEncoderLayer(
        layer.linear1.in_features,
        layer.self_attn.heads,
        layer.linear1.out_features,
        layer.dropout.p,
        batch_first=True,
        norm_first=True,
    )
    made.load_state_dict(layer.state_dict())
    return made


class PlainCJEPA(PlainModel):
    def __init__(self, model: CJEPA) -> None:
        super().__init__()
        self.mask, self.clip = model.mask, model.clip
        predictor = copy.deepcopy(model.predictor)
        self.mask_token, self.time = predictor.mask_token, predictor.time_pos_embed
        self.anchor, self.norm, self.out = predictor.id_projector, predictor.transformer.norm, predictor.to_out
        self.attentions, self.feed_forwards = nn.ModuleList(), nn.ModuleList()
        for read, feed_forward in predictor.transformer.layers:
            self.attentions.append(attention(read.state_dict(), read.num_heads, read.dropout))
            self.feed_forwards.append(feed_forward)

    def predict(self, tokens_BTND: Tensor) -> Tensor:
        x = tokens_BTND.flatten(1, 2)
        for read, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            x = x + read(x, x, x, need_weights=False)[0]
            x = x + feed_forward(x)
        return self.out(self.norm(x)).view_as(tokens_BTND)

    def queries(self, history: Tensor, time: Tensor) -> Tensor:
        return self.mask_token[:, None] + time + self.anchor(history[:, :1])

    def loss(self, batch: LatentBatch) -> Tensor:
        frames = self.clip.history
        history, future = batch.latents[:, :frames], batch.latents[:, frames:]
        queries = self.queries(history, self.time)
        mask = self.mask(history)[..., None]
        tokens = torch.where(mask, queries[:, :frames], history + self.time[:, :frames])
        first = history[:, :1] + self.time[:, :1]
        predicted = self.predict(torch.cat([first, tokens[:, 1:], queries[:, frames:]], dim=1))
        error = (predicted[:, :frames] - history).square()
        hidden = (error * mask).sum() / mask.expand(error.shape).sum().clamp(min=1)
        return hidden + functional.mse_loss(predicted[:, frames:], future)

    def rollout(self, history: LatentBatch, *, steps: int) -> Tensor:
        frames = history.latents
        while frames.shape[1] < history.latents.shape[1] + steps:
            window = frames[:, -self.clip.history :]
            time = self.time[:, -window.shape[1] - self.clip.future :]
            visible, hidden = time[:, : window.shape[1]], time[:, window.shape[1] :]
            tokens = torch.cat([window + visible, self.queries(window, hidden)], dim=1)
            frames = torch.cat([frames, self.predict(tokens)[:, window.shape[1] :]], dim=1)
        return frames[:, history.latents.shape[1] :][:, :steps]


class PlainAutoregressive(PlainModel):
    """One frame after the other; the loss is that of the free rollout."""

    def __init__(self, model: SlotFormer | OCVP) -> None:
        super().__init__()
        self.clip = model.clip

    @abstractmethod
    def next(self, window_BTND: Tensor) -> Tensor: ...

    def rollout(self, history: LatentBatch, *, steps: int) -> Tensor:
        frames = history.latents
        for _ in range(steps):
            newest = self.next(frames[:, -self.clip.history :])
            frames = torch.cat([frames, newest[:, None]], dim=1)
        return frames[:, -steps:]

    def loss(self, batch: LatentBatch) -> Tensor:
        history, future = batch.latents.split([self.clip.history, self.clip.future], dim=1)
        return functional.mse_loss(self.rollout(LatentBatch(history), steps=self.clip.future), future)


class PlainSlotFormer(PlainAutoregressive):
    def __init__(self, model: SlotFormer) -> None:
        super().__init__(model)
        rollouter = copy.deepcopy(model.rollouter)
        self.time, self.project, self.out = rollouter.enc_t_pe, rollouter.in_proj, rollouter.out_proj
        self.layers = nn.Sequential(*map(encoder_layer, rollouter.transformer_encoder.layers))

    def next(self, window_BTND: Tensor) -> Tensor:
        tokens = self.project(window_BTND) + self.time[:, -window_BTND.shape[1] :, None]
        return self.out(self.layers(tokens.flatten(1, 2))[:, -window_BTND.shape[2] :])


class PlainSequential(nn.Module):
    def __init__(self, layer: SequentialLayer) -> None:
        super().__init__()
        self.objects, self.frames = encoder_layer(layer.object_encoder_block), encoder_layer(layer.time_encoder_block)

    def forward(self, x_BTND: Tensor) -> Tensor:
        x_BTND = self.objects(x_BTND.flatten(0, 1)).view(x_BTND.shape)
        by_slot = x_BTND.transpose(1, 2)
        return self.frames(by_slot.flatten(0, 1)).view(by_slot.shape).transpose(1, 2)


class PlainParallel(nn.Module):
    def __init__(self, layer: ParallelLayer) -> None:
        super().__init__()
        self.objects, self.frames = (self.read(part) for part in (layer.self_attn_obj, layer.self_attn_time))
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.linear1, self.linear2, self.dropout = layer.linear1, layer.linear2, layer.dropout

    @staticmethod
    def read(part: SelfAttention) -> nn.MultiheadAttention:
        return attention(part.state_dict(), part.heads, part.dropout)

    def forward(self, x_BTND: Tensor) -> Tensor:
        normed = self.norm1(x_BTND)
        rows, by_slot = normed.flatten(0, 1), normed.transpose(1, 2)
        columns = by_slot.flatten(0, 1)
        objects = self.objects(rows, rows, rows, need_weights=False)[0].view(x_BTND.shape)
        frames = self.frames(columns, columns, columns, need_weights=False)[0].view(by_slot.shape).transpose(1, 2)
        x_BTND = x_BTND + self.dropout(objects + frames)
        hidden = self.dropout(functional.relu(self.linear1(self.norm2(x_BTND))))
        return x_BTND + self.dropout(self.linear2(hidden))


class PlainOCVP(PlainAutoregressive):
    def __init__(self, model: OCVP) -> None:
        super().__init__(model)
        predictor = copy.deepcopy(model.predictor)
        self.project, self.out = predictor.mlp_in, predictor.mlp_out
        self.dropout, self.residual = predictor.dropout, predictor.residual
        self.register_buffer("time", predictor.time_table)
        kinds = {SequentialLayer: PlainSequential, ParallelLayer: PlainParallel}
        self.layers = nn.Sequential(*(kinds[type(layer)](layer) for layer in predictor.transformer_encoders))

    def next(self, window_BTND: Tensor) -> Tensor:
        tokens = self.dropout(self.project(window_BTND) + self.time[: window_BTND.shape[1], None])
        read = self.out(self.layers(tokens))
        return (read + window_BTND if self.residual else read)[:, -1]


class WideAttention(nn.Module):
    """Attention whose heads together are wider than the tokens, which torch's own can't be: the softmax written out."""

    def __init__(self, heads: int, qkv: nn.Linear, out: nn.Linear) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, qkv, out

    def forward(self, x_BLD: Tensor, hidden_LL: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x_BLD).chunk(3, dim=-1))
        logits = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(hidden_LL, -torch.inf)
        return self.out((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


class TorchAttention(nn.Module):
    def __init__(self, heads: int, qkv: nn.Linear, out: nn.Linear) -> None:
        super().__init__()
        no_bias = torch.zeros_like(qkv.weight[:, 0])
        weights = {"in_proj_weight": qkv.weight, "in_proj_bias": no_bias}
        self.read = attention(weights | {f"out_proj.{key}": part for key, part in out.state_dict().items()}, heads, 0.0)
        self.read.in_proj_bias.requires_grad_(requires_grad=False)

    def forward(self, x_BLD: Tensor, hidden_LL: Tensor) -> Tensor:
        return self.read(x_BLD, x_BLD, x_BLD, attn_mask=hidden_LL, need_weights=False)[0]


class PlainDino(PlainModel):
    def __init__(self, model: DinoWorldModel) -> None:
        super().__init__()
        self.clip = model.clip
        vit = copy.deepcopy(model.predictor)
        self.positions, self.norm = vit.pos_embedding, vit.transformer.norm
        self.register_buffer("hidden", ~vit.mask)
        self.norms, self.attentions, self.feed_forwards = (nn.ModuleList() for _ in range(3))
        for read, feed_forward in vit.transformer.layers:
            fits = read.to_qkv.out_features == 3 * read.to_qkv.in_features
            kind = TorchAttention if fits else WideAttention
            self.attentions.append(kind(read.heads, read.to_qkv, read.to_out[0]))
            self.norms.append(read.norm)
            self.feed_forwards.append(feed_forward)

    def predict(self, window_BTND: Tensor) -> Tensor:
        x = window_BTND.flatten(1, 2)
        length = x.shape[1]
        x = x + self.positions[:, :length]
        for norm, read, feed_forward in zip(self.norms, self.attentions, self.feed_forwards, strict=True):
            x = x + read(norm(x), self.hidden[:length, :length])
            x = x + feed_forward(x)
        return self.norm(x).view_as(window_BTND)

    def loss(self, batch: LatentBatch) -> Tensor:
        return functional.mse_loss(self.predict(batch.latents[:, :-1]), batch.latents[:, 1:])

    def rollout(self, history: LatentBatch, *, steps: int) -> Tensor:
        frames = history.latents
        for _ in range(steps):
            frames = torch.cat([frames, self.predict(frames[:, -self.clip.history :])[:, -1:]], dim=1)
        return frames[:, -steps:]
