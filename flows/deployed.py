"""The Prefect flows that a worker loads: `prefect.yaml` names them. Each is the function of a command."""

from flows.benchmark import benchmark as benchmark_function
from flows.features import features as features_function
from flows.learning_curve import learning_curve as learning_curve_function
from flows.predict import predict as predict_function
from flows.prefect_flow import flow_of
from flows.tune import tune as tune_function
from flows.upkeep import upkeep as upkeep_function

benchmark = flow_of(benchmark_function)
features = flow_of(features_function)
learning_curve = flow_of(learning_curve_function)
predict = flow_of(predict_function)
tune = flow_of(tune_function)
upkeep = flow_of(upkeep_function)
