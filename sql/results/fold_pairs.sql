-- What results.fold_comparisons compares: each two models of a task that were cross-validated on the same folds of the
-- same tracks. results_a and results_b name the cross-validations, one a seed.
select
    a.catalogue,
    a.staging_version,
    a.budget,
    a.protocol,
    a.task,
    a.feature_set,
    a.folds,
    a.metric,
    a.model as model_a,
    b.model as model_b,
    a.value as value_a,
    b.value as value_b,
    a.results as results_a,
    b.results as results_b,
    a.source,
    a.is_generated
from cross_validations as a
inner join cross_validations as b
    on
        a.catalogue = b.catalogue
        and a.staging_version = b.staging_version
        and a.budget = b.budget
        and a.protocol = b.protocol
        and a.task = b.task
        and a.feature_set = b.feature_set
        and a.folds = b.folds
        and a.metric = b.metric
        and a.model < b.model
