"""Every estimator of the table keeps the contract."""

from estimator_contract import EstimatorContract

from recil.evaluate.estimates import PREFERENCE
from recil.evaluate.estimators import ESTIMATORS, TABLE


class TestLogged(EstimatorContract):
    estimator = TABLE["logged"]


class TestIps(EstimatorContract):
    estimator = TABLE["ips"]


class TestSnips(EstimatorContract):
    estimator = TABLE["snips"]
    self_normalised = True


class TestPerDecision(EstimatorContract):
    estimator = TABLE["pdis"]


class TestWeightedPerDecision(EstimatorContract):
    estimator = TABLE["pdwis"]
    self_normalised = True


class TestDoublyRobust(EstimatorContract):
    estimator = TABLE["dr"]


class TestOptimalBaseline(EstimatorContract):
    estimator = TABLE["beta_ips"]


class TestReplay(EstimatorContract):
    estimator = TABLE["replay"]
    stepwise = False


class TestDirectMethod(EstimatorContract):
    estimator = TABLE["dm"]
    mean_on_policy = False


class TestWeightedDoublyRobust(EstimatorContract):
    estimator = TABLE["wdr"]


class TestLeastVariance(EstimatorContract):
    estimator = TABLE["mrdr"]


class TestFittedQEvaluation(EstimatorContract):
    estimator = TABLE["fqe"]
    mean_on_policy = False


class TestDoublyRobustWithFittedQ(EstimatorContract):
    estimator = TABLE["fqe_dr"]


class TestMagic(EstimatorContract):
    estimator = TABLE["magic"]


class TestMarginal(EstimatorContract):
    estimator = TABLE["mis"]
    self_normalised = True


class TestMarginalDoublyRobust(EstimatorContract):
    estimator = TABLE["mis_dr"]


class TestCascade(EstimatorContract):
    estimator = TABLE["rips"]


class TestIndependent(EstimatorContract):
    estimator = TABLE["iips"]


class TestAdditive(EstimatorContract):
    estimator = TABLE["pi"]


class TestCascadeDoublyRobust(EstimatorContract):
    estimator = TABLE["cascade_dr"]


class TestCategories(EstimatorContract):
    estimator = TABLE["mips"]


class TestCapped(EstimatorContract):
    estimator = TABLE["cips"]


class TestSubgaussian(EstimatorContract):
    estimator = TABLE["subgaussian"]


class TestSwitch(EstimatorContract):
    estimator = TABLE["switch_dr"]


class TestOptimistic(EstimatorContract):
    estimator = TABLE["dros"]
    mean_on_policy = False


def test_every_estimator_is_held_to_the_contract_and_has_its_place():
    held = {test.estimator.name for test in EstimatorContract.__subclasses__()}
    assert held == set(TABLE)
    assert set(ESTIMATORS) <= set(TABLE)
    assert {name for name, estimator in ESTIMATORS.items() if estimator.target} == set(PREFERENCE)
