"""Adversarial images: what an attacker may change, what is pushed on, and how the change is searched for."""
