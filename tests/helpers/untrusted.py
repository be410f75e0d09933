"""Texts that would do harm if any part of the project took them for more than text."""

UNTRUSTED = (
    "'; drop table raw.tracks; --", '" or 1=1 --', "{{ 7 * 7 }}", "{% for x in () %}", "$protocol", "?", "%s {0}",
    "[red]x[/red]", "[/]", ":smile:", "<script>alert(1)</script>", "| a |\n|---|", "![x](http://127.0.0.1:1/x.png)",
    "=1+1", "\u202egnp.exe", "\x1b[31mred\x1b[2J", "a\rb", "a\tb", "back\\", "\u00c7a", "\u00e7A",
    "id", "id_0", "x" * 3_000,
)  # fmt: skip
