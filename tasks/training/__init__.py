"""Trains cells: a cell fits one model to one feature table. Defines their keys, runs and stored results."""
