"""Worlds by name: made by Gymnasium, written as JSON and made again; Gymnasium stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")

import gymnasium
from agents_for_gym import LEAVING, Ranker, played
from gymnasium.envs.registration import EnvSpec

import recil
from recil.errors import InputError
from recil.sim.gym import RecommendationEnv, RecommendationVectorEnv, make_env
from recil.sim.storage import save_users

SMALL = {"items": 9, "slate_size": 2, "horizon": 4, "topics": 3, "window": 2}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_keywords_are_the_settings_of_the_world():
    env = gymnasium.make("recil/InterestEvolution-v0", **SMALL, seed=3)
    assert isinstance(env.unwrapped, RecommendationEnv)
    settings = env.unwrapped.environment.settings
    assert (settings.items, settings.horizon, settings.seed, env.unwrapped.layout.window) == (9, 4, 3, 2)
    assert env.action_space.nvec.tolist() == [9, 9]


@pytest.mark.parametrize(("given", "problem"), [({"itms": 3}, "itms"), ({"items": 0}, "items = 0: wanted above 0")])
def test_settings_that_are_none_are_refused(given, problem):
    with pytest.raises((TypeError, ValueError), match=problem):
        gymnasium.make("recil/InterestEvolution-v0", **given)


def test_a_world_that_is_not_known_is_refused():
    with pytest.raises(InputError, match=r"'Eden' is unknown -> known are InterestEvolution, .*FittedUsers"):
        make_env("Eden")


def test_a_spec_written_as_json_makes_the_same_environment():
    env = gymnasium.make("recil/InterestEvolution-v0", **SMALL)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    agent = Ranker.of(env.unwrapped.environment)
    one, other = (played(made, agent, seed=6) for made in (env, again))
    assert one.rewards == other.rewards and any(one.rewards)
    assert again.spec.to_json() == env.spec.to_json()
    assert again.unwrapped.layout == env.unwrapped.layout


def test_fitted_users_are_made_from_their_folder(tmp_path):
    save_users(LEAVING.users, tmp_path / "users")
    env = gymnasium.make("recil/FittedUsers-v0", users=str(tmp_path / "users"), horizon=LEAVING.horizon)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    expected = played(RecommendationEnv(LEAVING), Ranker.of(LEAVING), seed=6)
    assert played(again, Ranker.of(LEAVING), seed=6).rewards == expected.rewards
    shorter = gymnasium.make("recil/FittedUsers-v0", users=str(tmp_path / "users"), horizon=2, slate_size=1)
    assert shorter.action_space == gymnasium.spaces.Discrete(8) and shorter.unwrapped.layout.horizon == 2


def test_gymnasium_makes_the_batched_environment():
    env = gymnasium.make_vec("recil/InterestEvolution-v0", num_envs=3, **SMALL)
    assert isinstance(env, RecommendationVectorEnv) and env.num_envs == 3 and env.layout.window == 2
    named = gymnasium.make_vec("recil/InterestEvolution-v0", 3, vectorization_mode="vector_entry_point", **SMALL)
    again = gymnasium.make_vec(EnvSpec.from_json(named.spec.to_json()))
    assert isinstance(named, RecommendationVectorEnv) and isinstance(again, RecommendationVectorEnv)
    actions = np.array([[0, 1], [2, 3], [4, 5]])
    rewards = []
    for made in (env, named, again):
        made.reset(seed=2)
        rewards.append([made.step(actions)[1].tolist() for _ in range(6)])
    assert rewards[0] == rewards[1] == rewards[2] and any(map(any, rewards[0]))


def test_gymnasiums_own_vectors_run_it_too():
    env = gymnasium.make_vec("recil/InterestEvolution-v0", 2, vectorization_mode="sync", **SMALL)
    env.reset(seed=0)
    for _ in range(6):
        seen, *_ = env.step(np.array([[0, 1], [2, 3]]))
    assert seen in env.observation_space


def test_gymnasium_is_loaded_and_told_of_the_worlds_by_this_package_alone():
    code = (
        "import sys, recil, recil.sim, recil.sim.world, recil.sim.worlds.interest_evolution, recil.evaluate.simulate\n"
        "print('gymnasium' in sys.modules)\n"
        "import gymnasium\n"
        "print([name for name in gymnasium.registry if name.startswith('recil/')])\n"
        "print(gymnasium.make('recil.sim.gym:recil/InterestEvolution-v0').spec.id)\n"
    )
    assert run(code).splitlines() == ["False", "[]", "recil/InterestEvolution-v0"]


def test_no_other_file_imports_gymnasium():
    root = Path(recil.__file__).parent
    inside = {path for path in root.rglob("*.py") if _imports_gymnasium(path)}
    assert inside and {path.parent for path in inside} == {root / "sim" / "gym"}


def _imports_gymnasium(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] == "gymnasium" or name.startswith("recil.sim.gym") for name in names):
            return True
    return False


def test_without_gymnasium_it_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules['gymnasium'] = None\n"
        "try:\n"
        "    import recil.sim.gym.env\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert run(code) == 'recil.sim.gym needs Gymnasium, 1.1 or later: pip install "recil[gym]"'
