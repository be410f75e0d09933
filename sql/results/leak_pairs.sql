-- What results.leak_ledger measures: the same model on the same test rows, with a leak (a) and without it (b).
-- imputation: missing values are filled by genre (a), or over all training rows (b). recordings, artists: training rows
-- that share a recording or an artist with a test row are left out (b); of a as many training rows at random.
-- target: the target of the other task is among the features (a), or is not (b).
with

kinds (leak, protocol_a, protocol_b, feature_set_a, feature_set_b) as (
    values
    ('imputation', 'published', 'label_free', null, null),
    ('recordings', 'recordings_any', 'recordings_apart', null, null),
    ('artists', 'artists_any', 'artists_apart', null, null),
    ('target', 'label_free', 'label_free', 'all_with_popularity', 'all'),
    ('target', 'label_free', 'label_free', 'all_with_genre', 'all')
)

select
    kinds.leak,
    a.source,
    a.catalogue,
    a.staging_version,
    a.budget,
    a.task,
    a.model,
    a.feature_set,
    a.metric,
    a.value as value_a,
    b.value as value_b,
    a.results as results_a,
    b.results as results_b
from kinds
inner join results.figures as a
    on
        kinds.protocol_a = a.protocol
        and (
            kinds.feature_set_a = a.feature_set
            or (
                kinds.feature_set_a is null
                and a.feature_set in (
                    select sets.feature_set from results.feature_sets as sets
                    where sets.leaks is null
                )
            )
        )
inner join results.figures as b
    on
        kinds.protocol_b = b.protocol
        and coalesce(kinds.feature_set_b, a.feature_set) = b.feature_set
        and a.catalogue = b.catalogue
        and a.staging_version = b.staging_version
        and a.budget = b.budget
        and a.task = b.task
        and a.model = b.model
        and a.metric = b.metric
        and a.test_rows = b.test_rows
