-- features.statistics: all statistics that are fitted in preparation and applied to new tracks in prediction.
-- Grain: protocol, feature_name, statistic, genre. statistic: fill (the value that replaces a missing one), mean, std,
-- pcK (the feature's loading on component K), explained_variance_ratio (feature_name is the component).
select * from features.fill_values
union all
select * from features.scaling
union all
select * from features.pca_loadings
