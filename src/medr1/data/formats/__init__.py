"""The formats that are read: plain rows by a table of their fields, and a file for each kind of odd ones.

rows.py           one field a fact: the hub's question sets, VLMEvalKit's tables, and your own data
seeds.py          the record files of Med-R1, MedVLM-R1 and MedVLM-R1's training data, which are written back too
conversations.py  question, options and answer in the turns of a conversation
chest_xray14.py   a table of findings
class_folders.py  folders of images
"""

from medr1.data.formats import chest_xray14, class_folders
from medr1.data.formats.conversations import LLAVA, PUBMEDVISION, TRL
from medr1.data.formats.rows import HUB, OWN, VLMEVALKIT
from medr1.data.formats.seeds import HUATUO, MED_R1, MEDVLM_R1
from medr1.data.source import Source

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(MED_R1, MEDVLM_R1, HUATUO, PUBMEDVISION, *HUB, chest_xray14.SOURCE),
        *(TRL, LLAVA, VLMEVALKIT, *OWN, class_folders.SOURCE),
    )
}
"""Source formats by name, the most particular first: detection takes the first that fits."""
