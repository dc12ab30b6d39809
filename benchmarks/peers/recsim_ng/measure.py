"""How fast RecSim NG itself simulates its interest evolution application, one JSON line a measured cell.

Run by the python of the environment that README.md describes; `benchmarks/simulate.py` calls it as a subprocess:

    python measure.py --users 1000 10000 --items 100 --slate 2 --recommender uniform --modes graph xla

The story is RecSim NG's own (recsys_partially_observable_rl): InterestEvolutionUser over 10 topics, a frozen
CorpusWithTopicAndQuality, ConsumedTimeAsRewardMetrics. The recommender is one of
  uniform    UniformRecommender below: independent uniform draws, so that a slate may hold an item twice, which is
             the cheapest draw there is;
  softmax    CollabFilteringRecommender as it stands (its keras model, a history of 15);
  reinforce  the same, and the time is of one training step: distributed_train_step of the application, then SGD.

A user-step is one slate and one response. An episode starts at Network.initial_step, which has the first of them, and
takes horizon - 1 steps more; it returns the final value of every field of every variable, so that nothing is optimised
away, and the random draws are checked to be fresh at every step, call and shard. The modes are
  eager      TFRuntime without a graph;
  graph      TFRuntime's loop inside tf.function;
  xla        tf.function(jit_compile=True); under the uniform recommender UNROLL network steps a turn of the loop.
One graph or compiled cluster leaves a core idle much of the time. So the users may be split into equal shards, each
with a function of its own, which one outer graph runs side by side over the same corpus and weights; an operation is
kept to one thread, which is faster for it. Every count of --shards that divides the users is tried, and the fastest
is printed. `seconds` are of its repeats, without the compiling call; `cores` is CPU time over wall time in the best
of them (below about 1.5 with two shards, the machine was busy with something else); `reward` is the mean of a
user-step. What does not run prints a line with `error`; should the draws not be fresh, the script ends with status 1.
"""

import argparse
import itertools
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from recsim_ng.applications.recsys_partially_observable_rl import corpus, metrics, recommender, user
from recsim_ng.applications.recsys_partially_observable_rl.interest_evolution_simulation import (
    distributed_train_step,
    make_runtime,
    reset_optimizer,
)
from recsim_ng.core import network as network_lib
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.entities.recommendation.recommender import BaseRecommender
from recsim_ng.lib.tensorflow import entity, field_spec, runtime
from recsim_ng.stories import recommendation_simulation

TOPICS, HISTORY, UNROLL = 10, 15, 4
LEARNING_RATE = 1e-4
DRAWN = (("user state", "interest.state"), ("slate docs", "doc_id"), ("user response", "choice"))


class UniformRecommender(BaseRecommender):
    """Slates of independent uniform items; no state."""

    def __init__(self, config):
        super().__init__(config, name="Recommender")

    def specs(self):
        fields = ("doc_id", "doc_topic", "doc_quality", "doc_features", "doc_length")
        return ValueSpec(state=ValueSpec(), slate=ValueSpec(**{name: field_spec.FieldSpec() for name in fields}))

    def initial_state(self):
        return Value()

    def next_state(self, previous_state, user_response, slate_docs):
        return Value()

    def slate_docs(self, previous_state, user_obs, available_docs):
        shape = (self._num_users, self._slate_size)
        chosen = tf.random.uniform(shape, maxval=self._num_docs, dtype=tf.int32)
        return available_docs.map(lambda field: tf.gather(field, chosen))


class DrawsNotFresh(SystemExit):
    """The simulation repeats its draws: no figure of this run is worth anything."""


def build_story(users, items, slate, recommender_class):
    """The variables of the network and the recommender's trainable variables."""
    config = {"num_users": users, "num_docs": items, "slate_size": slate}
    config |= {"num_topics": TOPICS, "history_length": HISTORY}

    def frozen_corpus(config):
        return corpus.StaticCorpus(config, corpus.CorpusWithTopicAndQuality(config).initial_state())

    def story():
        return recommendation_simulation.recs_story(
            config,
            user.InterestEvolutionUser,
            frozen_corpus,
            recommender_class,
            metrics.ConsumedTimeAsRewardMetrics,
        )

    variables, trainable = entity.story_with_trainable_variables(story)
    return variables, trainable.get("Recommender", ())


def unrolled_episode(network, pack, unpack, steps):
    """TFRuntime's loop with UNROLL steps a turn, which lets XLA fuse one step with the next."""

    def advance(state, count):
        for _ in range(count):
            state = pack(network.step(unpack(state)))
        return state

    turns, rest = divmod(steps, UNROLL)
    return tf.while_loop(
        cond=lambda state: tf.constant(True),
        body=lambda state: [advance(state, UNROLL)],
        loop_vars=[advance(pack(network.initial_step()), rest)],
        maximum_iterations=turns,
    )[0]


def compiled(function, mode):
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=True if mode == "xla" else None)


