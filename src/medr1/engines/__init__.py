"""Engines: what turns prompts with images into completions."""
