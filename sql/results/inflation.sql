-- results.inflation: one row per catalogue, set of tracks, budget, leak, task, model, feature set and metric: the
-- figure with the leak (value_a) and without it (value_b) on the same test rows, and the 95 % paired bootstrap interval
-- of their difference. For people: results.leak_ledger.
select * from contrasted
