-- What identifies a cell, for the SELECTs of results to import; no table.
-- identity: the columns, and the source; rows is the alias that has them. Tables about genre cells alone have no task.
-- same_cell: the condition that rows of a and b are about the same cell.
{% macro identity(rows, has_task=true) %}
{{ rows }}.run_id,
    {{ rows }}.protocol,
    {% if has_task %}
    {{ rows }}.task,
    {% endif %}
    {{ rows }}.model,
    {{ rows }}.feature_set,
    {{ rows }}.seed,
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
