"""What honest checkpoints ask for is taken; those made to do harm are in `tests/hostile_cases.py`."""

import json
from pathlib import Path

import pytest

from medr1.errors import ModelError
from medr1.models.guarded import check_checkpoint
from medr1.models.loading import load_model, model_type
from medr1.models.tiny import WARM_START


@pytest.mark.parametrize(
    "template",
    [
        # Whose turn it is, as Gemma's and Llama's families ask.
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('x') }}{% endif %}{% endfor %}",
        "{% if messages | length % 2 == 0 %}a{% endif %}",
        "{% set n = namespace(value=0) %}{% for m in messages[::-1] %}{% set n.value = n.value + 1 %}{% endfor %}",
        "{% macro part(p) %}{{ p.text }}{% endmacro %}{% for m in messages %}{{ part(m.content[0]) }}{% endfor %}",
    ],
)
def test_templates_that_count_turns_are_taken(template: str, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    check_checkpoint(tmp_path)


def test_quantised_weights_are_left_to_the_engine_that_unpacks_them(tmp_path: Path) -> None:
    for file in WARM_START.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert model_type(tmp_path) == model_type(WARM_START), "vLLM opens it by its family"
    with pytest.raises(ModelError, match="quantised"):
        load_model(tmp_path)
