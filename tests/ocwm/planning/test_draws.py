"""Random numbers of planners: a stream for each key, noise of a colour."""

from __future__ import annotations

import itertools

import pytest
import torch

from ocwm.planning.draws import coloured, keyed_draw


def test_a_stream_belongs_to_its_key() -> None:
    shape = (16, 5, 10)
    draw = keyed_draw((3, 1, 2))
    first, second = draw(shape), draw(shape)
    again = keyed_draw((3, 1, 2))
    assert torch.equal(again(shape), first)
    assert torch.equal(again(shape), second)
    assert not torch.equal(first, second)
    others = [keyed_draw(key)(shape) for key in [(3, 2, 1), (1, 3, 2), (3, 1), (3, 1, 2, 0), (0, 3, 1, 2)]]
    for one, other in itertools.combinations([first, *others], 2):
        assert abs((one * other).mean()) < 0.2  # unrelated, where equal streams would give 1


def test_a_stream_is_the_same_on_every_machine() -> None:
    expected = torch.tensor([1.323378, 0.150632, -2.091217, -0.306658])
    torch.testing.assert_close(keyed_draw((0, 7, 1))((1, 2, 2)).flatten(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [5, 25])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_coloured_noise_has_unit_variance_and_its_spectrum(steps: int, beta: float) -> None:
    white = keyed_draw((0,))((20_000, steps, 2))
    noise = coloured(white, beta)
    torch.testing.assert_close(noise.square().mean(), torch.tensor(1.0), atol=0.02, rtol=0)
    power = torch.fft.rfft(noise, dim=1).abs().square().mean((0, 2))[1:]
    frequencies = torch.fft.rfftfreq(steps)[1:]
    torch.testing.assert_close(power / power[0], (frequencies / frequencies[0]) ** -beta, rtol=0.08, atol=0)
    if not beta:
        torch.testing.assert_close(noise, white, atol=1e-5, rtol=0)
