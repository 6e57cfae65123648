"""The embedded world: does it move like bodies on a floor, and is what is said about it true?"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.generator.candidates import draw_video, first_contacts
from ocwm_tasks.clevrer.generator.config import GeneratorConfig, generator_config
from ocwm_tasks.clevrer.generator.gaps import outline_gaps
from ocwm_tasks.clevrer.generator.geometry import CAMERA, CUBE_SIDE, OUTLINE_RADIUS, SPHERE_RADIUS, inside
from ocwm_tasks.clevrer.generator.setup import sample_setup
from ocwm_tasks.clevrer.generator.simulation import (
    DECELERATION,
    FRAME_RATE,
    REST_FRAMES,
    Setup,
    Start,
    _Contacts,
    simulate,
)
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty

SPHERE = ObjectProperty("red", "metal", "sphere")
OTHER_SPHERE = ObjectProperty("blue", "metal", "sphere")
CUBE = ObjectProperty("green", "rubber", "cube")
CYLINDER = ObjectProperty("gray", "rubber", "cylinder")


@pytest.mark.parametrize("thing", [CUBE, CYLINDER])
def test_floor_friction_stops_an_object_after_v2_over_2a(thing):
    run = simulate(Setup((thing,), (Start(0, (-2.0, 0.0), (1.2, 0.0), angle=0.3),)))
    expected = 1.2**2 / (2 * DECELERATION[thing.shape, thing.material])
    assert run.positions[-1, 0, 0] + 2.0 == pytest.approx(expected, rel=0.02)
    assert np.abs(run.velocities[-1, 0]).max() < 1e-3
    assert np.abs(run.positions[:, 0, 1]).max() < 1e-3


def test_friction_acts_against_the_motion_in_any_direction():
    way = np.array([math.cos(0.7), math.sin(0.7)])
    run = simulate(Setup((CYLINDER,), (Start(0, (-1.0, -1.0), tuple(way)),)), frames=40)
    speeds = np.linalg.norm(run.velocities[:, 0], axis=-1)
    np.testing.assert_allclose(speeds, 1 - DECELERATION["cylinder", "rubber"] * np.arange(40) / FRAME_RATE, atol=0.01)
    np.testing.assert_allclose(run.velocities[:, 0] / speeds[:, None], np.tile(way, (40, 1)), atol=1e-3)


def test_contact_is_timed_and_keeps_momentum():
    run = simulate(Setup((SPHERE, OTHER_SPHERE), (Start(0, (-1.5, 0.0), (1.5, 0.0)), Start(0, (0.5, 0.0)))), frames=80)
    slowing, way = DECELERATION["sphere", "metal"], 2.0 - 2 * SPHERE_RADIUS
    seconds = (1.5 - math.sqrt(1.5**2 - 2 * slowing * way)) / slowing
    (collision,) = run.collisions
    assert (collision.a, collision.b) == (0, 1)
    assert collision.frame == pytest.approx(seconds * FRAME_RATE, abs=1.01)
    before, after = run.velocities[collision.frame - 2], run.velocities[collision.frame + 2]
    assert after[:, 0].sum() == pytest.approx(before[:, 0].sum(), abs=0.03)
    assert after[1, 0] > 0.8 * before[0, 0] > after[0, 0] + 0.5


def test_metal_pushes_rubber_away():
    light = ObjectProperty("blue", "rubber", "sphere")
    run = simulate(Setup((SPHERE, light), (Start(0, (-1.5, 0.0), (1.5, 0.0)), Start(0, (0.5, 0.0)))), frames=60)
    assert run.velocities[-1, 0, 0] > 0.2
    assert run.velocities[-1, 1, 0] > run.velocities[-1, 0, 0]


def test_touching_again_counts_after_a_pause_only():
    contacts = _Contacts()
    arbiter = SimpleNamespace(shapes=(SimpleNamespace(number=2), SimpleNamespace(number=1)))
    for begin, end in ((10, 12), (12 + REST_FRAMES - 1, 30), (30 + REST_FRAMES, 50)):
        contacts.frame = begin
        contacts.begin(arbiter, None, None)
        contacts.frame = end
        contacts.separate(arbiter, None, None)
    assert contacts.collisions == [Collision(10, 1, 2), Collision(30 + REST_FRAMES, 1, 2)]


def test_an_object_that_leaves_is_gone_for_good():
    run = simulate(Setup((SPHERE, CUBE), (Start(0, (1.5, 0.0), (2.5, 0.0)), Start(0, (-1.0, 0.0)))))
    visible, present = run.visible[:, 0], run.present[:, 0]
    last = np.flatnonzero(visible)[-1]
    assert visible[: last + 1].all()
    assert not present[-1]
    assert present[last + 1]  # it rolls on for a bit outside the view
    assert np.isnan(run.positions[~present, 0]).all()
    assert np.isinf(run.gaps[~present, 0]).all()
    assert run.visible[:, 1].all()


def test_an_object_is_absent_before_its_start():
    run = simulate(Setup((SPHERE,), (Start(20, (-4.2, 0.0), (2.0, 0.0)),)), frames=60)
    assert not run.present[:20].any()
    assert run.present[20:].all()
    assert not run.visible[20].any()
    assert run.visible[-1].all()


def test_visible_is_where_the_centre_projects_into_the_image():
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 5, (500, 2))
    image = CAMERA.project(np.pad(points, ((0, 0), (0, 1)), constant_values=0.3))
    in_image = ((image[:, :2] >= 0) & (image[:, :2] <= 1)).all(axis=1)
    np.testing.assert_array_equal(inside(points, 0.3) >= 0, in_image)
    np.testing.assert_allclose(CAMERA.ground(image[:, :2], 0.3), points, atol=1e-9)


def _outline(thing, position, angle):
    if thing.shape != "cube":
        turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
        return position + OUTLINE_RADIUS[thing.shape] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    side = np.linspace(-CUBE_SIDE / 2, CUBE_SIDE / 2, 180)
    edge = np.full_like(side, CUBE_SIDE / 2)
    points = np.concatenate([np.stack(p, axis=-1) for p in ((side, edge), (side, -edge), (edge, side), (-edge, side))])
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return position + points @ turned.T


def test_gaps_are_the_distances_between_the_outlines():
    things = (SPHERE, CUBE, ObjectProperty("blue", "metal", "cube"), CYLINDER)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    rng = np.random.default_rng(1)
    positions, angles = corners + rng.uniform(-0.15, 0.15, (5, 4, 2)), rng.uniform(0, 6, (5, 4))
    gaps = outline_gaps(things, positions, angles)
    np.testing.assert_array_equal(gaps, np.swapaxes(gaps, 1, 2))
    for frame in range(5):
        outlines = [_outline(things[i], positions[frame, i], angles[frame, i]) for i in range(4)]
        for a in range(4):
            assert np.isinf(gaps[frame, a, a])
            for b in range(a):
                distances = cdist(outlines[a], outlines[b])
                assert gaps[frame, a, b] == pytest.approx(distances.min(), abs=3e-3)


def test_gaps_are_negative_for_an_overlap():
    things = (SPHERE, OTHER_SPHERE, CUBE)
    gaps = outline_gaps(things, np.array([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.4]]]), np.zeros((1, 3)))
    assert gaps[0, 0, 1] == pytest.approx(-0.1)
    assert gaps[0, 0, 2] == pytest.approx(0.4 - SPHERE_RADIUS - CUBE_SIDE / 2)


def test_setups_are_drawn_as_settings_say():
    config = GeneratorConfig(min_objects=4, max_objects=5)
    rng = np.random.default_rng(2)
    setups = [sample_setup(rng, config) for _ in range(60)]
    assert {len(setup.objects) for setup in setups} == {4, 5}
    for setup in setups:
        assert len(set(setup.objects)) == len(setup.objects)
        first = simulate(setup, frames=1)
        assert first.gaps.min() > 0.1
    kinds = {(t.shape, t.material) for setup in setups for t in setup.objects}
    assert len(kinds) == 6


def test_the_same_seed_gives_the_same_bits():
    runs = [simulate(sample_setup(np.random.default_rng(3), GeneratorConfig())) for _ in range(2)]
    assert runs[0].collisions == runs[1].collisions
    for name in ("positions", "velocities", "angles", "angular_velocities", "gaps"):
        assert getattr(runs[0], name).tobytes() == getattr(runs[1], name).tobytes()


@pytest.fixture(scope="module")
def videos():
    config = GeneratorConfig(future_share=0.5)
    return [draw_video(np.random.default_rng([4, i]), config) for i in range(10)]


def test_videos_are_clean(videos):
    for video in videos:
        for run in (video.simulation, *video.removals.values()):
            for collision in run.collisions:
                assert run.visible[collision.frame, [collision.a, collision.b]].all()
            entries = np.diff(np.pad(run.visible, ((1, 0), (0, 0))).astype(int), axis=0) == 1
            assert (entries.sum(axis=0) <= 1).all()
        assert video.simulation.visible[:91].any(axis=0).all()
        assert not (video.simulation.visible[128:] & ~video.simulation.visible[127]).any()
        contacts = [video.simulation.gaps[c.frame, c.a, c.b] for c in video.simulation.collisions]
        assert max(contacts, default=0) < 0.15


def test_videos_have_a_future_or_none_as_asked(videos):
    asked = [np.random.default_rng([4, i]).random() < 0.5 for i in range(10)]
    found = [any(128 <= frame < 160 for frame in first_contacts(video.simulation).values()) for video in videos]
    assert found == asked
    assert {True, False} == set(found)


def test_removal_leaves_alone_what_the_object_never_reached(videos):
    compared = 0
    for video in videos:
        whole = video.simulation
        for removed, run in video.removals.items():
            assert np.isnan(run.positions[:, removed]).all()
            assert not run.visible[:, removed].any()
            assert all(removed not in (c.a, c.b) for c in run.collisions)
            ours = [c.frame for c in whole.collisions if removed in (c.a, c.b)]
            until = min([160, *ours])
            others = [i for i in range(len(whole.objects)) if i != removed]
            np.testing.assert_array_equal(run.positions[:until, others], whole.positions[:until, others])
            fresh = simulate(video.setup, removed=removed, frames=160)
            assert fresh.collisions == run.collisions
            np.testing.assert_array_equal(fresh.positions, run.positions)
            compared += until
    assert compared > 1000


def test_removal_can_bring_contacts_and_take_them(videos):
    brought = taken = 0
    for video in videos:
        whole = {pair for pair, frame in first_contacts(video.simulation).items() if frame < 160}
        for removed, run in video.removals.items():
            without = set(first_contacts(run))
            brought += len(without - whole)
            taken += sum(removed not in pair for pair in whole - without)
    assert brought > 0
    assert taken > 0


def test_settings_that_cannot_be_met_are_refused():
    with pytest.raises(
        BenchError, match=r"task\.generator\.max_objects=2 is out of range\. Choose a value from 3 to 6"
    ):
        GeneratorConfig(max_objects=2)
    with pytest.raises(BenchError, match="width=100 is no multiple of 6"):
        GeneratorConfig(width=100)
    with pytest.raises(BenchError, match=r"unknown key task\.generator\.futur_share\. Did you mean 'future_share'"):
        generator_config({"futur_share": 0.5})
    with pytest.raises(BenchError, match=r"more_in_training\.query_colour\. Did you mean 'query_color'"):
        generator_config({"questions": {"more_in_training": {"query_colour": 2}}})
    for number in (-1, 1.5, "many"):
        with pytest.raises(BenchError, match=r"more_in_training\.count=.* is not possible"):
            generator_config({"questions": {"more_in_training": {"count": number}}})
    with pytest.raises(BenchError, match=r"unknown key task\.generator\.questions\.explanatry"):
        generator_config({"questions": {"explanatry": 1}})


def test_settings_are_built_from_plain_values():
    config = generator_config({"train": 10, "questions": {"predictive": 2, "margins": {"gap": 0.2}}})
    assert (config.train, config.questions.predictive, config.questions.margins.gap) == (10, 2, 0.2)
    assert config.rendered("train") == 10
    assert config.rendered("test") == 50
