"""Every estimator of the table keeps the contract."""

from estimator_contract import EstimatorContract

from recil.evaluate.estimates import PREFERENCE
from recil.evaluate.estimators import ESTIMATORS


class TestLogged(EstimatorContract):
    estimator = ESTIMATORS["logged"]


class TestIps(EstimatorContract):
    estimator = ESTIMATORS["ips"]


class TestSnips(EstimatorContract):
    estimator = ESTIMATORS["snips"]
    self_normalised = True


class TestPerDecision(EstimatorContract):
    estimator = ESTIMATORS["pdis"]


class TestWeightedPerDecision(EstimatorContract):
    estimator = ESTIMATORS["pdwis"]
    self_normalised = True


class TestDoublyRobust(EstimatorContract):
    estimator = ESTIMATORS["dr"]


def test_every_estimator_is_held_to_the_contract_and_has_its_place():
    held = {test.estimator.name for test in EstimatorContract.__subclasses__()}
    assert held == set(ESTIMATORS)
    assert {name for name, estimator in ESTIMATORS.items() if estimator.target} == set(PREFERENCE)
