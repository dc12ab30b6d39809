"""Q-learning: a table from zeros to the optimum; against Sarsa on the cliff and in a recommender's world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import log10

import torch
from torch import Tensor

from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, above, all_of, below, near
from recil.errors import InputError
from recil.exact import solve
from recil.exact.learned import QTable
from recil.exact.mdp import TabularMDP
from recil.exact.worlds import cheese_maze, cliff_walk, lane, small_recommender
from recil.train.tabular import TabularConfig, sarsa, tabular_q_learning

_Learn = Callable[[TabularMDP, TabularConfig, int], QTable]
_LEARNERS: Mapping[str, _Learn] = {"Q-learning": tabular_q_learning, "Sarsa": sarsa}
_Build = Callable[[], TabularMDP]
_WORLDS: Mapping[str, _Build] = {"cliff": cliff_walk, "recommender": partial(small_recommender, gamma=1.0)}
# The textbook's figures with alpha .5, epsilon .1 and 500 sessions, of which the first hundred are not counted.
_KNOWN_ONLINE = {"cliff, Q-learning": -49.5, "cliff, Sarsa": -28.1}
_KNOWN_EXACT = {"cliff, best": -45.80, "cliff, middle lane": -21.05, "cliff, top lane": -22.27}
_KNOWN_SESSIONS, _COUNTED_FROM = 500, 100
_LONGEST_WAY = 200  # steps after which a greedy policy that goes round in circles is given up
_BLOCKS, _WILD = 50, 20  # points of a curve of returns, and sessions before it begins
_RIGHT = 1e-3  # a table that is right to three digits
_ENOUGH = 1000  # sessions: with few, what counts is which of them is the first to find anything
_SHARE = 0.05  # of what there is to learn: less is no difference


@dataclass(frozen=True)
class Settings:
    """runs: independent runs whose mean is one seed's figure; *_sessions: that each learns from; *_step: alpha.

    maze_curve: sessions after which the table is looked at, beside the last
    """

    runs: int = 50
    epsilon: float = 0.1
    maze_sessions: int = 300
    maze_curve: tuple[int, ...] = (1, 3, 10, 30, 100)
    maze_epsilons: tuple[float, ...] = (1.0, 0.5)
    maze_step: float = 0.5
    cliff_sessions: int = 500
    cliff_step: float = 0.5
    recommender_sessions: int = 3000
    recommender_step: float = 0.1


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    if part in _WORLDS:
        return _learners(settings, part, seed)
    return _maze(settings, seed) if part == "maze" else _exact(settings)


def _maze(settings: Settings, seed: int) -> Mapping[str, Measured]:
    """An arm for each epsilon; and a row for each place, with its part of the table that was learned by the first."""
    maze, arms = cheese_maze(), {}
    counts = [count for count in settings.maze_curve if count < settings.maze_sessions]
    optimum = solve.optimal_values(maze).action_values
    for epsilon in settings.maze_epsilons:
        # A run's draws are its own, so that n sessions are the first n of more: the table as it was after n.
        tables = {0: torch.zeros(settings.runs, *maze.size, dtype=torch.float64)}
        for count in (*counts, settings.maze_sessions):
            config = TabularConfig(count, settings.runs, settings.maze_step, epsilon)
            tables[count] = tabular_q_learning(maze, config, seed).values
        apart = {count: (table - optimum).abs().amax((1, 2)) for count, table in tables.items()}
        error = [(count, log10(max(float(largest.mean()), 1e-16))) for count, largest in apart.items()]
        best = [(count, _worth(maze, table, settings.epsilon)["best"]) for count, table in tables.items()]
        arms[_maze_arm(epsilon)] = Measured(
            {"table_error": 10 ** error[-1][1], "best": best[-1][1]},
            {"digits_by_session": error, "best_by_session": best},
            {"epsilon": epsilon},
        )
        if epsilon == settings.maze_epsilons[0]:
            learned = tables[settings.maze_sessions].mean(0)
    rows = {f"Q, {place}": learned[number].tolist() for number, place in enumerate(maze.states)}
    return arms | {name: Measured(dict(zip(maze.actions, row, strict=True))) for name, row in rows.items()}


def _maze_arm(epsilon: float) -> str:
    return f"maze, epsilon {epsilon:g}"


def _session_value(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """What a session is worth, a scalar; of one that may go round in circles for ever, its first steps."""
    try:
        return solve.start_value(mdp, policy)
    except InputError:
        return mdp.start @ solve.finite_values(mdp, policy, _LONGEST_WAY)


def _learners(settings: Settings, where: str, seed: int) -> Mapping[str, Measured]:
    mdp, arms = _WORLDS[where](), {}
    sessions, step = getattr(settings, f"{where}_sessions"), getattr(settings, f"{where}_step")
    config = TabularConfig(sessions, settings.runs, step, settings.epsilon)
    for name, learn in _LEARNERS.items():
        found = learn(mdp, config, seed)
        values = {
            "online": float(found.returns[:, min(_COUNTED_FROM, config.episodes // 2) :].mean()),
            **_worth(mdp, found.values, config.epsilon),
        }
        arms[f"{where}, {name}"] = Measured(values, {f"{where}_online": _blocks(found.returns)}, {"method": name})
    return arms


def _worth(mdp: TabularMDP, tables: Tensor, epsilon: float) -> dict[str, float]:
    """Exact values of what is learned: medians over runs, and the share whose greedy policy is best. [R, S, A]"""
    greedy = torch.stack([_session_value(mdp, policy) for policy in solve.greedy_policy(tables)])
    exploring = torch.stack([solve.start_value(mdp, policy) for policy in solve.greedy_policy(tables, epsilon)])
    best = solve.start_value(mdp, solve.optimal_values(mdp).policy) - 1e-9
    return {
        "best": float((greedy >= best).double().mean()),
        "greedy": float(greedy.median()),
        "exploring": float(exploring.median()),
    }


def _blocks(returns: Tensor) -> list[tuple[int, float]]:
    """Mean return over blocks of sessions, by the last session of each; the first, wild ones are left out. [R, E]"""
    width = -(-returns.shape[1] // _BLOCKS)
    means = [float(block.mean()) for block in returns.mean(0).split(width)]
    ends = [min(width * (place + 1), returns.shape[1]) for place in range(len(means))]
    return [(end, mean) for end, mean in zip(ends, means, strict=True) if end > _WILD]


def _exact(settings: Settings) -> Mapping[str, Measured]:
    """Policies that are known, with and without exploring, by linear solves."""
    worlds, epsilon = {where: build() for where, build in _WORLDS.items()}, settings.epsilon
    cliff, recommender = worlds["cliff"], worlds["recommender"]
    arms = {
        f"cliff, {name} lane": Measured(_worth(cliff, lane(row)[None], epsilon), factors={"row": row})
        for name, row in (("middle", 1), ("top", 0))
    }
    arms["recommender, best click now"] = Measured(_worth(recommender, recommender.mean_reward[None], epsilon))
    uniform = float(solve.start_value(recommender, solve.uniform_policy(recommender)))
    arms["recommender, uniform"] = Measured({"greedy": uniform, "exploring": uniform})
    for where, mdp in worlds.items():
        best = solve.optimal_values(mdp).action_values
        arms[f"{where}, best"] = Measured(_worth(mdp, best[None], epsilon))
        arms[f"{where}, best explorer"] = Measured(_worth(mdp, _explorer(mdp, best, epsilon)[None], epsilon))
    return arms


def _explorer(mdp: TabularMDP, table: Tensor, epsilon: float) -> Tensor:
    """Action values of the best policy among those that explore: policy iteration within them. [S, A]"""
    for _ in range(mdp.size[0] * mdp.size[1]):
        table = solve.action_values(mdp, solve.greedy_policy(table, epsilon))
    return table


def _maze_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    first, *_, last = map(_maze_arm, settings.maze_epsilons)
    error, best = found.mean(first, "table_error"), found.mean(first, "best")
    sessions, shares = found.curve(first, "best_by_session")
    errors = 10 ** found.curve(first, "digits_by_session")[1].mean(0)
    later = found.difference(last, first, "table_error")
    start = ", ".join(f"{way} {found.mean('Q, Start', way).value:.4g}" for way in cheese_maze().actions)
    return (
        Point.of(
            "From zeros, the whole Q-table of the cheese maze comes to the optimum, to three digits",
            below(error, _RIGHT),
            f"largest error {errors[0]:.4g} at the start, {error} after {settings.maze_sessions} sessions; Start:"
            f" {start} (exactly 5.92, 7.4, 5.92, 6.736)",
        ),
        Point.of(
            "Its greedy policy is the best one in every run",
            above(best, 1 - 1e-9),
            f"share of runs {best}; after {sessions[-2]} sessions, with a largest error of {errors[-2]:.3g}, it was"
            f" {shares.mean(0)[-2]:.3g}",
        ),
        Point.of("Who explores less, learns less of it", above(later, 0), f"error {last} - {first}, paired: {later}"),
    )


def _cliff_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    ahead = found.difference("cliff, Sarsa", "cliff, Q-learning", "online")
    best, greedy = found.mean("cliff, Q-learning", "best"), found.mean("cliff, Q-learning", "greedy")
    known = [near(found.mean(arm, "exploring"), value, slack=0.005) for arm, value in _KNOWN_EXACT.items()]
    if settings.cliff_sessions >= _KNOWN_SESSIONS:
        # Known to a digit or two, and themselves means of a finite run: one hundredth is allowed for that.
        known += [
            near(found.mean(arm, "online"), value, 4.0, len(found.seeds), abs(value) / 100)
            for arm, value in _KNOWN_ONLINE.items()
        ]
    edge, lane_above = (found.mean(f"cliff, {where}", "exploring") for where in ("best", "middle lane"))
    online = "; ".join(f"{arm} {found.mean(arm, 'online')}" for arm in _KNOWN_ONLINE)
    return (
        Point.of(
            "On the cliff Q-learning learns the shortest way, along the edge, though it falls off it while it explores",
            all_of(above(best, 1 - 1e-9), near(greedy, -13.0, seeds=len(found.seeds))),
            f"greedy {greedy} (the best is -13), in a share {best} of the runs",
        ),
        Point.of(
            "Sarsa, which values the policy that explores, keeps away from the edge and earns more while it learns",
            above(ahead, 0),
            f"return per session, Sarsa - Q-learning, paired: {ahead}; exploring, the edge is worth exactly {edge}, the"
            f" lane above it {lane_above}",
        ),
        Point.of(
            "Both come to the textbook's figures" if len(known) > 3 else "Lanes are worth what is known of them",
            all(known),
            f"{sum(known)} of {len(known)}: {online} (-49.5 and -28.1 are known), and three exact values, exploring",
        ),
    )


def _recommender_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    now, best = found.mean("recommender, best click now", "greedy"), found.mean("recommender, best", "greedy")
    arms = [f"recommender, {name}" for name in _LEARNERS]
    gain = found.difference("recommender, best explorer", "recommender, best", "exploring").value
    apart = found.difference(arms[1], arms[0], "online")
    greedy = "; ".join(f"{arm} {found.mean(arm, 'greedy')}" for arm in arms)
    worth = best.value - found.mean("recommender, uniform", "greedy").value
    same = all_of(gain < 1e-9, above(apart, -_SHARE * worth), below(apart, _SHARE * worth))
    return (
        Point.of(
            "In the recommender's world both learn to show more than what is clicked most now",
            all_of(*(above(found.mean(arm, "greedy"), now.value) for arm in arms)),
            f"clicks per session {greedy}; best click now {now}, best {best}",
        ),
        Point.of(
            "There it is the same which of them learns: to know of one's exploring brings nothing",
            same,
            f"clicks per session: the best explorer is exactly {gain:.3g} above the best policy that explores; while"
            f" learning, Sarsa - Q-learning, paired: {apart}, of {worth:.3g} that there are to learn",
        )
        if settings.recommender_sessions >= _ENOUGH
        else Point("There it is the same which of them learns", "not run", f"it takes {_ENOUGH} sessions or more"),
    )


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    maze = tuple(_maze_arm(epsilon) for epsilon in settings.maze_epsilons)
    cliff, recommender = (tuple(f"{where}, {name}" for name in _LEARNERS) for where in _WORLDS)
    known = [(settings.cliff_sessions, value) for value in _KNOWN_ONLINE.values()]
    return (
        Chart(
            "Above: the cheese maze's table, from zeros. Below: rewards per session while learning, with epsilon .1."
            " Known: the textbook's means from session 101 on. Best: the optimum's policy, exploring.",
            {
                "Cheese maze: largest |Q - Q*|": Panel("digits_by_session", "sessions", "log10", maze),
                "Cheese maze: the best policy found": Panel("best_by_session", "sessions", "share of runs", maze),
                "Cliff": Panel("cliff_online", "sessions", "return per session", cliff, truths={"known": known}),
                "Small recommender": Panel(
                    "recommender_online",
                    "sessions",
                    "clicks per session",
                    recommender,
                    truths={"best, exploring": found.mean("recommender, best", "exploring").value},
                ),
            },
        ),
    )


CLAIM = Claim(
    name="q_learning",
    title="A table of action values, from zeros to the optimum",
    says="Q(s, a) <- Q(s, a) + alpha (r + gamma max Q(s', a') - Q(s, a)), from a table of zeros, comes to the values of"
    " the best policy, whichever explores. Sarsa, which takes the next action's value in place of the maximum, values"
    " the policy that explores; which of them earns more while learning depends on what exploring costs.",
    set_up="The cheese maze (six places, four moves, crumbs, poison and a big cheese; gamma .8), cliff walking (4 x 12,"
    " -1 per step, -100 for a fall; gamma 1), and a small recommender's world (three topics, six items, bored users who"
    " leave; gamma 1, so that values are clicks per session). Actions are epsilon-greedy, ties alike. Optimal values"
    " come from value iteration, values of policies from linear solves. A seed's figure is the mean over independent"
    " runs; of exact values of what was learned, greedy and exploring, the median. While learning: return per session"
    " from session 101 on (from the middle on, where there are less than 200). The best explorer: the best of all"
    " policies that draw a share epsilon of their actions uniformly, by policy iteration within them. The same: less"
    f" apart than {_SHARE:.0%} of what lies between the uniform and the best policy.",
    not_shown=(
        "Anything of large catalogues or of states that are not seen: these are tables over states that are known.",
        "That either comes to the best policy for the recommender: with a constant alpha both come to rest below it.",
        "That Sarsa and Q-learning are alike for recommenders at large: it is so where no single item is a cliff.",
    ),
    settings=Settings,
    parts=lambda settings: ("maze", "cliff", "recommender", "exact"),
    measure=_measure,
    points=lambda settings, found: (
        *_maze_points(settings, found),
        *_cliff_points(settings, found),
        *_recommender_points(settings, found),
    ),
    columns=(
        Column("table_error", "largest error", 4),
        Column("best", "share of runs with the best policy", 2),
        Column("online", "while learning", 2),
        Column("greedy", "greedy", 3),
        Column("exploring", "exploring", 3),
        *(Column(way, way, 3) for way in ("left", "right", "up", "down")),
    ),
    charts=_charts,
    exact=lambda settings: ("exact",),
)
