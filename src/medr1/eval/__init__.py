"""Evaluation: generating with resumption, image controls, scoring, and the comparison of runs."""
