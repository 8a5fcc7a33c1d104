r"""Our reading, shared by rewards and evaluation: which option an answer names.

Read: a letter (`B`, `b`, `(B)`, `B.`, `**B**`, `Ｂ`, `【B】`, `\boxed{B}`, `<|begin_of_box|>B<|end_of_box|>`), words
that announce or confirm it (`words/lead_ins.tsv`: "The answer is B", "答案：B", "选B", "B is correct", "B项正确"), the
text of an option, or both where they agree: `B) Breast tissue`, `B) MRI (magnetic resonance imaging)` for MRI,
`B、乳腺组织` for 乳腺组织.

Not read, on purpose:

- a letter with anything but its own text behind it ("A lesion", "B because …"): an article looks like a letter. Where
  the letter is marked as one ("B. Lung"), or the text is another option's ("C mass"), that is a contradiction. A text
  in another script than all the options ("B、肺" where they are English) contradicts none of them: its letter counts;
- a part of an option's text, or more than it ("No" for "No diabetic retinopathy");
- letters of other alphabets that look like Latin ones (Cyrillic `В`): guessing across alphabets would have no end.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from medr1.answers.tags import AnswerFormat, answer_block, boxed_answer, outside_thinking
from medr1.answers.wording import DENIALS, mentioned, plain_words, words_of
from medr1.types import LETTERS, ParsedAnswer, ParseStatus, Sample

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}
"""Letters and signs of East Asian width, and what they are in ASCII."""
_SURROUNDING = " \t\r\n.,;:!?\"'`()[]{}*_$“”‘’。，、；：！？（）｡·…【】「」『』〔〕〖〗《》〈〉"
"""Punctuation that carries no meaning around an answer. Signs (+ - < > % =) stay: they may be all that differs."""
_SPECIAL = re.compile(r"<\|[^<>|\n]{1,40}\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>")
"""Control tokens that a server left in the text, such as those of a box or of the end."""
_LATEX = re.compile(
    r"(?:\\*\b(?:boxed|fbox|framebox)|\x08oxed|\\(?:text(?:bf|rm|sf|tt|it)?|math(?:rm|bf|sf|it)|bm|bf))\s*\{([^{}]*)\}"
)
_LATEX_DEPTH = 4
"""Nested commands that are unwrapped. Without a bound, a completion that repeats one of them takes seconds to read."""
_LATEX_MODE = re.compile(r"\\[()\[\]]")
_LETTER_AND_TEXT = re.compile(
    rf"(?P<letter>[A-Za-z])(?P<between>\s+[-–—]\s+|[\s).:,;\]、】」』〕》]+|(?=[{_CJK}]))(?P<text>\S.*)"
)
_MARKED_LETTER = re.compile(r"(?P<letter>[A-Za-z])\s*[).:\]、】」』〕》]")
_BETWEEN_ANSWERS = re.compile(r"[,;/&\n、]|\b(?:or|and)\b|[或和及与]", re.IGNORECASE)
_LONE_CAPITAL = re.compile(rf"(?:(?<![\w'])|(?<=[{_CJK}]))[A-Z](?:(?![\w'])|(?=[{_CJK}]))")
_WITH_ASIDE = re.compile(r"(?P<main>[^()\[\]]+?)\s*[(\[](?P<aside>[^()\[\]]+)[)\]]?")
_DENIED = re.compile("[不非没無无]")
LONGEST_CONFIRMED = 300
"""Characters up to which a text may be an answer with a confirmation behind it ("B is correct")."""
_ARTICLE = re.compile(r"(?:the|an?)\s+")

_NOT_AN_OPTION = ParsedAnswer(None, ParseStatus.NOT_AN_OPTION)
_SEVERAL_LETTERS = ParsedAnswer(None, ParseStatus.SEVERAL_LETTERS)
_CONTRADICTION = ParsedAnswer(None, ParseStatus.CONTRADICTION)


def _around_a_letter() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What announces an answer at the beginning of a text, and what confirms it at the end."""

    def en(part: str) -> str:
        words = words_of("lead_ins", script="latin", part=part)
        return "(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words) + r")\b"

    def cjk(part: str) -> str:
        return "(?:" + "|".join(words_of("lead_ins", script="cjk", part=part)) + r")\s*"

    colon = r"[\"']?\s*[:=]?\s*"
    before = (
        rf"(?:{en('opening')},?\s+)?(?:{en('owner')}\s+)?(?:{en('quality')}\s+)?{en('noun')}(?:\s+{en('verb')})?{colon}"
        rf"(?:\b{en('noun')})?\s*"
        rf"|(?:{en('opening')},?\s+)?(?:i\s+)?(?:would\s+|will\s+)?{en('choose')}\s*(?:{en('owner')}\s+)?"
        rf"(?:{en('noun')}\s*)?{colon}"
        rf"|(?:{cjk('opening')}[,:]?\s*)?(?:{cjk('owner')})?(?:{cjk('quality')})?"
        rf"(?:{cjk('noun')}(?:{cjk('verb')})?|{cjk('choose')}){colon}(?:{cjk('noun')})?"
    )
    after = (
        rf"\s+{en('verb')}\s+(?:{en('owner')}\s+)?{en('quality')}(?:\s+{en('noun')})?"
        rf"|\s*(?:{cjk('suffix')})?(?:{cjk('verb')})?{cjk('right')}|\s*{cjk('suffix')}"
    )
    return re.compile(before, re.IGNORECASE), re.compile(rf"(?P<rest>.+?)(?:{after})", re.IGNORECASE | re.DOTALL)


