from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.aloe import batches
from ocwm_tasks.clevrer.aloe.batches import AloeData, VideoLatents
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeBatch, AloeSizes
from ocwm_tasks.clevrer.aloe.tokens import FrameChoice, QuestionSet

SIZES = AloeSizes(
    frames=3, num_slots=2, slot_dim=5, head_dim=6, heads=2, layers=3, ffn_dim=16, dropout=0.0, mlp_dim=8, words=30,
    answers=9, question_len=7, choice_len=5,
)  # fmt: skip
TYPES = np.array([0, 0, 0, 1, 2])


def random_questions(seed: int = 0) -> QuestionSet:
    """Three descriptive questions and two with three choices each, about two videos, with random words."""
    rng = np.random.default_rng(seed)
    question = np.array([0, 1, 2, 3, 3, 3, 4, 4, 4])
    tokens = np.zeros((9, 12), dtype=np.int64)
    for row in range(9):
        length = rng.integers(2, 8)
        tokens[row, :length] = rng.integers(1, 30, size=length)
        if row >= 3:
            tail = rng.integers(1, 6)
            tokens[row, 7 : 7 + tail] = rng.integers(1, 30, size=tail)
    return QuestionSet(
        scene=np.array([5, 6, 5, 6, 5]),
        question_id=np.arange(5),
        type=TYPES,
        question=question,
        choice_id=np.where(question < 3, -1, np.arange(9) % 3),
        label=np.where(question < 3, rng.integers(1, 9, size=9), rng.integers(0, 2, size=9)),
        tokens=tokens,
        question_len=7,
    )


def random_latents(frames: int = 160) -> VideoLatents:
    values = np.random.default_rng(1).standard_normal((2, frames, 2, 5)).astype(np.float32)
    return VideoLatents(np.array([5, 6]), values)


def random_network(*, share_video: bool, layers: int = 3) -> Aloe:
    """Weights away from the symmetric start, so that every position and every layer counts."""
    torch.manual_seed(0)
    network = Aloe(dataclasses.replace(SIZES, layers=layers), share_video=share_video).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def batch_of(sequences: list[int] | None = None, *, share_video: bool, **changes: object) -> AloeBatch:
    data = AloeData(
        random_questions(), random_latents(), frame_choice=FrameChoice(3), share_video=share_video, random_start=False
    )
    rows = np.arange(9) if sequences is None else np.array(sequences)
    return dataclasses.replace(data.gather(rows, np.random.default_rng(0)), **changes)


