-- The rows of one split of a large feature table that a cell reads: one row per track, in the order of position.
-- Training rows are limited to the chosen positions. If several Dask workers share them, each gets every n-th position.
-- group_id: the group of tracks that are linked by artist or recording.
select
    {% for feature in features %}
        cast(trained.{{ feature }} as {{ number }}) as {{ feature }},
    {% endfor %}
    {% if is_evaluated %}
        trained.track_id,
        trained.is_imputed,
    {% endif %}
    {% if has_groups %}
        assigned.group_id,
    {% endif %}
    trained.genre_id,
    trained.popularity as target_popularity
from features.trained_table as trained
{% if has_groups %}
    inner join features.split_assignment as assigned on trained.track_id = assigned.track_id
{% endif %}
{% if is_chosen and not is_evaluated %}
    semi join features.chosen_rows as chosen on trained.position = chosen.position
{% endif %}
where trained.split = '{{ split }}'
{% if share is not none %}
    and trained.position % {{ shares }} = {{ share }}
{% endif %}
order by trained.position
