-- Of the report: sql/report/leads.sql of results.fold_comparisons, the figures over all folds.
{% set has_folds = true %}
{% include "report/leads.sql" %}
