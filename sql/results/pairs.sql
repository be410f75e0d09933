-- What results.comparisons compares: each two models of a task on one protocol, feature set and set of tracks of one
-- catalogue, whose figures are of the same test rows. results_a and results_b are the cells' folders, one a seed.
{% from "results/cell.sql" import comparable %}
select
    a.catalogue,
    a.staging_version,
    a.budget,
    a.protocol,
    a.task,
    a.feature_set,
    a.metric,
    a.model as model_a,
    b.model as model_b,
    a.value as value_a,
    b.value as value_b,
    a.results as results_a,
    b.results as results_b,
    a.source,
    a.is_generated
from results.figures as a
inner join results.figures as b
    on
        {{ comparable('a', 'b') }}
