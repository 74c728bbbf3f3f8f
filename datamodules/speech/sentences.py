"""What is said in the spoken sentences, and who says it: three parts that share neither a sentence nor a speaker."""

import hashlib
import re
from typing import NamedTuple

import numpy as np

from datamodules.base import Split

LENGTHS = (2, 8)
"""Fewest and most words of a sentence."""

WORDS: dict[str, str] = {
    "DIGIT": "zero one two three four five six seven eight nine",
    "ONE": "one two three four five six seven eight nine",
    "NUMBER": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "TENS": "twenty thirty forty fifty sixty seventy eighty ninety hundred",
    "COLOUR": "red green blue yellow black white orange purple brown pink grey silver golden violet",
    "NAME": "anna ben clara david emma frank grace henry ivan julia kevin laura martin nora oscar paula robert sarah"
    " thomas victor wendy simon peter maria lucas helen george alice daniel sophie",
    "DO": "open shut find move bring take show paint clean hide lift push pull carry catch drop sell fix",
    "DOES": "opens finds wants needs likes sees keeps loses paints sells",
    "SWITCH": "turn switch",
    "STATE": "on off up down",
    "DEVICE": "light lamp radio heater fan camera music screen phone clock alarm",
    "THING": "book box cup bottle chair table door window key knife letter basket hat coat shirt shoe bag ball spoon"
    " plate pencil ticket map",
    "THINGS": "apples coins stones flowers potatoes lemons candles pictures",
    "ANIMAL": "dog cat horse bird mouse rabbit tiger lion duck sheep snake",
    "PLACE": "kitchen garden bathroom office garage bedroom cellar market station school river bridge",
    "WHERE": "in under behind near from",
    "WHOSE": "the my your this every",
    "SIZE": "big small old new heavy empty broken warm",
    "DAY": "monday tuesday wednesday thursday friday saturday sunday today tomorrow",
    "TIME": "morning evening afternoon midnight",
    "TALK": "call tell wake ask help",
}
"""The words by what they may stand for. No two sound alike in any accent, as `two` and `to` would in each."""

TEMPLATES = (
    "DIGIT DIGIT [DIGIT] [DIGIT] [DIGIT] [DIGIT] [DIGIT] [DIGIT]",
    "dial DIGIT DIGIT DIGIT [DIGIT] [DIGIT] [DIGIT]",
    "[please] SWITCH STATE WHOSE [COLOUR] DEVICE",
    "SWITCH STATE the DEVICE [WHERE the PLACE]",
    "set the DEVICE at TENS [ONE] percent",
    "[please] DO WHOSE [SIZE] [COLOUR] THING",
    "[NAME] DO the [COLOUR] THING WHERE WHOSE PLACE",
    "NAME DOES NUMBER [SIZE] [COLOUR] THINGS",
    "NAME and NAME DO TENS ONE THINGS",
    "NAME DOES [NAME and] WHOSE [COLOUR] ANIMAL",
    "WHOSE [SIZE] ANIMAL DOES the [COLOUR] THING [today]",
    "TALK NAME [and NAME] [DAY] [TIME]",
    "[please] TALK NAME DAY at NUMBER",
    "DAY [TIME] at TENS ONE",
    "where is WHOSE [SIZE] [COLOUR] THING",
    "COLOUR [and COLOUR] [SIZE] THINGS",
    "NUMBER COLOUR THINGS and TENS COLOUR THINGS",
    "[not] the COLOUR THING WHERE the PLACE",
)
"""How sentences are built: what stands in brackets is there half of the time."""

SPEAKERS: dict[Split, str] = {
    "train": "Alex Andrea Andy Annie Diogo Gene Gene2 Henrique Hugo Lee Marco Mike RicishayMax RicishayMax2 adam anika"
    " antonio benjamin croak ed edward edward2 f1 gustave iven iven2 iven3 iven4 john klatt klatt2 klatt3 klatt4 klatt5"
    " klatt6 m1 m2 m3 m6 m8 michel miguel mike2 paul pedro quincy steph steph2 steph3 travis",
    "val": "Denis Mario grandma linda rob robert",
    "test": "Nguyen Storm aunty belinda david f4 grandpa m4 m5 m7 max pablo",
}
"""eSpeak NG's voice variants. Those that hardly differ, as `m4` and `m5`, are in one part. Left out are robots; those
who breathe, since they are not the same twice (see `espeak.speak`); those of whom a published recogniser, Whisper's
tiny.en, gets half of the words wrong in a still room; and the default voice's other names, `fast` and `Mr serious`.
"""
ACCENTS = "en-029 en-gb en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-gb-x-rp en-us en-us-nyc"
"""Languages that each speaker speaks: Caribbean, British, Scottish, Lancaster, West Midlands, received, US, New York.

All are in every part: an accent is no voice."""
RATES = (120, 220)
"""Slowest and fastest speech in words a minute."""
PITCHES = (25, 75)
"""Lowest and highest; 50 is the speaker's own."""

_SHARES = 16
_PARTS: dict[int, Split] = {0: "val", 1: "test", 2: "test"}


class Line(NamedTuple):
    """Who says what, and how."""

    text: str
    voice: str
    rate: int
    pitch: int


def draw_line(random: np.random.Generator, part: Split) -> Line:
    """Draws what is said in a part, by one of its speakers."""
    text = draw_sentence(random)
    while part_of(text) != part:
        text = draw_sentence(random)
    voice = f"{_draw(random, ACCENTS)}+{_draw(random, SPEAKERS[part])}"
    return Line(text, voice, int(random.integers(*RATES, endpoint=True)), int(random.integers(*PITCHES, endpoint=True)))


def draw_sentence(random: np.random.Generator) -> str:
    """Draws a sentence of 2 to 8 words from the templates."""
    while True:
        template = TEMPLATES[random.integers(len(TEMPLATES))]
        kept = re.sub(r"\[(.*?)\] ?", lambda group: f"{group[1]} " if random.random() < 0.5 else "", template)
        words = [_draw(random, WORDS[word]) if word.isupper() else word for word in kept.split()]
        if LENGTHS[0] <= len(words) <= LENGTHS[1]:
            return " ".join(words)


def part_of(text: str) -> Split:
    """Says to which part a sentence belongs, so that none can be in two, however many are drawn.

    >>> part_of("nora sees every brown dog") == part_of("nora sees every brown dog")
    True
    """
    return _PARTS.get(hashlib.sha256(text.encode()).digest()[0] % _SHARES, "train")


def vocabulary() -> list[str]:
    """Lists all words, in alphabetical order."""
    fixed = (word for template in TEMPLATES for word in re.findall(r"\b[a-z]+\b", template))
    return sorted({word for words in WORDS.values() for word in words.split()} | set(fixed))


def _draw(random: np.random.Generator, words: str) -> str:
    choices = words.split()
    return choices[random.integers(len(choices))]
