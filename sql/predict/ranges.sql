-- The values that each audio feature is set to when asked what if: one row per feature_name and value, in its own unit.
-- The values at $shares of the training rows (known_clean is features.tracks_clean of a model, of which 100,000
-- training rows or fewer are looked at), and the value that the track itself has or was given where it has none
-- (features.tracks_clean).
with

training as (
    select *
    from known_clean
    where split = 'train'
    using sample reservoir (100000 rows) repeatable (42)
),

quantiles as (
    select
        {% for name in audio_features %}
            quantile_disc({{ name }}, $shares) as {{ name }},
        {% endfor %}
    from training
),

by_feature as (
    unpivot quantiles
    on *
    into name feature_name value at_shares
),

own as (
    unpivot (select {{ audio_features | join(", ") }} from features.tracks_clean)
    on *
    into name feature_name value value
)

select
    feature_name,
    unnest(at_shares) as value
from by_feature
union
select
    feature_name,
    value
from own
order by feature_name, value
