"""recil: a recommender-system simulator for recommenders trained by imitation.

The names below are the whole public surface; each is loaded when it is first used, so that `import recil` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "SessionLog": "recil.logs.session_log",
    "read_log": "recil.logs.read",
    "InputError": "recil.errors",
    "History": "recil.logs.history",
    "Streams": "recil.random",
    "Policy": "recil.policies.protocol",
    "SoftmaxPolicy": "recil.policies.softmax",
    "uniform": "recil.policies.baselines",
    "popular": "recil.policies.baselines",
    "knn": "recil.policies.neighbours",
    "markov": "recil.policies.markov",
    "load": "recil.policies.storage",
    "UserConfig": "recil.sim.user_config",
    "UserModel": "recil.sim.users",
    "fit_users": "recil.sim.fit",
    "SimulatorCard": "recil.sim.card",
    "validate": "recil.sim.card",
    "World": "recil.sim.world",
    "CloneConfig": "recil.train.clone",
    "clone": "recil.train.clone",
    "FinetuneConfig": "recil.train.finetune_config",
    "finetune": "recil.train.finetune",
    "ReinforceConfig": "recil.train.finetune_config",
    "reinforce": "recil.train.reinforce",
    "evaluate": "recil.evaluate.on_log",
    "Estimates": "recil.evaluate.estimates",
    "simulate": "recil.evaluate.simulate",
    "simulated_value": "recil.evaluate.simulate",
    "compare": "recil.evaluate.compare",
    "Comparison": "recil.evaluate.compare",
    "rank": "recil.evaluate.compare",
    "plan": "recil.evaluate.plan",
    "Plan": "recil.evaluate.planned",
    "transfer": "recil.evaluate.transfer",
    "Transfer": "recil.evaluate.transfer",
    "Warrant": "recil.policies.environment",
    "UserEnsemble": "recil.sim.ensemble",
    "fit_ensemble": "recil.sim.ensemble",
    "fit_reference": "recil.sim.reference",
    "ResponseReference": "recil.sim.reference",
    "read_card": "recil.sim.card",
    "SimulatedValue": "recil.evaluate.simulate",
    "q_learning": "recil.train.q_learning",
    "QLearningConfig": "recil.train.q_learning_config",
    "dagger": "recil.train.dagger",
    "Dagger": "recil.train.dagger",
    "DaggerConfig": "recil.train.dagger_config",
    "best_response": "recil.train.dagger_expert",
    "adversarial": "recil.train.adversarial",
    "Adversarial": "recil.train.adversarial",
    "AdversarialConfig": "recil.train.adversarial_config",
    "check_log": "recil.evaluate.log_checks",
    "estimators_frame": "recil.evaluate.estimators",
    "Estimator": "recil.evaluate.estimators",
    "TabularMDP": "recil.exact.mdp",
    "TabularWorld": "recil.exact.world",
    "TabularConfig": "recil.train.tabular",
    "tabular_q_learning": "recil.train.tabular",
    "sarsa": "recil.train.tabular",
    "td_values": "recil.train.values",
    "monte_carlo_values": "recil.train.values",
    "ValueConfig": "recil.train.values",
    "choose_estimator": "recil.evaluate",
    "slope": "recil.evaluate",
    "tuned": "recil.evaluate",
    "propensity_calibration": "recil.evaluate",
}

if TYPE_CHECKING:
    from recil.errors import InputError as InputError
    from recil.evaluate import choose_estimator as choose_estimator
    from recil.evaluate import propensity_calibration as propensity_calibration
    from recil.evaluate import slope as slope
    from recil.evaluate import tuned as tuned
    from recil.evaluate.compare import Comparison as Comparison
    from recil.evaluate.compare import compare as compare
    from recil.evaluate.compare import rank as rank
    from recil.evaluate.estimates import Estimates as Estimates
    from recil.evaluate.estimators import Estimator as Estimator
    from recil.evaluate.estimators import estimators_frame as estimators_frame
    from recil.evaluate.log_checks import check_log as check_log
    from recil.evaluate.on_log import evaluate as evaluate
    from recil.evaluate.plan import plan as plan
    from recil.evaluate.planned import Plan as Plan
    from recil.evaluate.simulate import SimulatedValue as SimulatedValue
    from recil.evaluate.simulate import simulate as simulate
    from recil.evaluate.simulate import simulated_value as simulated_value
    from recil.evaluate.transfer import Transfer as Transfer
    from recil.evaluate.transfer import transfer as transfer
    from recil.exact.mdp import TabularMDP as TabularMDP
    from recil.exact.world import TabularWorld as TabularWorld
    from recil.logs.history import History as History
    from recil.logs.read import read_log as read_log
    from recil.logs.session_log import SessionLog as SessionLog
    from recil.policies.baselines import popular as popular
    from recil.policies.baselines import uniform as uniform
    from recil.policies.environment import Warrant as Warrant
    from recil.policies.markov import markov as markov
    from recil.policies.neighbours import knn as knn
    from recil.policies.protocol import Policy as Policy
    from recil.policies.softmax import SoftmaxPolicy as SoftmaxPolicy
    from recil.policies.storage import load as load
    from recil.random import Streams as Streams
    from recil.sim.card import SimulatorCard as SimulatorCard
    from recil.sim.card import read_card as read_card
    from recil.sim.card import validate as validate
    from recil.sim.ensemble import UserEnsemble as UserEnsemble
    from recil.sim.ensemble import fit_ensemble as fit_ensemble
    from recil.sim.fit import fit_users as fit_users
    from recil.sim.reference import ResponseReference as ResponseReference
    from recil.sim.reference import fit_reference as fit_reference
    from recil.sim.user_config import UserConfig as UserConfig
    from recil.sim.users import UserModel as UserModel
    from recil.sim.world import World as World
    from recil.train.adversarial import Adversarial as Adversarial
    from recil.train.adversarial import adversarial as adversarial
    from recil.train.adversarial_config import AdversarialConfig as AdversarialConfig
    from recil.train.clone import CloneConfig as CloneConfig
    from recil.train.clone import clone as clone
    from recil.train.dagger import Dagger as Dagger
    from recil.train.dagger import dagger as dagger
    from recil.train.dagger_config import DaggerConfig as DaggerConfig
    from recil.train.dagger_expert import best_response as best_response
    from recil.train.finetune import finetune as finetune
    from recil.train.finetune_config import FinetuneConfig as FinetuneConfig
    from recil.train.finetune_config import ReinforceConfig as ReinforceConfig
    from recil.train.q_learning import q_learning as q_learning
    from recil.train.q_learning_config import QLearningConfig as QLearningConfig
    from recil.train.reinforce import reinforce as reinforce
    from recil.train.tabular import TabularConfig as TabularConfig
    from recil.train.tabular import sarsa as sarsa
    from recil.train.tabular import tabular_q_learning as tabular_q_learning
    from recil.train.values import ValueConfig as ValueConfig
    from recil.train.values import monte_carlo_values as monte_carlo_values
    from recil.train.values import td_values as td_values

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recil' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    # A folder of the same name (recil.evaluate) would otherwise stand in the function's place once imported.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
