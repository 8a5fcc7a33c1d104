"""Medical pictures drawn by a procedure, with questions whose answers are known.

Eight modalities with two anatomies each, four kinds of lesions: enough to learn to see from, and built so that neither
the words of a question nor the colours of a picture give the answer away.
"""

from medr1.data.phantom.generate import SIDE, Phantom, bulk, draw, generate, phantom
from medr1.data.phantom.nuisance import NUISANCE, NuisanceRange
from medr1.data.phantom.questions import QUESTIONS, QuestionKind
from medr1.data.phantom.state import PhantomState
from medr1.data.phantom.write import contact_sheet, write_phantoms

__all__ = [
    "NUISANCE",
    "QUESTIONS",
    "SIDE",
    "NuisanceRange",
    "Phantom",
    "PhantomState",
    "QuestionKind",
    "bulk",
    "contact_sheet",
    "draw",
    "generate",
    "phantom",
    "write_phantoms",
]