def build_simulation(args, users, items, slate, mode, shards):
    """A call that runs an episode of every shard: a list of [{variable: {field: final value}}]."""
    recommender_class = UniformRecommender if args.recommender == "uniform" else recommender.CollabFilteringRecommender
    variables, _ = build_story(users // shards, items, slate, recommender_class)
    network = network_lib.Network(variables)
    tf_runtime = runtime.TFRuntime(network, graph_compile=False)
    names = [variable.name for variable in network.variables]

    def pack(value):
        return {name: value[name].as_dict for name in names}

    def unpack(packed):
        return {name: Value(**fields) for name, fields in packed.items()}

    def episode():
        if mode == "xla" and args.recommender == "uniform":
            return unrolled_episode(network, pack, unpack, args.horizon - 1)
        return pack(tf_runtime.execute(num_steps=args.horizon - 1))

    # A function a shard: one that was called twice would share its stream of random numbers.
    parts = [compiled(lambda: episode(), mode) for _ in range(shards)]
    run = compiled(lambda: [part() for part in parts], "eager" if shards == 1 else "graph")

    def check(first, second):
        for variable, field in DRAWN:
            drawn = [shard[variable][field].numpy() for shard in first + second]
            if any(np.array_equal(one, other) for one, other in itertools.combinations(drawn, 2)):
                raise DrawsNotFresh(f"two episodes drew alike: {variable}")
        totals = [shard["metrics state"]["cumulative_reward"].numpy() for shard in first + second]
        last = first[0]["metrics state"]["reward"].numpy()
        if np.isclose(totals[0], last * (args.horizon - 1)).mean() > 0.5:
            raise DrawsNotFresh("the steps of an episode drew alike")
        return float(np.mean(totals)) / (args.horizon - 1)

    return run, check


def build_training(args, users, items, slate, mode, shards):
    """A call that takes one training step; the gradients of the shards, whose weights are shared, are added up."""
    variables, weights = build_story(users // shards, items, slate, recommender.CollabFilteringRecommender)
    tf_runtime = make_runtime(variables)
    optimizer = reset_optimizer(0.0)
    optimizer.build(weights)

    def gradients():
        return distributed_train_step(tf_runtime, args.horizon, users, weights, "cumulative_reward")

    parts = [compiled(lambda: gradients(), mode) for _ in range(shards)]

    def step():
        results = [part() for part in parts]
        shares = zip(*(grads for grads, _, _ in results), strict=True)
        summed = [tf.add_n(share) if shards > 1 else share[0] for share in shares]
        optimizer.apply_gradients(zip(summed, weights, strict=True))
        return results

    def check(first, second):
        """Both calls had a learning rate of nought, so that only the draws can tell them apart."""
        objectives = [float(objective) for _, objective, _ in first + second]
        if len(set(objectives)) < len(objectives):
            raise DrawsNotFresh("two training steps drew alike")
        optimizer.learning_rate.assign(LEARNING_RATE)
        return float(np.mean([reward for _, _, reward in first])) / (args.horizon - 1)

    return compiled(step, "eager" if mode == "eager" else "graph"), check


def time_cell(args, users, items, slate, mode, shards):
    """The seconds and the cores of each repeat, and the mean reward."""
    build = build_training if args.recommender == "reinforce" else build_simulation
    run, check = build(args, users, items, slate, mode, shards)
    reward = check(run(), run())
    seconds, cores = [], []
    for _ in range(args.repeats):
        began, cpu_began = time.perf_counter(), time.process_time()
        final = run()
        tf.nest.map_structure(lambda tensor: tensor.numpy(), final, expand_composites=True)
        seconds.append(time.perf_counter() - began)
        cores.append((time.process_time() - cpu_began) / seconds[-1])
        del final
    return seconds, cores, reward


def measure(args, users, items, slate, mode):
    """The line of a cell: its fastest count of shards."""
    line = {"users": users, "items": items, "slate": slate, "recommender": args.recommender}
    line |= {"mode": mode, "horizon": args.horizon}
    counts = [shards for shards in args.shards if users % shards == 0] if mode != "eager" else [1]
    best = None
    try:
        for shards in counts or [1]:
            tf.keras.backend.clear_session()
            seconds, cores, reward = time_cell(args, users, items, slate, mode, shards)
            if best is None or min(seconds) < min(best[0]):
                best = seconds, cores[int(np.argmin(seconds))], reward, shards
    except Exception as error:
        return line | {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    seconds, cores, reward, shards = best
    line |= {"steps_per_second": round(users * args.horizon / min(seconds), 1)}
    line |= {"seconds": [round(one, 6) for one in seconds]}
    return line | {"shards": shards, "cores": round(cores, 2), "reward": round(reward, 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--items", type=int, nargs="+", default=[100])
    parser.add_argument("--slate", type=int, nargs="+", default=[2])
    parser.add_argument("--recommender", choices=["uniform", "softmax", "reinforce"], default="uniform")
    parser.add_argument("--modes", nargs="+", choices=["eager", "graph", "xla"], default=["graph", "xla"])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, len(os.sched_getaffinity(0))])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=60)
    args = parser.parse_args()
    args.shards = sorted(set(args.shards))
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for users, items, slate in itertools.product(args.users, args.items, args.slate):
        for mode in args.modes:
            print(json.dumps(measure(args, users, items, slate, mode)), flush=True)


if __name__ == "__main__":
    main()