def logits(network: Aloe, batch: AloeBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in the order of the question set."""
    with torch.no_grad():
        answers, choices = network(batch)
    order = batch.sequence.argsort()
    return answers[order], choices[order]


def close(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def test_published_sizes_give_the_published_parameters() -> None:
    network = Aloe(AloeSizes())
    assert sum(p.numel() for p in network.parameters()) == 2_879_427
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert all(name.startswith("transformer_model.") for name in shapes)
    assert shapes["transformer_model.transformer_encoder.pos_embedding"] == (1, 208, 144)
    assert shapes["transformer_model.q_in_proj.weight"] == (144, 18)
    assert shapes["transformer_model.vision_in_proj.weight"] == (144, 130)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 2_879_437


def test_the_start_is_symmetric() -> None:
    network = Aloe(SIZES)
    encoder = network.transformer_model.transformer_encoder
    first, *others = [layer.state_dict() for layer in encoder.layers]
    assert all(torch.equal(other[name], value) for other in others for name, value in first.items())
    assert not encoder.pos_embedding.any()
    assert not network.transformer_model.CLS.any()


def test_joint_pass_is_torchs_encoder_on_the_published_layout() -> None:
    """An independent assembly: [CLS, video, text with its padding in the middle] through nn.TransformerEncoderLayer."""
    network = random_network(share_video=False)
    model, state = network.transformer_model, network.state_dict()
    questions, latents = random_questions(), random_latents()
    expected_answers, expected_choices = [], []
    for row in range(9):
        question = questions.question[row]
        frames = FrameChoice(3).frames(
            np.array([FrameChoice(3).middle(160)]), np.array([TYPES[question] == 2]), length=160
        )[0]
        slots = torch.from_numpy(latents.latents[int(questions.scene[question]) - 5, frames]).flatten(0, 1)
        words = torch.from_numpy(questions.tokens[row])
        segment = torch.tensor([[0.0, 1.0]]).repeat(12, 1)
        if row >= 3:
            segment[:7] = torch.tensor([1.0, 0.0])
        text = torch.cat([model.q_embedding(words), segment, torch.tensor([[1.0, 0.0]]).repeat(12, 1)], dim=1)
        seen = torch.cat([slots, torch.tensor([[0.0, 1.0]]).repeat(6, 1)], dim=1)
        x = torch.cat([model.CLS[0], model.vision_in_proj(seen), model.q_in_proj(text)])[None]
        x = x + model.transformer_encoder.pos_embedding
        hidden = functional.pad(words == 0, (7, 0), value=False)[None]
        for number in range(3):
            layer = nn.TransformerEncoderLayer(12, 2, 16, 0.0, batch_first=True, norm_first=True).eval()
            prefix = f"transformer_model.transformer_encoder.layers.{number}."
            layer.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
            x = layer(x, src_key_padding_mask=hidden)
        expected_answers.append(model.cls_answer_mlp(x[:, 0]))
        expected_choices.append(model.mc_answer_mlp(x[:, 0])[:, 0])
    ours = logits(network, batch_of(share_video=False))
    assert close(ours, (torch.cat(expected_answers), torch.cat(expected_choices)))


@pytest.mark.parametrize("capacity", [0, 20, 500])
def test_packing_changes_nothing(capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(share_video=True)
    usual = logits(network, batch_of(share_video=True))
    monkeypatch.setattr(batches, "ROW_TOKENS", capacity)
    batch = batch_of(share_video=True)
    assert (batch.cls.shape[1] == 1) == (capacity == 0)
    assert close(logits(network, batch), usual)


def test_shared_pass_answers_each_question_as_if_it_were_asked_alone() -> None:
    network = random_network(share_video=True)
    together = logits(network, batch_of(share_video=True))
    for row in range(9):
        alone = logits(network, batch_of([row], share_video=True))
        assert close(alone, tuple(x[row : row + 1] for x in together))


def test_shared_and_joint_pass_differ_by_what_the_video_reads() -> None:
    """After one block CLS has read the same keys either way; after two, only the joint pass saw text-aware video."""
    for layers, same in ((1, True), (2, False)):
        joint = logits(random_network(share_video=False, layers=layers), batch_of(share_video=False))
        shared = logits(random_network(share_video=True, layers=layers), batch_of(share_video=True))
        assert close(joint, shared) == same


@pytest.mark.parametrize("share_video", [False, True])
def test_video_and_text_both_count(share_video: bool) -> None:
    network = random_network(share_video=share_video)
    batch = batch_of(share_video=share_video)
    base = logits(network, batch)
    assert batch.video is not None
    assert not close(logits(network, dataclasses.replace(batch, video=batch.video.flip(1))), base)
    words = torch.where(batch.tokens > 0, 30 - batch.tokens, 0)
    assert not close(logits(network, dataclasses.replace(batch, tokens=words)), base)


def test_without_video_only_the_text_counts() -> None:
    data = AloeData(random_questions(), None, frame_choice=FrameChoice(3))
    batch = data.gather(np.arange(9), np.random.default_rng(0))
    assert batch.video is None
    unshared, shared = random_network(share_video=False), random_network(share_video=True)
    assert close(logits(unshared, batch), logits(shared, batch))


def test_loss_is_the_sum_of_two_means_and_nothing_for_what_is_not_asked() -> None:
    network = random_network(share_video=True)
    batch = batch_of(share_video=True)
    answers, choices = network(batch)
    losses = network.loss(batch)
    asked = ~batch.is_choice
    expected = functional.cross_entropy(answers[asked], batch.label[asked])
    torch.testing.assert_close(losses["answer_loss"], expected)
    expected = functional.binary_cross_entropy_with_logits(choices[~asked], batch.label[~asked].float())
    torch.testing.assert_close(losses["choice_loss"], expected)
    torch.testing.assert_close(losses["loss"], losses["answer_loss"] + losses["choice_loss"])
    only = network.loss(batch_of([3, 4], share_video=True))
    assert only["answer_loss"] == 0
    assert only["choice_loss"] > 0


@pytest.mark.parametrize("share_video", [False, True])
def test_every_parameter_learns(share_video: bool) -> None:
    network = random_network(share_video=share_video).train()
    network.loss(batch_of(share_video=share_video))["loss"].backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_latents_of_another_shape_are_refused() -> None:
    batch = batch_of(share_video=True)
    assert batch.video is not None
    with pytest.raises(BenchError, match=r"built for 3 frames of 2 slots of width 5.*\(2, 2, 5\)"):
        random_network(share_video=True)(dataclasses.replace(batch, video=batch.video[:, :2]))


def test_drawn_start_tells_frames_slots_and_blocks_apart() -> None:
    sizes = dataclasses.replace(SIZES, frames=4, num_slots=3, head_dim=8, drawn_init=True)
    torch.manual_seed(0)
    encoder = Aloe(sizes).transformer_model.transformer_encoder
    assert not torch.equal(encoder.blocks[0].linear1.weight, encoder.blocks[1].linear1.weight)
    video = encoder.pos_embedding[0, 1 : 1 + 12].detach().view(4, 3, 16)
    distance = torch.cdist(video.flatten(0, 1), video.flatten(0, 1)) + torch.eye(12)
    assert distance.min() > 0.3
    across = (video[:, None] - video[None]).norm(dim=-1)  # the same slot at two frames
    assert torch.allclose(across[..., 0], across[..., 1], atol=1e-5)
    torch.manual_seed(0)
    published = Aloe(SIZES).transformer_model.transformer_encoder
    assert torch.equal(published.blocks[0].linear1.weight, published.blocks[1].linear1.weight)
    assert not published.pos_embedding.any()
