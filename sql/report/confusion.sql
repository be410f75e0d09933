-- Of the report: one row per true and predicted genre of one cell, test split, genres in alphabetical order.
select
    true_genre,
    predicted_genre,
    n
from results.confusion
where
    run_id = $run_id
    and protocol = $protocol
    and model = $model
    and feature_set = $feature_set
    and split = 'test'
    and seed = $seed
order by true_genre, predicted_genre