_LEAD_IN, _LED_OUT = _around_a_letter()


def option_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The letters of a question's options: `("A", "B")` for two."""
    return tuple(LETTERS[: len(options)])


def normalise(text: str) -> str:
    """Text by which answers and options are compared: case, white space, markup and surrounding punctuation are gone.

    >>> normalise("**No**  diabetic retinopathy."), normalise("磁共振 ＭＲＩ。")
    ('no diabetic retinopathy', '磁共振 mri')
    """
    return _folded(_without_markup(text))


_normalised = lru_cache(maxsize=2**16)(normalise)
"""For options, which come again and again."""


def _folded(text: str) -> str:
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    # Nothing but punctuation is kept as it is: "!" and "?" may be the options.
    return (plain.strip(_SURROUNDING) or plain).casefold()


def read_answer(text: str, options: Sequence[str]) -> ParsedAnswer:
    """The option that an answer names; the letter is one of the question's own, or None.

    >>> read_answer("B) Breast tissue", ["CT", "Breast tissue"])
    ParsedAnswer(letter='B', status=<ParseStatus.OK: 'ok'>)
    """
    if not text.strip():
        return ParsedAnswer(None, ParseStatus.EMPTY)
    letters, texts = option_letters(options), [_normalised(option) for option in options]
    text = _without_markup(text)
    bare = without_lead_in(text)
    for form in dict.fromkeys((text, bare, _without_lead_out(text), _without_lead_out(bare))):
        answer = _read_one(form, letters, texts)
        if answer is not _NOT_AN_OPTION:
            return answer
    if len(_named(bare, letters, texts)) > 1:
        return _SEVERAL_LETTERS
    marked = _MARKED_LETTER.match(bare.strip(_SURROUNDING))
    return _CONTRADICTION if marked and marked["letter"].upper() in letters else _NOT_AN_OPTION


def without_lead_in(text: str) -> str:
    """The text without words that only announce it.

    >>> without_lead_in("The answer is pneumonia."), without_lead_in("答案：是。")
    ('pneumonia', '是')
    """
    stripped = (text if text.isascii() else text.translate(_FULL_WIDTH)).strip(_SURROUNDING)
    lead_in = _LEAD_IN.match(stripped)
    return stripped[lead_in.end() :] if lead_in else text


def _without_lead_out(text: str) -> str:
    stripped = text.strip(_SURROUNDING)
    led_out = _LED_OUT.fullmatch(stripped) if len(stripped) <= LONGEST_CONFIRMED else None
    return led_out["rest"] if led_out else text


def _read_one(text: str, letters: Sequence[str], texts: Sequence[str]) -> ParsedAnswer:
    """Read a text that should name one option and nothing else; `texts` are the options, normalised."""
    bare = text.strip(_SURROUNDING)
    if len(bare) == 1:
        bare = unicodedata.normalize("NFKC", bare).strip(_SURROUNDING)  # Ⓑ, 𝐁
    if len(bare) == 1 and bare.isascii() and bare.upper() in letters:
        return ParsedAnswer(bare.upper(), ParseStatus.OK)  # before the texts: prompts ask for a letter
    key = _folded(text)
    same_text = [letter for letter, option in zip(letters, texts, strict=False) if option == key and key]
    if same_text:
        return ParsedAnswer(same_text[0], ParseStatus.OK) if len(same_text) == 1 else _SEVERAL_LETTERS
    return _read_letter_and_text(bare, letters, texts)


