"""The ALOE network with the parameter names of the published checkpoints, and its shared-pass variant.

Sources: ALOE (arXiv 2012.08508) in the version of SlotFormer (arXiv 2210.05861): pre-norm blocks, no norm after the
last one, all blocks copies of one prototype, CLS and positions initialised to zero.

Shape letters: W windows (frames of one video that are read together), S sequences (a question, or a question with
one choice), R text rows, L tokens of a row, K sequences of a row, F frames, N slots, D slot dimension, C model width,
H heads, A answers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.data_parallel import weighted
from ocwm.errors import BenchError

DRAWN_STD = 0.5  # of drawn positions: about that of an embedded word


@dataclass(frozen=True)
class AloeBatch:
    """Sequences of text, packed into rows, and the video windows that they look at.

    A row holds the CLS and the words of one sequence, or of several that look at the same window.

    Attributes:
        video: (W, F, N, D) float, or None for a reasoner that sees no video.
        window: (R,) int64 row of `video` that a text row belongs to.
        tokens: (R, L) int64 word ids, 0 at CLS and at padding.
        position: (R, L) int64, 0 for CLS, 1 + text column for words: the row of the position table.
        choice_segment: (R, L) bool, whether a word belongs to a choice or to a descriptive question.
        owner: (R, L) int64 sequence of the row, 0 .. K - 1, that a token belongs to; -1 for padding.
        cls: (R, K) int64 place of each sequence's CLS in its row; -1 where a row has fewer sequences.
        sequence: (S,) int64 rows of the question set, in the order of `cls`. The arrays below have this order too.
        is_choice: (S,) bool, whether it is a choice of a multiple-choice question.
        label: (S,) int64 answer class, or 1 correct and 0 wrong for choices.
    """

    video: Tensor | None
    window: Tensor
    tokens: Tensor
    position: Tensor
    choice_segment: Tensor
    owner: Tensor
    cls: Tensor
    sequence: Tensor
    is_choice: Tensor
    label: Tensor

    def to(self, device: torch.device | str) -> AloeBatch:
        """Return the batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.sequence.shape[0]


@dataclass(frozen=True)
class AloeSizes:
    """Sizes of the network; the defaults are the published ones for CLEVRER.

    Attributes:
        frames, num_slots, slot_dim: of the video windows.
        head_dim: width of an attention head; model width C = head_dim * heads.
        heads, layers, ffn_dim, dropout: of the transformer.
        word_dim: width of a word embedding; None = head_dim - 4, so that a text token is as wide as a head.
        mlp_dim: hidden width of the two answer heads.
        words: rows of the word table, padding included.
        answers: answer classes, padding included.
        question_len, choice_len: text columns.
        drawn_init: False is the published start: all positions zero and all blocks copies of one. True draws each
            block by itself and gives frames, slots and words positions to tell them apart by, which saves a small
            network hundreds of updates.
    """

    frames: int = 25
    num_slots: int = 7
    slot_dim: int = 128
    head_dim: int = 18
    heads: int = 8
    layers: int = 12
    ffn_dim: int = 512
    dropout: float = 0.1
    word_dim: int | None = None
    mlp_dim: int = 128
    words: int = 82
    answers: int = 22
    question_len: int = 20
    choice_len: int = 12
    drawn_init: bool = False

    @property
    def width(self) -> int:
        """Model width C."""
        return self.head_dim * self.heads


