-- Targets that have the same value in every row of a split: one row per target and split, with the value. From
-- features.tracks_std. Dropped: rows without the target.
{% set targets = {"popularity": "format('{:g}', popularity)", "genre": "music_genre"} %}
{% for task, value in targets.items() %}
    select
        '{{ task }}' as task,
        split,
        min({{ value }}) as value
    from features.tracks_std
    where split <> 'unused'
    group by split
    having min({{ value }}) = max({{ value }})
    {{ "union all" if not loop.last }}
{% endfor %}
