"""Every cell of the matrices that were measured by running the kits' own functions, one table of completions each.

A cell is the letter that is read and whether it is right: `B+`, `A-`; `?-` nothing, `err` a failure of the kit, `RND`
an option at random, `raw-` the whole text; of MediX-R1 `1`, `0`, and `J` for what its judge decides.
"""

import json
from pathlib import Path

import pytest

from medr1.answers import GUESSING, OPEN_PROTOCOLS, PROTOCOLS, applies
from medr1.answers.protocols import medevalkit, peers
from medr1.answers.protocols.kit import most_similar
from medr1.types import ParseStatus, Sample

TABLES = Path(__file__).resolve().parents[1] / "assets" / "protocols"
NAMES = {
    "MEK": "medevalkit@9b12e3b/A.text",
    "MEKb": "medevalkit@9b12e3b/text",
    "MEKM": "medevalkit-mmmu@9b12e3b",
    "MEKJ": "medevalkit-judgement@9b12e3b",
    "MEKC": "medevalkit-closed@9b12e3b",
    "VLM": "vlmevalkit-exact@e8e78f0",
    "VLMv": "vlmevalkit-exact@e8e78f0/verbose",
    "VLYN": "vlmevalkit-yorn@e8e78f0",
    "LMM": "lmms-mmmu@75571cf",
    "LMX": "lmms-mcq@75571cf",
    "LMQ": "lmms-medqa@75571cf",
    "LMS": "lmms-slake@75571cf",
    "OQ": "omnimedvqa-qa@bd2999a",
    "OQF": "omnimedvqa-qa@bd2999a/med-flamingo",
    "OQV": "omnimedvqa-qa@bd2999a/medvint",
    "MVT": "medvlthinker@a3163b1",
    "MVG": "medvlthinker-regrade@a3163b1",
    "MVL": "medvlthinker-regrade@a3163b1/llava-med",
    "ADV": "advmed-r1",
    "R1": "med-r1/think",
    "R1N": "med-r1/nothink",
}
QUESTIONS = {
    "four_options": ("CT", "Breast tissue", "MRI", "X-ray"),
    "two_options": ("Benign", "Malignant"),
    "yes_no": ("Yes", "No"),
}


def rows(table: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (TABLES / f"{table}.jsonl").read_text("utf-8").splitlines()]


def question(options: tuple[str, ...], gold: int = 1) -> Sample:
    return Sample(id="1", images=(), question="What is shown?", options=options, answer_index=gold)


CELLS = [
    pytest.param(table, protocol, row["completion"], row[protocol], id=f"{table}-{protocol}-{number}")
    for table in QUESTIONS
    for number, row in enumerate(rows(table), start=1)
    for protocol in row
    if protocol not in ("completion", "MDX")
]


def test_the_tables_are_whole() -> None:
    assert [len(rows(table)) for table in (*QUESTIONS, "open")] == [57, 15, 29, 16]
    assert {cell.values[1] for cell in CELLS} == NAMES.keys()
    assert len(CELLS) == 57 * 17 + 15 * 10 + 29 * 10


@pytest.mark.parametrize(("table", "protocol", "completion", "cell"), CELLS)
def test_a_cell(table: str, protocol: str, completion: str, cell: str) -> None:
    sample = question(QUESTIONS[table])
    parsed = PROTOCOLS[NAMES[protocol]](completion, sample)
    assert applies(NAMES[protocol], sample)
    assert (parsed.letter == sample.gold) is cell.endswith("+")
    if cell == "RND":
        assert parsed.letter is None
        assert NAMES[protocol] in GUESSING
    elif cell in ("?-", "err"):
        assert parsed.letter is None
    elif cell == "raw-":
        assert parsed.status is not ParseStatus.OK or parsed.letter != sample.gold
    elif cell[0] in "ABCDZ":
        assert parsed.letter == cell[:-1]


@pytest.mark.parametrize("row", rows("four_options") + rows("two_options") + rows("yes_no"), ids=str)
def test_medix_r1_where_no_judge_is_needed(row: dict[str, str]) -> None:
    table = {"MEKb": "four_options", "MEKJ": "yes_no"}
    options = QUESTIONS[next((table[name] for name in table if name in row), "two_options")]
    gold = "no" if options == ("Yes", "No") else options[1]  # there it is a free text in lower case
    verdicts = {"1": "right", "0": "refused", "J": "judged"}
    assert peers.medix_r1_verdict(row["completion"], gold) == verdicts[row["MDX"]]
    sample = question((options[0], gold, *options[2:]))
    assert (PROTOCOLS["medix-r1-reward@94fd018"](row["completion"], sample).letter == "B") is (row["MDX"] == "1")


