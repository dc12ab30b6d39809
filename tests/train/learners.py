"""Each learner on a case of a few seconds, as a function and as a program to be killed.

    python learners.py NAME FOLDER

appends a line of JSON per metric row to FOLDER/metrics, keeps its checkpoint in FOLDER/checkpoint, and writes the
policy's weights to FOLDER/weights at the end.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from finetune_case import easy_world
from safetensors.torch import save_file
from taste_world import TasteWorld

import recil
from recil.policies.softmax import SoftmaxPolicy

CLONING = recil.CloneConfig(width=8, epochs=6, batch=20)
IN_WORLD = {"sessions": 400, "sessions_per_iteration": 50, "batch": 25, "critic_warmup": 2}
FIXED = {"leave": 0.0, "leave_after_click": 0.0}


@functools.cache
def case() -> tuple[TasteWorld, recil.SessionLog, SoftmaxPolicy]:
    world = easy_world()
    log = world.log(world.demonstrator(0), 120, 0)
    return world, log, recil.clone(log, CLONING)


def _clone(**options):
    return recil.clone(case()[1], CLONING, 3, **options)


def _clone_with_negatives(**options):
    return recil.clone(case()[1], replace(CLONING, negatives=5, dropout=0.1), 3, **options)


def _finetune_with_negatives(**options):
    _, log, start = case()
    config = recil.FinetuneConfig(epochs=6, critic_warmup=2, batch=30, negatives=5)
    return recil.finetune(start, log, config, 3, **options)


def _finetune_on_the_log(**options):
    _, log, start = case()
    return recil.finetune(start, log, recil.FinetuneConfig(epochs=6, critic_warmup=2, batch=30), 3, **options)


def _finetune_in_the_world(**options):
    world, log, start = case()
    return recil.finetune(start, world, recil.FinetuneConfig(**IN_WORLD), 3, log=log, **options)


def _reinforce(**options):
    world, _, start = case()
    return recil.reinforce(start, world, recil.ReinforceConfig(**IN_WORLD), 3, **options)


def _q_learning(**options):
    return recil.q_learning(case()[1], recil.QLearningConfig(width=8, epochs=6, batch=30), 3, **options)


def _dagger(**options):
    world, _, start = case()
    config = recil.DaggerConfig(rounds=4, sessions=40, epochs=3, batch=20)
    return recil.dagger(start, world, world.best(), config, 3, **options).policy


def _adversarial(**options):
    world = TasteWorld(case()[0].click, **FIXED)
    config = recil.AdversarialConfig(**IN_WORLD, discriminator_warmup=3)
    return recil.adversarial(case()[2], world, world.log(world.demonstrator(0), 100, 0), config, 3, **options).policy


LEARNERS: dict[str, Callable[..., SoftmaxPolicy]] = {
    "clone": _clone,
    "clone_with_negatives": _clone_with_negatives,
    "finetune_with_negatives": _finetune_with_negatives,
    "finetune_on_the_log": _finetune_on_the_log,
    "finetune_in_the_world": _finetune_in_the_world,
    "reinforce": _reinforce,
    "q_learning": _q_learning,
    "dagger": _dagger,
    "adversarial": _adversarial,
}


def run(name: str, folder: Path) -> None:
    with (folder / "metrics").open("a") as file:

        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            file.write(json.dumps([step, metrics]) + "\n")
            file.flush()

        policy = LEARNERS[name](on_metrics=on_metrics, checkpoint=folder / "checkpoint")
    save_file({key: value.contiguous() for key, value in policy.state_dict().items()}, folder / "weights")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], Path(sys.argv[2]))
