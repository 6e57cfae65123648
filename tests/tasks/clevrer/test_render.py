"""Frames and masks of the embedded world: can a person (or a model) tell what is there?"""

from __future__ import annotations

import numpy as np
import pytest

from ocwm_tasks.clevrer.generator.geometry import CAMERA, HALF_HEIGHT
from ocwm_tasks.clevrer.generator.render import RGB, Renderer
from ocwm_tasks.clevrer.generator.simulation import Setup, Start, simulate
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES, ObjectProperty

PLACES = ((-1.6, 1.2), (0.0, 1.2), (1.6, 1.2), (-1.6, -0.6), (0.0, -0.6), (1.6, -0.6))


@pytest.fixture(scope="module")
def renderer():
    return Renderer(96, 64)


def still(*things, places=PLACES, angle=0.4):
    starts = tuple(Start(0, place, angle=angle) for place, _ in zip(places, things, strict=False))
    return simulate(Setup(tuple(things), starts), frames=1)


def draw(renderer, simulation):
    pictures = renderer.render(simulation, frames=len(simulation.positions))
    return pictures.frames[-1].astype(float), pictures.masks[-1]


def hue(color):
    """The nearest name, whether the surface is lit, shaded or shining."""
    color = color - color.min()
    if color.max() < 15:
        return "gray"
    ways = {name: np.subtract(rgb, min(rgb)) for name, rgb in RGB.items() if name != "gray"}
    return max(ways, key=lambda name: np.dot(color, ways[name]) / np.linalg.norm(ways[name]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("material", MATERIALS)
def test_colors_can_be_told(renderer, material, shape):
    for names in (COLORS[:6], COLORS[2:]):
        frame, mask = draw(renderer, still(*(ObjectProperty(name, material, shape) for name in names)))
        for i, name in enumerate(names):
            assert hue(frame[mask == i + 1].mean(axis=0)) == name


@pytest.mark.parametrize("shape", SHAPES)
def test_metal_shines_and_rubber_does_not(renderer, shape):
    for color in COLORS:
        frame, mask = draw(renderer, still(*(ObjectProperty(color, m, shape) for m in MATERIALS)))
        spread = [np.ptp(frame[mask == i + 1].max(axis=-1)) for i in range(2)]
        white = [frame[mask == i + 1].min(axis=-1).max() for i in range(2)]
        assert white[0] > white[1] + 15 or spread[0] > spread[1] + 40


def test_masks_lie_where_the_objects_are(renderer):
    things = [ObjectProperty("red", "rubber", shape) for shape in SHAPES] + [
        ObjectProperty("blue", "metal", shape) for shape in SHAPES
    ]
    _, mask = draw(renderer, still(*things))
    for i, (thing, place) in enumerate(zip(things, PLACES, strict=True)):
        u, v, _ = CAMERA.project(np.array([*place, HALF_HEIGHT[thing.shape]]))
        rows, columns = np.nonzero(mask == i + 1)
        assert columns.mean() + 0.5 == pytest.approx(u * 96, abs=1)
        assert rows.mean() + 0.5 == pytest.approx(v * 64, abs=1.2)
        assert 60 < len(rows) < 160


@pytest.mark.filterwarnings("error")
def test_a_cube_seen_straight_from_the_front_is_whole(renderer):
    cube = ObjectProperty("red", "metal", "cube")
    _, mask = draw(renderer, still(cube, places=((0.0, 0.0),), angle=0.0))
    np.testing.assert_array_equal(mask, mask[:, ::-1])
    rows, columns = np.nonzero(mask)
    left, right = (CAMERA.project(np.array([side * 0.24, -0.24, 0.48]))[0] * 96 for side in (-1, 1))
    assert columns.min() == pytest.approx(left, abs=1)
    assert columns.max() == pytest.approx(right, abs=1)
    assert len(rows) > 0.9 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_sphere_has_the_size_that_the_camera_gives_it(renderer):
    ball = ObjectProperty("red", "rubber", "sphere")
    areas = []
    for y in (-2.0, 2.5):
        _, mask = draw(renderer, still(ball, places=((0.0, y),)))
        center = np.array([0.0, y, 0.3])
        left, right = (CAMERA.project(center + side * np.array([0.3, 0, 0]))[0] for side in (-1, 1))
        areas.append((mask == 1).sum())
        assert areas[-1] == pytest.approx(np.pi / 4 * ((right - left) * 96) ** 2, rel=0.12)
    assert areas[0] > 1.5 * areas[1]


def test_nearer_objects_cover_farther_ones(renderer):
    near, far = ObjectProperty("red", "rubber", "sphere"), ObjectProperty("blue", "rubber", "cube")
    places = ((0.0, -0.3), (0.0, 0.32))
    for things, where in (((near, far), places), ((far, near), places[::-1])):
        frame, mask = draw(renderer, still(*things, places=where))
        u, v, _ = CAMERA.project(np.array([0.0, -0.3, 0.35]))
        row, column = int(v * 64), int(u * 96)
        assert mask[row, column] == things.index(near) + 1
        assert frame[row, column, 0] > frame[row, column, 2]
        alone = draw(renderer, still(far, places=(places[1],)))[1]
        assert (mask == things.index(far) + 1).sum() < (alone == 1).sum()


def test_objects_throw_a_shadow_that_touches_them(renderer):
    empty = Renderer(96, 64).render(still(ObjectProperty("red", "rubber", "cube"), places=((9.0, 9.0),)), frames=1)
    assert not empty.masks.any()
    for shape in SHAPES:
        frame, mask = draw(renderer, still(ObjectProperty("red", "rubber", shape), places=((0.0, 0.0),)))
        darker = empty.frames[0].astype(float).mean(axis=-1) - frame.mean(axis=-1)
        darker[mask > 0] = 0
        assert darker.max() > 20
        rows, columns = np.nonzero(darker > 8)
        distance = np.abs(np.subtract.outer(rows, np.nonzero(mask)[0])) + np.abs(
            np.subtract.outer(columns, np.nonzero(mask)[1])
        )
        assert distance.min() == 1
        assert distance.min(axis=1).max() < 8


def test_moving_objects_are_drawn_where_they_are_in_every_frame(renderer):
    ball = ObjectProperty("cyan", "metal", "sphere")
    run = simulate(Setup((ball,), (Start(5, (-4.5, 0.0), (2.5, 0.0)),)), frames=100)
    masks = renderer.render(run, frames=100).masks
    for frame in range(100):
        columns = np.nonzero(masks[frame])[1]
        if run.visible[frame, 0]:
            u = CAMERA.project(np.array([*run.positions[frame, 0], 0.3]))[0]
            if 0.08 < u < 0.92:
                assert columns.mean() + 0.5 == pytest.approx(u * 96, abs=0.6)
            else:
                assert len(columns)
    assert not masks[:5].any()
    assert not masks[-1].any()


@pytest.mark.parametrize("width", [48, 54, 240])
def test_any_size_shows_the_same_picture(width):
    run = still(*(ObjectProperty("red", "metal", shape) for shape in SHAPES))
    small, large = (Renderer(w, w // 3 * 2).render(run, frames=1) for w in (width, 480))
    assert small.frames.shape == (1, width // 3 * 2, width, 3)
    for i in range(3):
        share = [(p.masks == i + 1).mean() for p in (small, large)]
        assert share[0] == pytest.approx(share[1], rel=0.15)
    assert small.frames.mean() == pytest.approx(large.frames.mean(), abs=2)


def test_the_same_simulation_gives_the_same_pixels():
    run = still(*(ObjectProperty("red", "metal", shape) for shape in SHAPES))
    first, second = (Renderer(96, 64).render(run, frames=1) for _ in range(2))
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.masks, second.masks)
