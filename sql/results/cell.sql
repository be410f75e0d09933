-- What identifies a cell, for the SELECTs of results to import; no table.
-- identity: the columns, and the source; rows is the alias that has them. Tables about genre cells alone have no task.
-- same_cell: the condition that rows of a and b are about the same cell.
-- division: the columns that say how the tracks of a cross-validation were divided into folds.
-- comparable: the condition that rows of a and b are figures of two models, in alphabetical order, on equal test rows.
{% macro division(rows="") %}
{% set of = rows ~ "." if rows else "" %}
{{ of }}folds,
    {{ of }}fold_seed
{%- endmacro %}
{% macro identity(rows, has_task=true, has_fold=false) %}
{{ rows }}.run_id,
    {{ rows }}.protocol,
    {% if has_task %}
    {{ rows }}.task,
    {% endif %}
    {{ rows }}.model,
    {{ rows }}.feature_set,
    {{ rows }}.seed,
    {% if has_fold %}
    {{ rows }}.fold,
    {{ division(rows) }},
    {% endif %}
    {{ rows }}.source
{%- endmacro %}
{% macro same_cell(a, b, has_task=true) %}
{{ a }}.run_id = {{ b }}.run_id
        and {{ a }}.protocol = {{ b }}.protocol
        {% if has_task %}
        and {{ a }}.task = {{ b }}.task
        {% endif %}
        and {{ a }}.model = {{ b }}.model
        and {{ a }}.feature_set = {{ b }}.feature_set
        and {{ a }}.seed = {{ b }}.seed
{%- endmacro %}
{% macro comparable(a, b, has_folds=false) %}
{{ a }}.catalogue = {{ b }}.catalogue
        and {{ a }}.staging_version = {{ b }}.staging_version
        and {{ a }}.budget = {{ b }}.budget
        and {{ a }}.protocol = {{ b }}.protocol
        and {{ a }}.task = {{ b }}.task
        and {{ a }}.feature_set = {{ b }}.feature_set
        {% if has_folds %}
        and {{ a }}.folds = {{ b }}.folds
        and {{ a }}.fold_seed = {{ b }}.fold_seed
        {% endif %}
        and {{ a }}.metric = {{ b }}.metric
        and {{ a }}.test_rows = {{ b }}.test_rows
        and {{ a }}.model < {{ b }}.model
{%- endmacro %}
