-- What a cell reads of one split of a large feature table: one row per track, in the order of position; of the split to
-- train on only the chosen positions, and of those, if several workers share them, every so-many-th. group_id: of the
-- tracks linked by artist or recording.
select
    {% for feature in features %}
        cast(trained.{{ feature }} as {{ number }}) as {{ feature }},
    {% endfor %}
    {% if is_evaluated %}
        trained.track_id,
        trained.is_imputed,
        assigned.group_id,
    {% endif %}
    trained.genre_id,
    trained.popularity as target_popularity
from features.trained_table as trained
{% if is_evaluated %}
    inner join features.split_assignment as assigned on trained.track_id = assigned.track_id
{% elif is_chosen %}
    semi join features.chosen_rows as chosen on trained.position = chosen.position
{% endif %}
where trained.split = '{{ split }}'
{% if share is not none %}
    and trained.position % {{ shares }} = {{ share }}
{% endif %}
order by trained.position
