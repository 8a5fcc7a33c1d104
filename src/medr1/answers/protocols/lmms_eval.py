"""lmms-eval (EvolvingLMMs-Lab/lmms-eval, commit 75571cf): the rules of its tasks, after its removal of reasoning.

`mmmu` and `medqa` draw an option at random where they find none; here that is unreadable. `mmmu` takes any capital
before a space ("MRA of" is A), `medqa` misses a letter on a last line of its own, `mcq` knows no words ("The answer is
CT" is C, a sentence that begins with "A" is A), and `slake` takes "abnormal" (异常) for no and "(B)" for nothing.

Not built: its open questions of MMMU, which by a slip compare single characters and are never right, and its judges.
"""

import re
import string
from collections.abc import Sequence

from medr1.answers.default import option_letters
from medr1.answers.protocols.kit import Candidates, latest_letter, single_pass_strip

REASONING = (("<think>", "</think>"), ("<analysis>", "</analysis>"))
PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
FORMS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
"""Forms of a letter in `mcq` and how much each counts; a start counts 10, an end 9, a phrase 7."""
YES = frozenset({"yes", "yeah", "yep", "true", "是", "是的", "有", "包含", "可以", "能", "会", "正常"})
NO = frozenset(
    {"no", "nope", "false", "否", "不是", "没有", "无", "不包含", "不能", "不会", "不可以", "不正常", "异常"}
)
_FULL_WIDTH = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》【】"
_TO_SPACES = str.maketrans(dict.fromkeys(string.punctuation + _FULL_WIDTH, " "))


def without_reasoning(completion: str) -> str:
    """The completion without its closed reasoning blocks.

    A closing tag alone drops all before it; an opening tag alone stays.
    """
    for opening, closing in REASONING:
        completion = re.sub(f"{opening}.*?{closing}", "", completion, flags=re.DOTALL)
        completion = completion.rpartition(closing)[2]
    return completion.strip()


def mmmu(completion: str, options: Sequence[str]) -> str | None:
    """Its MMMU tasks; None is where it draws an option at random."""
    text = _padded(completion)
    forms = (Candidates("({})", decided_by="({})"), Candidates("{} "), Candidates("{}."))
    return latest_letter(text, options, forms, by_text=True)


def medqa(completion: str, options: Sequence[str]) -> str | None:
    """Its MedQA task; None is where it draws an option at random."""
    text = _padded(completion)
    return latest_letter(text, options, (Candidates("({})"), Candidates(" {} "), Candidates("{}.")), by_text=False)


def _padded(completion: str) -> str:
    return " " + single_pass_strip(without_reasoning(completion), ",.!?;:'") + " "


def mcq(completion: str, options: Sequence[str]) -> str | None:
    """Its generic multiple choice: the form that counts most, and of equal ones the last."""
    bare = single_pass_strip(without_reasoning(completion), ",.!?;:'\"")
    text, letters = f" {bare} ", option_letters(options)
    found: list[tuple[int, int, str]] = [
        (weight, text.rfind(form.format(letter)), letter) for form, weight in FORMS for letter in letters
    ]
    starts = [text.lower().find(phrase) + len(phrase) for phrase in PHRASES if phrase in text.lower()]
    found += [(7, text.find(letter, start), letter) for start in starts for letter in letters]
    bare = bare.strip()
    found += [(10, 0, letter) for letter in letters if bare.startswith(letter) and not bare[1:2].isalpha()]
    found += [(9, 0, letter) for letter in letters if bare.endswith(letter) and not bare[-2:-1].isalpha()]
    placed = [candidate for candidate in found if candidate[1] >= 0]
    placed = placed or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(placed)[2] if placed else None


def slake(completion: str, options: Sequence[str]) -> str | None:
    """Its SLAKE tasks: the text equals an option after `normalise`."""
    said = normalise(without_reasoning(completion))
    return next((a for a, text in zip(option_letters(options), options, strict=False) if normalise(text) == said), None)


def slake_match(completion: str, answer: str) -> bool:
    """The same rule for an open question."""
    return normalise(without_reasoning(completion)) == normalise(answer)


def normalise(text: str) -> str:
    """Lower case without brackets and their content, without punctuation; whole yes and no words become one.

    >>> normalise("Left Lung (inferior lobe)."), normalise("X-Ray"), normalise("没有")
    ('left lung', 'xray', 'no')
    """
    text = re.sub(r"\([^)]*\)|（[^）]*）", " ", text.strip().lower())
    text = " ".join(text.translate(_TO_SPACES).split())
    if text in YES:
        return "yes"
    if text in NO:
        return "no"
    return "xray" if text == "x ray" else text
