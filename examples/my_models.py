"""A plug-in: one model, one feature set and one protocol (docs/plugins.md).

python -m flows.benchmark --plugins my_models.py --protocol median --models hist_gradient_boosting
"""

from __future__ import annotations

from typing import Any

from tasks.models.spec import ModelSpec, Parameters
from tasks.specs import HONEST, FeatureSet, Protocol


def hist_gradient_boosting(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's HistGradientBoostingClassifier."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(**parameters, random_state=seed)


MODELS = [
    ModelSpec(
        model="hist_gradient_boosting",
        task="genre",
        build=hist_gradient_boosting,
        parameters={"max_iter": 100, "learning_rate": 0.1},
        quick={"max_iter": 10},
        feature_sets=("all", "interactions"),
        group="better",
        needs_memory="it sorts all rows into bins at once",
        trusted_types=("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",),
        cost=10,
    ),
]

# Eleven features as z-scores, a product of two, and the key as a place on a circle: `clean_` is a value in its unit.
FEATURE_SETS = [
    FeatureSet(
        name="interactions",
        columns={
            **{name: name for name in ("acousticness", "danceability", "duration_ms", "energy", "instrumentalness")},
            **{name: name for name in ("liveness", "loudness", "mode_code", "speechiness", "tempo", "valence")},
            "energy_x_valence": "energy * valence",
            "key_sine": "sin(2 * pi() * clean_key_code / 12)",
            "key_cosine": "cos(2 * pi() * clean_key_code / 12)",
        },
    ),
]

# Missing values are filled with the median over the training rows; artists and recordings are kept apart.
PROTOCOLS = [
    Protocol(
        name="median",
        description="as cold_start, missing values filled with the median over the training rows",
        fill="protocols/median/fill_values",
        split="grouped",
        checks=(*HONEST, "groups_apart"),
    ),
]

SQL = {
    "protocols/median/fill_values": """
        with

        learnt as (
            select
                {% for name in audio_features %}
                    cast(quantile_disc(tracks.{{ name }}, 0.5) as double) as {{ name }},
                {% endfor %}
            from staging.stg_tracks as tracks
            inner join features.split_assignment as split on tracks.track_id = split.track_id
            where split.split = 'train'
        ),

        filled as (
            unpivot learnt
            on *
            into name feature_name value value
        )

        select
            $protocol as protocol,
            feature_name,
            'fill' as statistic,
            cast(null as varchar) as genre,
            value
        from filled
    """,
}
