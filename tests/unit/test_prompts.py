"""Prompts: the published wording to the last blank, where options and images stand, and the supervised target."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medr1.answers import PROTOCOLS, parse_answer
from medr1.data import read_source
from medr1.errors import ConfigError, DataError
from medr1.prompts import PROMPTS, PromptTemplate, messages, question_text, render, target
from medr1.records import short_hash
from medr1.types import ImageRef, ParseStatus, Sample

IMAGE = ImageRef(path="a.png")
SAMPLE = Sample(
    id="s1",
    images=(IMAGE,),
    question="What is shown?",
    options=("CT", "Breast tissue"),
    answer_index=1,
    rationale=" It is soft. ",
)

# As measured in the published code, python escapes.
VERBATIM = {
    "medvlm-r1/train": (
        "\n        {Question} \n        Your task: \n        1. Think through the question step by step, enclose your "
        "reasoning process in <think>...</think> tags. \n        2. Then provide the correct single-letter choice "
        "(A, B, C, D,...) inside <answer>...</answer> tags.\n        3. No extra information or text outside of these "
        "tags.\n        "
    ),
    "medvlm-r1/complex": (
        "\n    {Question} \n    Your task: \n    1. Think through the question step by step, enclose your reasoning "
        "process in <think>...</think> tags. \n    2. Then provide the correct single-letter choice (A, B, C, D,...) "
        "inside <answer>...</answer> tags.\n    3. No extra information or text outside of these tags.\n    "
    ),
    "medvlm-r1/simple": (
        "\n    {Question} \n    Your task: provide the correct single-letter choice (A, B, C, D,...).\n    "
    ),
    "med-r1/train-think": (
        "{Question} Your task: 1. Think through the question step by step, enclose your reasoning process in "
        "<think>...</think> tags. 2. Then provide the correct single-letter choice (A, B, C, D,...) inside "
        "<answer>...</answer> tags. 3. No extra information or text outside of these tags."
    ),
    "med-r1/train-nothink": (
        "{Question} Your task: 1. Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer>"
        " tags. 2. No extra information or text outside of this tag."
    ),
    "med-r1/think": (
        "{Question} Think through the question step by step in <think>...</think> tags. Then provide the correct "
        "single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
    ),
    "med-r1/nothink": (
        "{Question} Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
    ),
    "med-r1/zeroshot": "{Question} Provide the correct single-letter choice (A, B, C, D,...).",
    "med-r1/readme": (
        "{Question} First output the thinking process in <think> </think> and final choice (A, B, C, D ...) in "
        "<answer> </answer> tags."
    ),
    "med-r1/sft": "{Question}",
}

SYSTEMS = {
    "medvlm-r1/sft": (
        " A conversation between User and Assistant. The user asks a multiple choice question, and the Assistant should"
        "\n    1. Think through the question step by step, enclose your reasoning process in <think>...</think> tags. "
        "\n    2. Then provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
        "\n    3. No extra information or text outside of these tags.."
    ),
    "med-r1/sft": (
        "Your task: Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
    ),
    "med-r1/system": (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
    ),
}


@pytest.mark.parametrize("name", VERBATIM)
def test_published_texts_are_verbatim(name):
    assert PROMPTS[name].text == VERBATIM[name]


def test_system_turns_are_verbatim_and_nowhere_else():
    assert {name: template.system for name, template in PROMPTS.items() if template.system} == SYSTEMS


@pytest.mark.parametrize("template", PROMPTS.values(), ids=PROMPTS)
def test_every_template_is_well_formed(template: PromptTemplate):
    assert PROMPTS[template.name] is template
    assert template.text.count("{Question}") == 1
    assert template.protocol in PROTOCOLS
    assert template.options_style == ("inline" if template.name.startswith("med-r1/") else "lines")
    assert template.image_first is (template.name != "med-r1/sft")
    asked = template.text.replace("{Question}", "") + (template.system or "")
    if asked:
        assert ("<think>" in asked) is (template.answer_format == "think")
        assert ("<answer>" in asked) is (template.answer_format != "letter")


def test_options_style():
    assert question_text(SAMPLE, "lines") == "What is shown?\nA) CT\nB) Breast tissue"
    assert question_text(SAMPLE, "inline") == "What is shown? A)CT, B)Breast tissue"
    assert question_text(Sample(id="o", images=(), question="Describe."), "inline") == "Describe."


def test_braces_are_text_and_so_is_the_placeholder_in_a_question():
    odd = Sample(id="1", images=(), question="{x} {Question} %s \\1", options=("{0}", "{Question}"), answer_index=0)
    assert render(PROMPTS["bare"], odd) == "{x} {Question} %s \\1\nA) {0}\nB) {Question}"
    as_json = replace(PROMPTS["bare"], text='{Question} Answer as {"answer": "A"}')
    assert render(as_json, SAMPLE) == question_text(SAMPLE, "lines") + ' Answer as {"answer": "A"}'


def test_render():
    assert render(PROMPTS["med-r1/zeroshot"], SAMPLE) == (
        "What is shown? A)CT, B)Breast tissue Provide the correct single-letter choice (A, B, C, D,...)."
    )
    assert render(PROMPTS["bare"], SAMPLE) == render(PROMPTS["bare-nothink"], SAMPLE) == question_text(SAMPLE, "lines")


def test_published_problems_are_rebuilt_exactly(real_data: Path):
    records = json.loads((real_data / "medvlm_r1" / "MRI_CT_XRAY_300each_dataset.json").read_text("utf-8"))
    assert len(records) == 900
    for record in records:
        sample = Sample(id="1", images=(), question=record["question"], options=tuple(record["options"]))
        assert question_text(sample, "lines") == record["problem"]


def test_messages_put_the_images_first():
    two = Sample(id="1", images=(IMAGE, IMAGE), question="Which?", options=("x", "y"), answer_index=0)
    text = {"type": "text", "text": "Which?\nA) x\nB) y"}
    assert messages(PROMPTS["bare"], two) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, text]},
    ]


def test_messages_of_the_sft_form_have_the_text_first_and_a_system_turn():
    assert messages(PROMPTS["med-r1/sft"], SAMPLE) == [
        {"role": "system", "content": [{"type": "text", "text": SYSTEMS["med-r1/sft"]}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is shown? A)CT, B)Breast tissue"}, {"type": "image"}],
        },
    ]


def test_paths_are_never_shown():
    named = Sample(
        id="1", images=(ImageRef(path="Images/Covid/Covid (1).png"),), question="?", options=("x",), answer_index=0
    )
    assert "Covid" not in str([messages(template, named) for template in PROMPTS.values()])


def test_target_is_what_the_format_asks_for():
    assert target(PROMPTS["think"], SAMPLE) == "<think>It is soft.</think><answer>B</answer>"
    assert target(PROMPTS["think"], SAMPLE, "Given.") == "<think>Given.</think><answer>B</answer>"
    assert target(PROMPTS["think"], SAMPLE, "<think>\nGiven.\n</think>") == "<think>Given.</think><answer>B</answer>"
    assert target(PROMPTS["nothink"], SAMPLE, "Given.") == "<answer>B</answer>"
    assert target(PROMPTS["medvlm-r1/simple"], SAMPLE, "Given.") == "B"


@pytest.mark.parametrize("template", PROMPTS.values(), ids=PROMPTS)
def test_every_target_is_right_under_its_own_protocol_and_the_default(template: PromptTemplate):
    completion = target(template, SAMPLE)
    assert PROTOCOLS[template.protocol](completion, SAMPLE).letter == "B"
    parsed = parse_answer(completion, SAMPLE, template.answer_format)
    assert (parsed.letter, parsed.status) == ("B", ParseStatus.OK)


@pytest.mark.parametrize("rationale", [None, "", "  ", "None", "<think></think>", "<think>None</think>"])
def test_thinking_without_rationale_is_refused(rationale):
    bare = Sample(id="s2", images=(), question="?", options=("x", "y"), answer_index=0)
    with pytest.raises(ConfigError, match=r"'think'.*s2.*medr1 distill.*nothink"):
        target(PROMPTS["think"], bare, rationale)


@pytest.mark.parametrize("rationale", ["a</think>b", "see <answer>A</answer>", "<think>a</think><think>b</think>"])
def test_a_rationale_with_tags_is_refused(rationale):
    with pytest.raises(DataError, match=r"s1.*tags"):
        target(PROMPTS["think"], SAMPLE, rationale)


def test_a_target_needs_a_right_answer():
    unanswered = Sample(id="s3", images=(), question="?", answer_type="text")
    with pytest.raises(DataError, match=r"s3.*answer_index"):
        target(PROMPTS["nothink"], unanswered)
    with pytest.raises(DataError, match=r"s4.*'think'"):
        target(PROMPTS["med-r1/nothink"], replace(unanswered, id="s4", answers=("x",)))


@pytest.mark.parametrize(
    ("answer_type", "answers", "asked", "taught"),
    [
        ("yes_no", ("Yes",), "write yes or no, and", "Yes"),
        ("multi", ("Mass", "Edema"), "write everything that applies, separated by semicolons, and", "Mass; Edema"),
        ("number", ("12.5",), "write the number in digits, without a unit, and", "12.5"),
        ("text", ("left lung", "lung"), "write the answer in as few words as possible, and", "left lung"),
    ],
)
def test_ours_ask_for_what_the_question_wants(answer_type, answers, asked, taught):
    sample = Sample(id="1", images=(), question="{Answer}?", answer_type=answer_type, answers=answers)
    for name in ("think", "nothink"):
        assert asked in render(PROMPTS[name], sample)
        assert render(PROMPTS[name], sample).startswith("{Answer}?\n")
    assert target(PROMPTS["nothink"], sample) == f"<answer>{taught}</answer>"
    assert target(PROMPTS["bare"], sample, "r") == f"<think>r</think><answer>{taught}</answer>"


def test_ours_ask_for_a_letter_where_options_are_listed():
    listed = replace(SAMPLE, options=("Yes", "No"), answer_type="yes_no")
    for sample in (SAMPLE, listed):
        assert render(PROMPTS["nothink"], sample).endswith(
            "\n\nLook at the image and write the letter of the right option, and nothing else, inside "
            "<answer>...</answer>."
        )
        assert "Then write the letter of the right option, and nothing else, inside" in render(PROMPTS["think"], sample)
    assert all(("{Answer}" in template.text) <= template.any_answer for template in PROMPTS.values())


def test_the_card_of_med_r1_shows_the_problem_as_its_record_wrote_it(real_data: Path):
    template = PROMPTS["med-r1/readme"]
    cases = real_data / "medvlm_r1" / "cases.json"
    records = json.loads(cases.read_text("utf-8"))
    samples = list(read_source(cases))
    assert [render(template, sample) for sample in samples] == [
        template.text.replace("{Question}", record["problem"]) for record in records
    ]
    assert len(samples) == 12
    swapped = replace(samples[0], options=samples[0].options[::-1])
    assert "\nA) Skin tissue\n" in render(template, swapped), "the layout stays, the options are the sample's"


def test_the_card_shows_problems_of_its_own_records_in_one_sentence(tmp_path: Path):
    record = {"image": "Images/MIAS/a.png", "problem": "Which? A)CT, B)MRI", "solution": "<answer> B </answer>"}
    (tmp_path / "X-Ray_test.json").write_text(json.dumps([record]))
    (sample,) = read_source(tmp_path / "X-Ray_test.json")
    assert render(PROMPTS["med-r1/readme"], sample).startswith("Which? A)CT, B)MRI First output")
    assert render(PROMPTS["medvlm-r1/complex"], sample).startswith("\n    Which?\nA) CT\nB) MRI \n    Your task")
    assert render(PROMPTS["med-r1/readme"], SAMPLE).startswith("What is shown? A)CT, B)Breast tissue First")


def test_the_words_are_those_of_the_commit_before_they_became_data():
    texts = [
        [t.name, t.text, t.system, t.answer_format, t.protocol, t.image_first, t.any_answer] for t in PROMPTS.values()
    ]
    assert short_hash(texts) == "1f20df8f4fa20c46"
