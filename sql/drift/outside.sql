-- Values outside of the range of the reference rows: two rows per number, the current rows outside of it (bin 'yes')
-- and those inside ('no'). Reference rows are all inside.
with

ranges as (
    select
        {% for name in numbers %}
            min({{ name }}) as {{ name }}_low,
            max({{ name }}) as {{ name }}_high,
            count({{ name }}) as {{ name }},
        {% endfor %}
    from reference_rows
),

counted as (
    select
        'yes' as bin,
        {% for name in numbers %}
            count(*) filter (where tracks.{{ name }} not between {{ name }}_low and {{ name }}_high) as {{ name }},
        {% endfor %}
    from current_rows as tracks
    cross join ranges
    union all
    select
        'no' as bin,
        {% for name in numbers %}
            count(*) filter (where tracks.{{ name }} between {{ name }}_low and {{ name }}_high) as {{ name }},
        {% endfor %}
    from current_rows as tracks
    cross join ranges
),

current_counts as (
    unpivot counted
    on * exclude (bin)
    into name column_name value n
),

reference_counts as (
    unpivot (select {{ numbers | join(", ") }} from ranges)
    on *
    into name column_name value n
)

select
    'outside' as statistic,
    current_counts.column_name,
    current_counts.bin,
    if(current_counts.bin = 'no', reference_counts.n, 0) as n_reference,
    current_counts.n
from current_counts
inner join reference_counts on current_counts.column_name = reference_counts.column_name
