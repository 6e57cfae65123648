from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.accuracy import figures
from ocwm_tasks.clevrer.aloe.batches import VideoLatents
from ocwm_tasks.clevrer.aloe.reasoner import AloeConfig, AloeReasoner, whitening

CPU = torch.device("cpu")
SETTINGS = {
    "frames": 2, "head_dim": 16, "heads": 2, "layers": 2, "ffn_dim": 32, "dropout": 0.0, "mlp_dim": 32, "share_video": True,
    "trainer": {"max_steps": 60, "batch_size": 16, "lr": 3e-3, "optimizer": "adam", "weight_decay": 0.0, "log_every": 30},
}  # fmt: skip


def world(videos: int, seed: int = 0) -> tuple[VideoLatents, list[dict]]:
    """One object in a video, metal or rubber by the sign of its first latent; half the questions are about it."""
    rng = np.random.default_rng(seed)
    metal = rng.random(videos) < 0.5
    latents = 0.1 * rng.standard_normal((videos, 128, 1, 4)).astype(np.float32)
    latents[:, :, 0, 0] += np.where(metal, 1.0, -1.0)[:, None]
    scenes = []
    for index in range(videos):
        answers = [("what material is the object", "metal" if metal[index] else "rubber")]
        answers.append(("are there any metal objects", "yes" if metal[index] else "no"))
        questions = [
            {"question_id": k, "question_type": "descriptive", "question": text, "answer": answer}
            for k, (text, answer) in enumerate(answers)
        ]
        choice = {"choice_id": 0, "choice": "the presence of the metal object"}
        choice["answer"] = "correct" if metal[index] else "wrong"
        questions.append(
            {"question_id": 2, "question_type": "explanatory", "question": "what is responsible", "choices": [choice]}
        )
        scenes.append({"scene_index": index, "questions": questions})
    return VideoLatents(np.arange(videos), latents), scenes


def trained(folder: Path, *, sees_video: bool = True, **changes: object) -> AloeReasoner:
    reasoner = AloeReasoner(AloeConfig.of({**SETTINGS, **changes}), num_slots=1, slot_dim=4, sees_video=sees_video)
    latents, scenes = world(64)
    reasoner.fit(latents, reasoner.encode(scenes), folder=folder, device=CPU)
    return reasoner


def shares(reasoner: AloeReasoner) -> dict[str, float]:
    latents, scenes = world(60, seed=1)
    outcome = reasoner.answer(latents, reasoner.encode(scenes), device=CPU, rng=np.random.default_rng(0))
    return {name: items.share() for name, items in figures(outcome).items()}


@pytest.mark.parametrize("share_video", [True, False])
def test_learns_from_what_it_sees_and_nothing_from_text_alone(tmp_path: Path, share_video: bool) -> None:
    seeing = shares(trained(tmp_path / "seeing", share_video=share_video))
    assert seeing["descriptive.per_question"] > 0.95
    assert seeing["explanatory.per_option"] > 0.95
    blind = shares(trained(tmp_path / "blind", share_video=share_video, sees_video=False))
    assert 0.3 < blind["descriptive.per_question"] < 0.7


def test_same_seed_same_answers_and_what_is_saved_comes_back(tmp_path: Path) -> None:
    few = {**SETTINGS["trainer"], "max_steps": 4}  # type: ignore[dict-item]
    first, second = (trained(tmp_path / name, trainer=few, whiten=True) for name in ("a", "b"))
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))
    first.save(tmp_path / "aloe.safetensors")
    other = AloeReasoner(AloeConfig.of({**SETTINGS, "whiten": True}), num_slots=1, slot_dim=4, seed=9)
    other.load(tmp_path / "aloe.safetensors")
    latents, scenes = world(20, seed=2)
    questions = other.encode(scenes)
    answers = [r.answer(latents, questions, device=CPU, rng=np.random.default_rng(0)) for r in (first, other)]
    assert (answers[0].prediction == answers[1].prediction).all()
    assert other.network.slot_scale is not None


def test_building_a_reasoner_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a = AloeReasoner(AloeConfig.of(SETTINGS), num_slots=1, slot_dim=4, seed=1)
    assert torch.equal(torch.rand(1), expected)
    b = AloeReasoner(AloeConfig.of(SETTINGS), num_slots=1, slot_dim=4, seed=2)
    assert not torch.equal(a.network.transformer_model.q_in_proj.weight, b.network.transformer_model.q_in_proj.weight)


def test_dev_figures_stand_in_the_learning_curve(tmp_path: Path) -> None:
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "max_steps": 2, "log_every": 1, "eval_every": 1}}  # type: ignore[dict-item]
    reasoner = AloeReasoner(AloeConfig.of(settings), num_slots=1, slot_dim=4)
    latents, scenes = world(32)
    questions = reasoner.encode(scenes)
    report = reasoner.fit(latents, questions, folder=tmp_path, device=CPU, dev=(latents, questions))
    assert [point["step"] for point in report.curve] == [1, 2]
    assert all(0 <= point["dev.descriptive.per_question"] <= 100 for point in report.curve)


def test_random_starts_come_from_the_given_generator() -> None:
    reasoner = AloeReasoner(AloeConfig.of({**SETTINGS, "random_start": True}), num_slots=1, slot_dim=4)
    latents, scenes = world(4)
    questions, rng = reasoner.encode(scenes), np.random.default_rng(0)
    reasoner.answer(latents, questions, device=CPU, rng=rng)
    assert rng.random() != np.random.default_rng(0).random()


def test_questions_without_answers_cannot_train(tmp_path: Path) -> None:
    latents, scenes = world(20)
    del scenes[3]["questions"][1]["answer"]
    reasoner = AloeReasoner(AloeConfig.of(SETTINGS), num_slots=1, slot_dim=4)
    with pytest.raises(BenchError, match="1 training questions have no answer, the first is scene 3, question 1"):
        reasoner.fit(latents, reasoner.encode(scenes), folder=tmp_path, device=CPU)
    outcome = reasoner.answer(latents, reasoner.encode(scenes), device=CPU, rng=np.random.default_rng(0))
    assert int(outcome.scored.sum()) == 59


def test_unknown_settings_and_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"task.aloe.layer is unknown.*Did you mean 'layers'"):
        AloeConfig.of({"layer": 3})
    AloeReasoner(AloeConfig.of(SETTINGS), num_slots=1, slot_dim=4).save(tmp_path / "a.safetensors")
    wider = AloeReasoner(AloeConfig.of({**SETTINGS, "ffn_dim": 48}), num_slots=1, slot_dim=4)
    with pytest.raises(BenchError, match=r"a\.safetensors"):
        wider.load(tmp_path / "a.safetensors")


def test_whitening_evens_out_directions_and_drops_those_that_do_not_occur() -> None:
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.standard_normal((6, 6)))[0] * np.array([30.0, 3.0, 1.0, 0.5, 1e-3, 0.0])
    latents = (rng.standard_normal((40, 16, 5, 6)) @ mixing.T).astype(np.float32)
    latents[:, :, 0] = 0  # an empty slot stays empty
    scaled = torch.from_numpy(latents) @ whitening(latents)
    assert not scaled[:, :, 0].any()
    flat = scaled[:, ::8].reshape(-1, 6).double()
    moments = torch.linalg.eigvalsh(flat.T @ flat / len(flat))
    torch.testing.assert_close(moments, torch.tensor([0.0, 0, 1, 1, 1, 1]).double(), atol=1e-3, rtol=0)
