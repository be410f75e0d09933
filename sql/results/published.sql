-- results.published: the study's own figures, as it gives them.
select * from read_csv($published_csv, header = true)