class Block(nn.Module):
    """Pre-norm attention and feed-forward, with the parameter names of `nn.TransformerEncoderLayer`."""

    def __init__(self, width: int, heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, L, C / H) of (B, L, C)."""
        projected = functional.linear(self.norm1(x), self.self_attn.in_proj_weight, self.self_attn.in_proj_bias)
        q, k, v = projected.view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Add attention and feed-forward to the residual stream x (B, L, C); mask is True where a key may be read."""
        dropout = self.self_attn.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        x = x + self.dropout(self.self_attn.out_proj(read.transpose(1, 2).flatten(2)))
        hidden = self.dropout(functional.relu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(hidden))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The stack of blocks and the table of positions."""

    def __init__(self, sizes: AloeSizes) -> None:
        super().__init__()
        tokens = 1 + sizes.frames * sizes.num_slots + sizes.question_len + sizes.choice_len
        self.pos_embedding = nn.Parameter(torch.zeros(1, tokens, sizes.width))
        blocks = [Block(sizes.width, sizes.heads, sizes.ffn_dim, sizes.dropout)]
        for _ in range(sizes.layers - 1):
            blocks.append(copy.deepcopy(blocks[0]))
        self.layers = nn.ModuleList(blocks)
        if sizes.drawn_init:
            self._draw(sizes)

    @torch.no_grad()
    def _draw(self, sizes: AloeSizes) -> None:
        for block in self.blocks[1:]:
            drawn = Block(sizes.width, sizes.heads, sizes.ffn_dim, sizes.dropout)
            block.load_state_dict(drawn.state_dict())
        table, video = self.pos_embedding[0], sizes.frames * sizes.num_slots
        table[1 : 1 + video] = DRAWN_STD * _video_positions(sizes.frames, sizes.num_slots, sizes.width).flatten(0, 1)
        table[1 + video :] = DRAWN_STD * torch.randn(len(table) - 1 - video, sizes.width)

    @property
    def blocks(self) -> list[Block]:
        """The blocks in order."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def joint(self, text: Tensor, video: Tensor, readable: Tensor, cls: Tensor) -> Tensor:
        """Published pass: every sequence has its own copy of the video tokens, and all tokens read each other.

        Args:
            text: (R, L, C), one sequence in a row.
            video: (R, F * N, C).
            readable: (R, L) bool, False for padding.
            cls: (R, 1) place of CLS.

        Returns:
            CLS (R, 1, C).
        """
        x = torch.cat([text, video], dim=1)
        mask = functional.pad(readable, (0, video.shape[1]), value=True)[:, None, None]
        *layers, last = self.blocks
        for layer in layers:
            x = layer.attend(x, *layer.qkv(x), mask)
        q, k, v = last.qkv(x)  # only CLS is read from the last block, so nothing else is computed there
        return last.attend(_take(x, cls), _take(q, cls), k, v, mask)

    def shared(self, text: Tensor, video: Tensor | None, window: Tensor, owner: Tensor, cls: Tensor) -> Tensor:
        """Shared pass: video tokens read only video tokens, once for all sequences of a window.

        Args:
            text: (R, L, C); tokens read the tokens of their own sequence and the video.
            video: (W, F * N, C), or None where there is nothing to see.
            window: (R,) row of `video`.
            owner: (R, L) sequence that a token belongs to.
            cls: (R, K) places of CLS.

        Returns:
            CLS (R, K, C).
        """
        mask = owner[:, :, None] == owner[:, None, :]
        if video is not None:
            mask = functional.pad(mask, (video.shape[1], 0), value=True)
        last = self.blocks[-1]
        for layer in self.blocks:
            q, k, v = layer.qkv(text)
            if layer is last:
                text, q = _take(text, cls), _take(q, cls)
                mask = mask.gather(1, cls[..., None].expand(-1, -1, mask.shape[2]))
            if video is not None:
                video_q, video_k, video_v = layer.qkv(video)
                k, v = torch.cat([video_k[window], k], dim=2), torch.cat([video_v[window], v], dim=2)
                if layer is not last:
                    video = layer.attend(video, video_q, video_k, video_v, None)
            text = layer.attend(text, q, k, v, mask[:, None])
        return text


class AloeTransformer(nn.Module):
    """Embeddings, encoder and the two answer heads."""

    text_token: Tensor
    vision_token: Tensor
    cls_token: Tensor
    mc_question_token: Tensor
    mc_choice_token: Tensor

    def __init__(self, sizes: AloeSizes) -> None:
        super().__init__()
        self.sizes = sizes
        word_dim = sizes.head_dim - 4 if sizes.word_dim is None else sizes.word_dim
        for name, value in (
            ("text_token", (1.0, 0.0)),
            ("vision_token", (0.0, 1.0)),
            ("cls_token", (0.0, 1.0)),
            ("mc_question_token", (1.0, 0.0)),
            ("mc_choice_token", (0.0, 1.0)),
        ):
            self.register_buffer(name, torch.tensor(value))
        self.CLS = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.transformer_encoder = Encoder(sizes)
        self.q_embedding = nn.Embedding(sizes.words, word_dim)
        self.q_in_proj = nn.Linear(word_dim + 4, sizes.width)
        self.vision_in_proj = nn.Linear(sizes.slot_dim + 2, sizes.width)
        self.cls_answer_mlp = _answer_head(sizes, sizes.answers)
        self.mc_answer_mlp = _answer_head(sizes, 1)

    def embed_text(self, batch: AloeBatch) -> Tensor:
        """Text rows (R, L, C) with CLS in its places."""
        words = self.q_embedding(batch.tokens)
        segment = torch.where(batch.choice_segment[..., None], self.mc_choice_token, self.mc_question_token)
        text = self.q_in_proj(torch.cat([words, segment, self.text_token.expand(*words.shape[:2], 2)], dim=-1))
        text = torch.where((batch.position == 0)[..., None], self.CLS, text)
        table = self.transformer_encoder.pos_embedding[0]
        table = torch.cat([table[:1], table[-self.sizes.question_len - self.sizes.choice_len :]])
        return text + functional.embedding(batch.position, table)

    def embed_video(self, video: Tensor) -> Tensor:
        """Video tokens (W, F * N, C), time-major."""
        slots = video.flatten(1, 2)
        tagged = torch.cat([slots, self.vision_token.to(slots.dtype).expand(*slots.shape[:2], 2)], dim=-1)
        position = self.transformer_encoder.pos_embedding[:, 1 : 1 + slots.shape[1]]
        return self.vision_in_proj(tagged) + position  # type: ignore[no-any-return]


