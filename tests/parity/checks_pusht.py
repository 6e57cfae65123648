"""Push-T: physics and frames, success, training clips."""

import numpy as np

from golden import Golden
from ocwm.types import ClipSpec
from ocwm_tasks.pusht.clips import ClipSet, clip_statistics
from ocwm_tasks.pusht.simulator import Simulator
from ocwm_tasks.pusht.success import joint_success, state_distance


def check_env_trace(golden: Golden) -> None:
    starts, actions = golden["in.init_state"].numpy(), golden["in.actions"].numpy()
    size = golden["out.frame_first"].shape[0]
    simulator = Simulator(published_reset=True)
    episodes = []
    for number, (start, row) in enumerate(zip(starts, actions, strict=True)):
        states = [simulator.reset(start)]
        if number == 0:
            golden.compare("out.frame_first", simulator.frame(size))
        states += [simulator.step(action) for action in row]
        if number == 0:
            golden.compare("out.frame_last", simulator.frame(size))
        episodes.append(states)
    golden.compare("out.states", np.array(episodes))


def check_success(golden: Golden) -> None:
    names = ("in.state", "in.goal_state") if golden.name == "pusht_success" else ("in.cur", "in.goal")
    states, goals = (golden[name].numpy() for name in names)
    golden.compare("out.success", joint_success(states, goals))
    golden.compare("out.state_dist", state_distance(states, goals))


def check_dataset(golden: Golden) -> None:
    config = golden.config
    clip = ClipSpec(config["history_size"], config["num_preds"], config["frameskip"])
    number = range(len(config["lens"]))
    offsets = np.cumsum([0, *config["lens"]])
    slots, actions, proprio = (
        np.concatenate([golden[f"in.{name}_{i}"].numpy() for i in number]) for name in ("slots", "action", "proprio")
    )
    of_actions = clip_statistics(actions, offsets, clip, blocks=True)
    of_proprio = clip_statistics(proprio, offsets, clip, blocks=False)
    golden.compare("out.action_mean", of_actions.mean[None])
    golden.compare("out.action_std", of_actions.std[None])
    golden.compare("out.proprio_mean", of_proprio.mean[None])
    golden.compare("out.proprio_std", of_proprio.std[None])
    clips = ClipSet(
        slots, actions, proprio, offsets, clip, action_normalisation=of_actions, proprio_normalisation=of_proprio
    )
    golden.compare("out.length", len(clips))
    golden.compare("out.index_video", clips.episodes)
    golden.compare("out.index_start", clips.starts)
    golden.waive("out.item_index", "says which item out.item_* is")
    items = clips.batch(np.array([0, int(golden["out.item_index"])]), np.random.default_rng(0))
    for row, name in enumerate(("first", "item")):
        golden.compare(f"out.{name}_pixels_embed", items.latents[row])
        golden.compare(f"out.{name}_action", items.actions[row])
        golden.compare(f"out.{name}_proprio", items.proprio[row])


CHECKS = {
    "dinowm_pusht_env_trace": check_env_trace,
    "pusht_success": check_success,
    "dinowm_pusht_success": check_success,
    "pusht_dataset": check_dataset,
}
