"""The straightforward versions compute what ours compute, so that a ratio compares like with like."""

from __future__ import annotations

import json

import pytest
import throughput
import torch
from plain_models import plain

from ocwm import registry
from ocwm.types import LatentBatch

METHODS = [name for name, plugin in registry.plugins("method").items() if plugin.package.startswith("ocwm_")]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [*((name, ()) for name in METHODS), ("dino_wm", ("method.heads=4",))],  # heads as wide as the tokens together
)
def test_the_plain_version_computes_the_same(name: str, overrides: tuple[str, ...]) -> None:
    case = throughput.Case.build(name, preset="tiny", batch=3, device=torch.device("cpu"), overrides=overrides)
    other = plain(case.model)
    assert other is not None
    mine, theirs = case.model.loss(case.batch)["loss"], other.loss(case.batch)
    torch.testing.assert_close(theirs, mine)
    mine.backward()
    theirs.backward()
    norms = [
        torch.stack([p.grad.norm() for p in m.parameters() if p.grad is not None and p.requires_grad]).norm()
        for m in (case.model, other)
    ]
    torch.testing.assert_close(norms[1], norms[0])
    history = LatentBatch(case.batch.latents[:, : case.model.clip.history])
    with torch.no_grad():
        case.model.eval()
        rolled = other.eval().rollout(history, steps=throughput.STEPS)
        torch.testing.assert_close(
            rolled, case.model.rollout(history, steps=throughput.STEPS).latents, atol=1e-4, rtol=1e-3
        )


def test_a_measurement_has_every_column(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    out = tmp_path / "rows.json"
    threads = torch.get_num_threads()
    arguments = ["throughput.py", "--preset", "tiny", "--methods", "cjepa", "--seconds", "0.01", "--batch", "2"]
    monkeypatch.setattr("sys.argv", [*arguments, "--devices", "cpu", "--json", str(out), "--threads", str(threads)])
    throughput.main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["training", "inference"]
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(row["clips_per_second"] * 16 * 6)
        assert row["peak_mib"] > 0
        assert row["ratio"] > 0
    assert rows[0]["peak_mib"] > rows[1]["peak_mib"]
    assert "ratio to plain" in capsys.readouterr().out
