-- What results.fold_comparisons compares: each two models of a task that were cross-validated on the same folds of the
-- same tracks. results_a and results_b name the cross-validations, one a seed.
{% from "results/cell.sql" import comparable, division %}
with

models as (
    select
        catalogue,
        staging_version,
        budget,
        protocol,
        task,
        feature_set,
        {{ division() }},
        metric,
        model,
        test_rows,
        avg(value) as value,
        list(whole order by seed) as results,
        any_value(source) as source,
        any_value(is_generated) as is_generated
    from pooled_folds
    where is_newest
    group by all
)

select
    a.catalogue,
    a.staging_version,
    a.budget,
    a.protocol,
    a.task,
    a.feature_set,
    {{ division("a") }},
    a.metric,
    a.model as model_a,
    b.model as model_b,
    a.value as value_a,
    b.value as value_b,
    a.results as results_a,
    b.results as results_b,
    a.source,
    a.is_generated
from models as a
inner join models as b
    on
        {{ comparable('a', 'b', has_folds=true) }}
