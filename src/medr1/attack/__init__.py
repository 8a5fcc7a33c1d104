"""Adversarial images: what an attacker may change, how the change is searched for, and what it costs a model.

threat.py      how far, where and in which colours; the 8-bit image that a perturbation makes
objective.py   what is pushed on: the letter behind forced words
victim.py      the model under attack, its logits and free answers
problem.py     a batch under attack, and the best found for each of its samples
steps.py       how an ascent moves; ascent.py, square.py, typographic.py search
craft.py       the attacks by name, and one of them on a batch
checks.py      what has to hold before a number is believed; checking.py runs it on a job
store.py       images and their manifest on disk
stage.py       an attack from data to `attack.json`; cells.py one attack at one budget; run.py all of them
"""
