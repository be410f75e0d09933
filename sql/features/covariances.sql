-- The covariance of each pair of z-scores, whose means are 0, over the training rows: what the principal components are
-- computed from.
-- Grain: first_feature, second_feature; each pair once, a feature with itself included.
with

learnt as (
    select
        [
            {% for first in audio_features %}
                {% for second in audio_features[loop.index0:] %}
                    {
                        'first_feature': '{{ first }}',
                        'second_feature': '{{ second }}',
                        'covariance': sum({{ first }} * {{ second }}) / (count(*) - 1)
                    },
                {% endfor %}
            {% endfor %}
        ] as pairs
    from features.tracks_std
    where split = 'train'
)

select unnest(pairs, recursive := true) from learnt