class Aloe(nn.Module):
    """The reasoner's network.

    `slot_scale` (D, D), where it is set, is multiplied to every slot first; None is the published network. It is no
    part of the state dict.

    Args:
        sizes: of everything.
        share_video: False is the published network, in which text and video read each other, so that every
            sequence needs a pass over its own copy of the video. True lets all sequences of a window share one pass:
            the video can't read the text. Same parameters.
        choice_weight: of the choices' loss; 1 as published.
    """

    slot_scale: Tensor | None

    def __init__(self, sizes: AloeSizes, *, share_video: bool = False, choice_weight: float = 1.0) -> None:
        super().__init__()
        self.sizes = sizes
        self.share_video = share_video
        self.choice_weight = choice_weight
        self.transformer_model = AloeTransformer(sizes)
        self.register_buffer("slot_scale", None, persistent=False)

    def forward(self, batch: AloeBatch) -> tuple[Tensor, Tensor]:
        """Answer logits (S, A) and choice logits (S,); the one that a sequence has no use for means nothing.

        Raises:
            BenchError: windows of another shape than the network was built for.
        """
        model = self.transformer_model
        encoder, text, cls = model.transformer_encoder, model.embed_text(batch), batch.cls.clamp(min=0)
        video = None if batch.video is None else model.embed_video(self._checked(batch.video))
        if video is None or self.share_video:
            h = encoder.shared(text, video, batch.window, batch.owner, cls)
        else:
            h = encoder.joint(text, video[batch.window], batch.owner >= 0, cls)
        h = h[batch.cls >= 0]
        return model.cls_answer_mlp(h), model.mc_answer_mlp(h)[:, 0]

    def loss(self, batch: AloeBatch) -> dict[str, Tensor]:
        """Cross entropy over descriptive questions plus weighted binary cross entropy over choices, each a mean.

        A part without items is 0.
        """
        answers, choices = self(batch)
        asked, chosen = answers[~batch.is_choice], choices[batch.is_choice]
        answer_loss = functional.cross_entropy(asked, batch.label[~batch.is_choice]) if len(asked) else asked.sum()
        target = batch.label[batch.is_choice].to(chosen.dtype)
        choice_loss = functional.binary_cross_entropy_with_logits(chosen, target) if len(chosen) else chosen.sum()
        answer_loss, choice_loss = weighted(answer_loss, len(asked)), weighted(choice_loss, len(chosen))
        loss = answer_loss + self.choice_weight * choice_loss
        return {"loss": loss, "answer_loss": answer_loss, "choice_loss": choice_loss}

    def _checked(self, video: Tensor) -> Tensor:
        wanted = (self.sizes.frames, self.sizes.num_slots, self.sizes.slot_dim)
        if tuple(video.shape[1:]) != wanted:
            raise BenchError(
                f"the reasoner was built for {wanted[0]} frames of {wanted[1]} slots of width {wanted[2]}, "
                f"and was given {tuple(video.shape[1:])}",
                "Match encoder.num_slots and encoder.slot_dim to the latents.",
            )
        return video if self.slot_scale is None else video @ self.slot_scale


def _video_positions(frames: int, slots: int, width: int) -> Tensor:
    """Positions (F, N, C) of unit variance, in which what tells frames apart and what tells slots apart are orthogonal.

    Near frames are alike (waves, the slow ones strongest), slots are not.
    """
    half = width // 2
    order = torch.arange(1, half // 2 + 1)
    phase = math.pi / frames * torch.arange(frames)[:, None] * order
    waves = torch.cat([phase.sin(), phase.cos()], dim=1) / order.sqrt().repeat(2)
    when = functional.pad(waves, (0, half - waves.shape[1]))
    when = when / when.norm(dim=1, keepdim=True)
    which = nn.init.orthogonal_(torch.empty(slots, width - half))
    both = torch.cat([when[:, None].expand(-1, slots, -1), which.expand(frames, -1, -1)], dim=-1)
    turned: Tensor = (both * (width / 2) ** 0.5) @ nn.init.orthogonal_(torch.empty(width, width))
    return turned


def _answer_head(sizes: AloeSizes, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(sizes.width, sizes.mlp_dim), nn.ReLU(), nn.Linear(sizes.mlp_dim, outputs))


def _take(x: Tensor, places: Tensor) -> Tensor:
    """Tokens of x (R, ..., L, C) at `places` (R, K): (R, ..., K, C)."""
    index = places.view(places.shape[0], *[1] * (x.dim() - 3), -1, 1).expand(*x.shape[:-2], -1, x.shape[-1])
    return x.gather(-2, index)
