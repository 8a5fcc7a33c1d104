"""When two answers may not stand side by side: because they say the same, or because one of them implies the other.

Rules come first (the words of one answer are among those of the other), and a short list holds what rules cannot know.
The list was written from the answers of the public data sets; a pair in it is a claim that a reader can check.
"""

import re
from functools import cache

from medr1.answers.wording import plain_words

NO_ABNORMALITY = "No abnormality"

_SAME_WORDS = (
    ("finding", "abnormality abnormalities pathology pathologies pathlogy pathological anomaly anomalies irregularity "
     "irregularities abnormal lesion lesions findings irregular unusual aberration aberrations deviation deviations "
     "atypical anomalous disease diseases illness illnesses"),
    ("bone", "osseous bony bones"),
    ("cartilage", "chondral"),
    ("kidney", "renal kidneys"),
    ("liver", "hepatic"),
    ("lung", "lungs pulmonary chest thorax"),
    ("edema", "oedema swelling"),
    ("nevus", "naevus nevi"),
    ("cancer", "carcinoma carcinomas cancerous malignancy malignancies"),
    ("malignant", "malignantly"),
    ("inflammation", "inflammatory"),
    ("cell", "cells"),
    ("lymphocyte", "lymphocytes"),
)  # fmt: skip
WORD = {word: name for name, words in _SAME_WORDS for word in words.split()}
"""Words that name the same thing in this field's answers."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILLERS = _words(
    "a an and appear appears are as at be been by can condition depicted detected due from has have image images in "
    "indicates is it its observed of on or patient picture present s scan seen show shows signs some that the there "
    "these this to type visible was were which with"
)
_NEGATIONS = _words("no not non without absent negative normal healthy free")

_TRUE_TOGETHER = (
    # A whole and what lies in it, an organ and its disease: an image of the second shows the first.
    ("uterus", "fibroid"), ("liver", "portal vein"), ("gallbladder", "gallstone"), ("chest", "lung"),
    ("skin", "nevus"), ("x ray", "mammography"),
    # A disease, its stages and its hallmarks.
    ("age related macular degeneration amd", "drusen", "choroidal neovascularization cnv"),
    ("diabetic retinopathy dr", "diabetic macular edema dme",
     "the image shows signs of damage to the blood vessels in the retina caused by diabetes",
     "the image displays swelling and fluid accumulation in the macula due to diabetic macular edema dme"),
    ("central serous retinopathy csr",
     "the condition is characterized by the accumulation of fluid in the central retina",
     "the image displays swelling and fluid accumulation in the macula due to diabetic macular edema dme"),
    ("macular hole mh", "macular hole", "there is a small hole in the macula which is the central part of the retina",
     "maculopathy"),
    ("covid 19", "covid 19 pneumonia", "viral pneumonia", "pneumonia", "covid lungs will be affected"),
    ("acute lymphoblastic leukemia", "hematologic malignancies"),
    ("nevus", "melanocytic nevus", "benign melanocyte"),
    ("seborrheic keratosis", "benign keratosis"),
    ("actinic keratosis", "squamous cell carcinoma"),
    ("malignant epidermal", "malignant cutaneous lymphoma"),
    # General names of findings beside particular ones.
    ("airspace opacity", "parenchyma destruction", "interstitial lung disease"),
    ("soft tissue fluid", "soft tissue edema", "soft tissue fluid collection"),
    ("bone inflammation", "osteomyelitis", "arthritis"),
    ("osseous disruption", "fracture"),
    ("post operative changes", "hardware", "prosthesis"),
)  # fmt: skip
TRUE_TOGETHER: frozenset[frozenset[str]] = frozenset(
    frozenset((one, other)) for group in _TRUE_TOGETHER for one in group for other in group if one != other
)
"""Pairs of answers of which one may be true where the other is, although their words do not tell."""

IMAGING: tuple[tuple[str, str], ...] = (
    (r"(chest )?x rays?( radiography)?|radiography|xray", "X-ray"),
    (r"mammograph?y|mammogram", "Mammography"),
    (r"(ct|computed tomography( ct)?|ct scan)", "Computed tomography (CT)"),
    (r"(mri|mr|magnetic resonance imaging( mri)?)", "Magnetic resonance imaging (MRI)"),
    (r"(ultrasound|ultrasonography)( imaging)?", "Ultrasound"),
    (r"(dermoscopy|dermoscopic imaging|dermatoscopy)", "Dermoscopy"),
    (r"(oct|optical coherence tomography( oct)?)", "Optical coherence tomography (OCT)"),
    (r".*\bfundus (imaging|photography)|retinal photography", "Fundus photography"),
    (r"(.*\b)?microscopy|histopathology|.*histological image", "Microscopy"),
)
"""Answers to the question for the imaging technique, and the one name that they all get."""

_NORMAL_ANSWERS = (
    r"(no )?(it s |its )?(a )?normal( image)?|no abnormality detected( normal)?|no abnormality|"
    r"no the image appears normal|no this is a normal chest x ray image|the lungs appear healthy and normal|"
    r"the diagnosis is normal lung|there are no specific abnormalities observed in this image|"
    r"in this image there are no apparent abnormalities it represents a normal or fundus of high myopia"
)
"""Answers that find nothing, to whatever question about the whole image."""


def imaging_technique(answer: str) -> str | None:
    """The one name of the imaging technique that an answer names, or None.

    >>> imaging_technique("Retinal Fundus imaging."), imaging_technique("Fundus of high myopia")
    ('Fundus photography', None)
    """
    plain = plain_words(answer)
    return next((name for pattern, name in IMAGING if re.fullmatch(pattern, plain)), None)


UNCLEAR_ANSWERS = frozenset({"intra"})
"""Answers, tidied, that say nothing: labels of a data set that never became a text."""


def finds_nothing(answer: str) -> bool:
    """Whether an answer says that the image as a whole is normal; a bare "No" depends on its question and does not."""
    return re.fullmatch(_NORMAL_ANSWERS, plain_words(answer)) is not None


@cache
def words_of(answer: str) -> tuple[frozenset[str], bool]:
    """The content words of an answer, synonyms made one, and whether it denies something."""
    words = [WORD.get(word, word) for word in plain_words(answer).split()]
    return frozenset(words) - _FILLERS - _NEGATIONS, not _NEGATIONS.isdisjoint(words)


@cache
def exclusive(one: str, other: str) -> bool:
    """Whether at most one of two answers can be right, as far as rules and list know.

    >>> exclusive("Thyroid", "Thyroid nodule"), exclusive("Bowel abnormality", "Bowel inflammation")
    (False, False)
    >>> exclusive("No diabetic retinopathy", "Mild diabetic retinopathy")
    True
    """
    if frozenset((plain_words(one), plain_words(other))) in TRUE_TOGETHER or _is_stage(one) != _is_stage(other):
        return False
    (words_one, denies_one), (words_other, denies_other) = words_of(one), words_of(other)
    if denies_one != denies_other:
        return True
    return not (_names(words_one) <= words_other or _names(words_other) <= words_one)


def _is_stage(answer: str) -> bool:
    """A stage is true beside a diagnosis, which never contradicts it."""
    return plain_words(answer).startswith("stage ")


def _names(words: frozenset[str]) -> frozenset[str]:
    """What another answer must name to be a case of this one: "bowel abnormality" includes "bowel inflammation"."""
    return words - {"finding"}


_POLAR_FILLERS = _FILLERS | _words(
    "able accurate afflicted any anything apparent associated based been being captured computed conclude concluded "
    "concerning consistent could considered contain corresponding ct demonstrate dermoscopic detect detectable "
    "detection determine determined diagnosis discernible display displayed displaying displays do does evidence "
    "evident everything exhibit features for found given identifiable identified identify if indicate indicated "
    "indicating indication indicative individual infected infection affected issue mr mri notable noted noticeable "
    "noticed observable observe obvious oct particular perceptible photo photograph portray possible presence "
    "problem provide provided ray represent reveal say see showing shown sign specific spotted subject suffering "
    "suggest suggested suggesting suggestive suggests support symptoms tomography ultrasound visibly visual we would x "
    "you according linked related depict"
)
_ABNORMAL_PHRASES = re.compile(r"\bout of the ordinary\b|\bdeviat\w+ from (the |what is )?norm\w*", re.IGNORECASE)


def topic(question: str) -> str:
    """What a yes/no question asks about: its content words in order of the alphabet, negations kept.

    >>> topic("Does this CT image show any irregularities?"), topic("Is there anything out of the ordinary?")
    ('finding', 'finding')
    """
    words = plain_words(_ABNORMAL_PHRASES.sub("abnormality", question)).split()
    return " ".join(sorted({WORD.get(word, word) for word in words} - _POLAR_FILLERS))


def tidy(answer: str) -> str:
    """An answer without what betrays it: outer space, underscores, a closing full stop, a small first letter, a "No, ".

    >>> tidy(" x_ray."), tidy("No, the tail appears to be normal")
    ('X ray', 'The tail appears to be normal')
    """
    text = " ".join(answer.replace("_", " ").split()).rstrip(".").rstrip()
    text = re.sub(r"^(yes|no), (?=\w)|(?<=\w) type of radimagenet dataset$", "", text, flags=re.IGNORECASE)
    return text[:1].upper() + text[1:]
