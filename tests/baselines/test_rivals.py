"""The rival methods as they are configured: sizes of the presets."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from ocwm.config import compose, instantiate
from ocwm.types import LatentSpec
from ocwm_baselines.dino_wm import DinoWorldModel

RIVALS = ("slotformer", "ocvp_seq", "ocvp_par", "dino_wm", "dino_wm_reg", "oc_dino_wm")


@pytest.mark.parametrize("method", RIVALS)
def test_small_presets_are_of_one_size(method: str) -> None:
    for preset in ("smoke", "mini", "standard"):
        config = compose(method=method, task="clevrer", preset=preset)
        with torch.device("meta"):
            model = instantiate(config.values.method, LatentSpec(num_slots=6, slot_dim=64))
        assert (model.clip.history, model.clip.stride) == (6, 2)
        assert 195_000 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 215_000


@pytest.mark.parametrize("method", RIVALS)
def test_the_paper_preset_has_the_published_sizes(method: str) -> None:
    config = compose(method=method, task="clevrer", preset="paper").values
    assert config.method.dropout == 0.1
    if method == "slotformer":
        assert (config.task.entry_filter, config.trainer.optimizer, config.trainer.lr) == (True, "adam", 2e-4)
    if method.startswith("ocvp"):
        assert (config.task.entry_filter, config.trainer.optimizer, config.trainer.lr) == (False, "adamw", 1e-4)
    with torch.device("meta"):
        instantiate(config.method, LatentSpec(num_slots=7, slot_dim=128))


def test_oc_dino_wm_has_the_tokens_of_the_code_and_of_the_paper() -> None:
    spec = LatentSpec(num_slots=4, slot_dim=128, action_dim=10, proprio_dim=4)
    for overrides, shape in (((), (1, 3 * 4, 150)), (("method.fusion=tokens", "method.heads=16"), (1, 3 * 6, 128))):
        node = compose(method="oc_dino_wm", task="clevrer", preset="paper", overrides=overrides).values.method
        with torch.device("meta"):
            model = instantiate(OmegaConf.merge(node, {"history_frames": 3}), spec)
        assert isinstance(model, DinoWorldModel)
        assert model.predictor.pos_embedding.shape == shape
