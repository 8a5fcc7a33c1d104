"""The only code that turns a completion into an answer.

tags.py            where thinking and answer stand
default.py         our reading, shared by rewards and evaluation: which option an answer names
without_options.py what an answer says where it is yes or no, a number, several labels or free text
wording.py         what a text names, and which option a thinking comes to
refusal.py         whether a completion refuses to answer
protocols/         the rules of the published systems and of the evaluation kits, as they are
"""

from medr1.answers.default import parse_answer
from medr1.answers.protocols import GUESSING, OPEN_PROTOCOLS, PROTOCOLS, YES_NO_ONLY, OpenProtocol, Protocol, applies
from medr1.answers.refusal import is_refusal
from medr1.answers.tags import AnswerFormat

__all__ = [
    "GUESSING",
    "OPEN_PROTOCOLS",
    "PROTOCOLS",
    "YES_NO_ONLY",
    "AnswerFormat",
    "OpenProtocol",
    "Protocol",
    "applies",
    "is_refusal",
    "parse_answer",
]
