-- Of the report: one row per square of true and predicted popularity (5 points wide, its lower corner) that has rows of
-- one cell's test split. Predictions below 0 or above 100 are counted at the border.
select
    least(floor(y_true / 5) * 5, 95) as true_popularity,
    least(greatest(floor(y_pred / 5) * 5, 0), 95) as predicted_popularity,
    count(*) as n,
    sum(y_pred) as sum_predicted
from results.predictions
where
    run_id = $run_id
    and protocol = $protocol
    and model = $model
    and feature_set = $feature_set
    and split = 'test'
    and seed = $seed
    and task = 'popularity'
group by true_popularity, predicted_popularity
order by true_popularity, predicted_popularity
