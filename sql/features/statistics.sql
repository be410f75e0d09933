-- features.statistics: everything that preparation learns from data, and prediction applies to new tracks.
-- Grain: protocol, feature_name, statistic, genre. statistic: fill (the value that stands in for a missing one),
-- mean, std,
-- pcK (the feature's loading on component K), explained_variance_ratio (feature_name is the component).
select * from features.fill_values
union all
select * from features.scaling
union all
select * from features.pca_loadings