def _read_letter_and_text(text: str, letters: Sequence[str], texts: Sequence[str]) -> ParsedAnswer:
    """Read "B. Breast tissue": the letter counts only beside its own text."""
    parts = _LETTER_AND_TEXT.fullmatch(" ".join(text.split()))
    if parts is None or parts["letter"].upper() not in letters:
        return _NOT_AN_OPTION
    letter, beside = parts["letter"].upper(), _folded(parts["text"])
    own = texts[letters.index(letter)]
    if own == beside:
        return ParsedAnswer(letter, ParseStatus.OK)
    is_article = letter == "A" and parts["between"] != "" and not parts["between"].strip()
    if beside in texts:
        return _NOT_AN_OPTION if is_article else _CONTRADICTION
    agreeing = [text for text in texts if _agrees(beside, text)]
    is_hedged = bool(mentioned(beside, [plain_words(text) for text in texts]) - {letters.index(letter)})
    if agreeing == [own] and not is_article and not is_hedged:
        return ParsedAnswer(letter, ParseStatus.OK)
    is_marked = parts["between"] == "" or bool(parts["between"].strip())
    scripts = _scripts(beside)
    if is_marked and not agreeing and scripts and all(scripts.isdisjoint(_scripts(text) or scripts) for text in texts):
        return ParsedAnswer(letter, ParseStatus.OK)
    return _NOT_AN_OPTION


def _agrees(said: str, option: str) -> bool:
    """Whether two texts, normalised, are the same but for an article, a remark in brackets or an abbreviation.

    `mri (magnetic resonance imaging)`, `the mri` and `magnetic resonance imaging` agree with `mri`; `mri (not ct)`
    does not.
    """
    said = said[article.end() :] if (article := _ARTICLE.match(said)) else said
    if said == option or _abbreviates(said, option) or _abbreviates(option, said):
        return True
    names, others = _names(said), _names(option)
    if len(names) > 1 and len(others) > 1:
        return set(names) == set(others)
    return option in names or said in others


def _names(text: str) -> tuple[str, ...]:
    """What a text is called: itself, or of "name (remark)" the name, and the remark where one abbreviates the other."""
    parts = _WITH_ASIDE.fullmatch(text)
    if parts is None or _DENIED.match(parts["aside"]) or not DENIALS.isdisjoint(plain_words(parts["aside"]).split()):
        return (text,)
    main, aside = normalise(parts["main"]), normalise(parts["aside"])
    return (main, aside) if _abbreviates(main, aside) or _abbreviates(aside, main) else (main,)


def _abbreviates(short: str, long: str) -> bool:
    """Whether a word is made of the initials of several: mri, magnetic resonance imaging."""
    words = plain_words(long).split()
    return len(words) > 1 and short.isalpha() and short == "".join(word[0] for word in words)


def _scripts(text: str) -> set[str]:
    found = {"cjk"} if re.search(f"[{_CJK}]", text) else set[str]()
    return found | {"latin"} if re.search("[a-z]", text) else found


def _named(text: str, letters: Sequence[str], texts: Sequence[str]) -> set[str]:
    """Every option that the text mentions, as a lone capital or as one member of a list."""
    members = {_read_one(member, letters, texts).letter for member in _BETWEEN_ANSWERS.split(text)}
    capitals = set(_LONE_CAPITAL.findall(text)) & set(letters)
    return capitals | {letter for letter in members if letter}


def _without_markup(text: str) -> str:
    """ASCII for full width, and no Markdown emphasis, control tokens or LaTeX commands that only wrap an answer."""
    text = text if text.isascii() else text.translate(_FULL_WIDTH)
    text = _SPECIAL.sub("", text) if "<" in text else text
    text = text.replace("*", "").replace("`", "")
    for _ in range(_LATEX_DEPTH if "{" in text else 0):
        text = _LATEX.sub(r"\1", text)
    return _LATEX_MODE.sub("", text) if "\\" in text else text


def parse_answer(completion: str, sample: Sample, answer_format: AnswerFormat = "think") -> ParsedAnswer:
    """Read a completion; the letter is one of the question's options, or None with the reason as status.

    Thinking is removed first, so an answer inside it never counts. `think` and `nothink` are read alike: whether the
    thinking is there is a matter of the format reward. With `letter` the whole rest is the answer where there are no
    answer tags.

    >>> from medr1.types import Sample
    >>> sample = Sample(id="1", images=(), question="What is shown?", options=("CT", "Breast tissue"), answer_index=1)
    >>> parse_answer("<think>A?</think><answer>B. Breast tissue</answer>", sample).letter
    'B'
    """
    body, status = answer_text(completion, answer_format)
    return read_answer(body, sample.options) if status is ParseStatus.OK else ParsedAnswer(None, status)


def answer_text(completion: str, answer_format: AnswerFormat = "think") -> tuple[str, ParseStatus]:
    """What a completion gives as its one answer, whatever kind of answer that is, and `OK`; or why there is none.

    >>> answer_text("<think>About 12.</think><answer> 12.5 </answer>")
    ('12.5', <ParseStatus.OK: 'ok'>)
    """
    if not completion.strip():
        return "", ParseStatus.EMPTY
    rest = outside_thinking(completion)
    if rest is None:
        return "", ParseStatus.TRUNCATED
    body, status = answer_block(rest)
    if status is ParseStatus.MISSING_TAG and answer_format == "letter":
        return boxed_answer(rest) or rest, ParseStatus.OK
    return body, status
