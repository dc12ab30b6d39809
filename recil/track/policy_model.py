"""A saved policy as an MLflow model, from code: loading it reads safetensors and JSON and runs this file, no pickle.

MLflow copies this file beside the policy's folder. It holds no logic of its own, so that a model logged by one version
of recil is served by the next.
"""

from __future__ import annotations

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from recil.errors import InputError
from recil.track.serve import ServedPolicy
from recil.track.serve_table import answer_table


class PolicyModel(PythonModel):
    """Answers a table of sessions with a table of slates; see `recil.track.model.log_policy`."""

    served: ServedPolicy

    def load_context(self, context):  # the parameter's name is MLflow's
        self.served = ServedPolicy.load(context.artifacts["policy"])

    def predict(self, context, model_input: pd.DataFrame, params=None):
        try:
            return answer_table(self.served, model_input, params or {})
        except InputError as error:  # MLflow's server answers 400 to this one, 500 to any other
            raise MlflowException.invalid_parameter_value(str(error)) from error


set_model(PolicyModel())