@pytest.mark.parametrize("row", rows("open"), ids=lambda row: row["completion"])
def test_open_questions(row: dict[str, str]) -> None:
    columns = {
        "MEK EM": "medevalkit-em@9b12e3b",
        "LMS": "lmms-slake@75571cf",
        "official MMMU": "mmmu-open",
        "MVT": "medvlthinker@a3163b1",
    }
    for column, name in columns.items():
        assert OPEN_PROTOCOLS[name](row["completion"], "Left lung") == (row[column] == "+"), name
    assert OPEN_PROTOCOLS["medix-r1-reward@94fd018"](row["completion"], "Left lung") == (row["MDX"] == "1")
    expected = (0, 0, 0) if row["MEK (F1,P,R)"] == "EXC" else tuple(json.loads(f"[{row['MEK (F1,P,R)'][1:-1]}]"))
    assert medevalkit.token_f1(row["completion"], "Left lung") == pytest.approx(expected, abs=0.005)
    assert OPEN_PROTOCOLS["medevalkit-f1@9b12e3b"](row["completion"], "Left lung") == pytest.approx(
        expected[0], abs=0.005
    )


@pytest.mark.parametrize("answer", ["5", "5.0", "C", "x"])
def test_short_open_answers_by_mmmus_own_rule(answer: str) -> None:
    assert OPEN_PROTOCOLS["mmmu-open"](answer, answer) == 1
    assert OPEN_PROTOCOLS["mmmu-open"]("The result is " + answer, answer) == 1
    assert OPEN_PROTOCOLS["mmmu-open"]("7", answer) == 0


@pytest.mark.parametrize("answer", ["C", "x"])
def test_a_letter_inside_a_word_is_no_answer_to_an_open_question(answer: str) -> None:
    assert OPEN_PROTOCOLS["mmmu-open"](f"a fo{answer}", answer) == 0


def test_mmmus_own_rule_takes_the_shortest_end_of_a_sentence() -> None:
    assert OPEN_PROTOCOLS["mmmu-open"]("It is the left lung.", "left lung") == 1
    assert OPEN_PROTOCOLS["mmmu-open"]("It is left lung, so large", "left lung") == 0


def test_of_equal_options_the_gold_one_is_accepted() -> None:
    assert PROTOCOLS[NAMES["MVT"]]("CT", question(("CT", "CT"))).letter == "B"
    assert PROTOCOLS[NAMES["MVT"]]("CT", question(("CT", "CT"), gold=0)).letter == "A"


def test_the_first_of_equally_similar_options_wins() -> None:
    assert most_similar(["abx", "acb"], "abc") == 0  # both share two of three characters in order
    assert most_similar(["xyz"], "abc") is None


def test_both_words_are_no_judgement() -> None:
    assert PROTOCOLS[NAMES["MEKJ"]]("yes and no", question(("Yes", "No"))).letter is None
    assert PROTOCOLS[NAMES["VLYN"]]("yes and no", question(("Yes", "No"))).letter is None


def test_protocols_for_yes_and_no_do_not_apply_elsewhere() -> None:
    assert not applies(NAMES["MEKJ"], question(("CT", "MRI")))
    assert not applies(NAMES["VLYN"], question(("Yes", "No", "Maybe")))
    assert applies(NAMES["VLYN"], question(("No.", "Yes.")))


@pytest.mark.parametrize(
    ("protocol", "completion", "letter"),
    [
        # Two paragraphs: the first wins over the last, and only a letter that the question has counts.
        ("MEK", "C\n\nB", "C"),
        ("MEK", "E\n\nC. CT", "C"),
        ("MEK", r"\boxed{}", "A"),
        ("MEK", "It must be:D", "D"),
        # A box that is not closed reads "None", which the longest option attracts.
        ("MEK", r"\boxed{C", "B"),
        ("MEKM", "<answer>(A) or (C)</answer>", "C"),
        ("VLM", "A. I can't process this file.", "Z"),
        ("VLM", "Failed to obtain answer via API, MRI", "C"),
        ("VLM", "A B C no Z", "Z"),
        ("VLM", "A B Z CT", "A"),
        ("VLM", "The answer is d", "D"),
        ("VLMv", "the A is here, so C", "Z"),
        ("LMM", "<analysis>(A)</analysis> (B) (C)", "C"),
        ("LMM", "x</think>so A </think>D", "D"),
        ("OQV", "D", "D"),
        ("LMQ", "(A) (C)", "A"),
        ("LMX", "I pick A or C it is", "C"),
        ("MVG", "<answer>\n\nC\nB</answer>", "C"),
        ("MVT", "<answer>C. mri</answer><answer>B</answer>", "C"),
    ],
)
def test_steps_that_no_measured_row_reaches(protocol: str, completion: str, letter: str) -> None:
    assert PROTOCOLS[NAMES[protocol]](completion, question(QUESTIONS["four_options"])).letter == letter
