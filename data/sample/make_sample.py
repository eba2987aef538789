"""Write the sample corpus: train.txt, valid.txt and test.txt beside this file.

The corpus is a small, original stand-in for WikiText-2, in the same format, so that the benchmarks run offline. Its
articles describe places, people and species that do not exist. Names are built from syllables, and sentences from the
rules in sample.grammar. The output is the same bytes on every machine.

    python data/sample/make_sample.py            writes the three files
    python data/sample/make_sample.py --check    writes nothing; exits with 1 if the files differ

sample.grammar starts with word lists, one for each key. A list with a "|" holds phrases. Then come blocks:

    # topic A B C D forms   starts a topic that began between the years A and B, and lasted C to D years; the forms are
                            its ways to say "it"
    # block                 starts sections that topics share; "@ block" inserts them in a topic
    = , == , ===            title, section, subsection; "?" means optional, "~" means that the sentences are shuffled
    + sentence              a sentence that is always kept; the others are kept at random
    [a|b]                   one of the two
    {slot}                  a fact of the article, a word from a list, or a call in Article.call
                            ("{tree*}" is a plural; "{Tree}" starts with a capital)
"""

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SEED = 20
# Tokens, including <eos>. A split ends with the article that reaches its target.
TARGETS = {"train": 72_000, "valid": 7_500, "test": 7_500}
MIN_COUNT = 3  # words that appear fewer times than this in train become <unk> in all splits
KEEP_SENTENCE, KEEP_SHARED, KEEP_SECTION, BREAK_PARAGRAPH = 0.8, 0.5, 0.65, 0.35

HERE = Path(__file__).resolve().parent


def pick(rng: Random, items: Sequence[T]) -> T:
    """Return a random item. Uses only rng.random(), whose sequence is the same in every version of Python."""
    return items[int(len(items) * rng.random())]


def pick_skewed(rng: Random, items: Sequence[T], skew: float = 0.5) -> T:
    """Return a random item. Earlier items are more likely, so that some words are frequent, as in real text."""
    u = rng.random()
    return items[int(len(items) * u * (1 - skew + skew * u))]


def between(rng: Random, low: int, high: int) -> int:
    return low + int((high - low + 1) * rng.random())


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    rest = list(items)
    return [rest.pop(int(len(rest) * rng.random())) for _ in range(len(rest))]


def make_world(rng: Random, lists: dict[str, list[str]]) -> dict[str, list]:
    """Return the names that all articles share, with the county of each town and river and the land of each county."""
    taken = set(lists["avoid"])  # real names

    def names(count: int, ends: Sequence[str]) -> list[str]:
        made: list[str] = []
        while len(made) < count:
            name = "".join(pick(rng, lists[part]) for part in ("onset", "vowel", "coda")) + pick(rng, ends)
            if name not in taken:
                taken.add(name)
                made.append(name.capitalize())
        return made

    lands = names(5, ["ia", "onia"])
    counties = names(10, ["shire", "land", "dale"])
    return {
        "lands": lands,
        "seas": [f"the {name} Sea" for name in names(5, ["ic", "an"])],
        "counties": [(name, i % len(lands)) for i, name in enumerate(counties)],
        "towns": [(name, i % len(counties)) for i, name in enumerate(names(140, lists["town end"]))],
        "rivers": [(f"River {name}", i % len(counties)) for i, name in enumerate(names(40, ["a", "ow", "eth"]))],
        "men": names(50, ["an", "o", "in", "ric", "us"]),
        "women": names(50, ["a", "ia", "ette", "ine"]),
        "surnames": names(260, lists["surname end"]),
        "genera": names(16, ["ium", "ella", "ora"]),
        "epithets": [name.lower() for name in names(36, ["us", "atus", "ensis", "ina", "ica"])],
    }


def read_grammar(path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the word lists, and the lines of each topic or shared block by its header, without the leading "# "."""
    lists: dict[str, list[str]] = {}
    blocks: dict[str, list[str]] = {}
    block: list[str] | None = None
    for line in path.read_text(encoding="utf-8").replace("\n  ", " ").splitlines():
        if line.startswith("# "):
            block = blocks.setdefault(line[2:], [])
        elif line and block is not None:
            block.append(line)
        elif line:
            key, _, value = line.partition(": ")
            # A list of phrases becomes one choice in brackets. In a list of words, "." stands for a space.
            lists[key] = [f"[{value}]"] if "|" in value else [word.replace(".", " ") for word in value.split()]
    return lists, blocks


def plural(noun: str) -> str:
    if noun.endswith("man"):
        return noun[:-3] + "men"
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def tokenize(text: str) -> list[str]:
    """Split text as WikiText-2 does, except that an initial ("V. alba") keeps its full stop."""
    text = re.sub(r",\s*(?=[,.;])", "", text)  # a phrase may end with a comma before punctuation
    text = re.sub(r"([;:()\"]|,(?!\d)|(?<!\b[A-Z])\.(?!\d))", r" \1 ", text)
    text = re.sub(r"(?<=\d)([,.])(?=\d)", r" @\1@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    return text.replace("'s ", " 's ").split()


def finish(text: str) -> str:
    """Return the tokens of one sentence or heading, with a capital first letter and "an" before a vowel."""
    tokens = tokenize(text)
    for i, after in enumerate(tokens[1:]):
        vowel = re.match(r"[aeiou]|8|1[18]$|hour|honest", after, re.I) and not re.match(r"eu|uni|use|one", after, re.I)
        if vowel and (tokens[i] == "a" or (i == 0 and tokens[i] == "A")):
            tokens[i] += "n"
    first = next(i for i, word in enumerate(tokens) if word != '"')
    tokens[first] = tokens[first][0].upper() + tokens[first][1:]
    return " ".join(tokens)


class Article:
    """One article: its facts, the current year, and the people named so far."""

    def __init__(self, rng: Random, world: dict[str, list], lists: dict[str, list[str]], header: str) -> None:
        self.rng, self.world, self.lists = rng, world, lists
        self.topic, first, last, shortest, longest, forms = header.split(" ", 5)
        self.year = between(rng, int(first), int(last))
        self.cap = self.year + between(rng, int(shortest), int(longest))
        self.day = between(rng, 1, 14)
        self.recent: dict[str, list[str]] = {}
        self.named: set[str] = set()
        self.people: dict[str, tuple[str, str, bool]] = {}
        self.facts = {"y0": str(self.year), "y1": str(self.cap), "d0": str(self.day)}
        self.set_places()
        self.set_names()
        # Drawn once for the whole article, because these slots would give something else each time.
        drawn = {"month0": "{month}", "date0": "{date}", "date1": "{date}", "kind": "{shipkind}", "virtue1": "{virtue}"}
        drawn |= {"form0": "{form}", "stone0": "{stone}", "common": "{home} {bird}"}
        drawn["piece"] = "[The {Beast} and the {Bird}|{Season} in {town}|The {Trade} of {town}]"
        for key, text in drawn.items():
            self.facts[key] = self.expand(text)
        self.forms = [self.expand(form) for form in forms.split("|")]

    def set_places(self) -> None:
        rng, world = self.rng, self.world
        home, at = pick(rng, world["towns"])
        county, land = world["counties"][at]
        near = pick_skewed(rng, [name for name, where in world["towns"] if where == at and name != home])
        river, stream = shuffled(rng, [name for name, where in world["rivers"] if where == at])[:2]
        self.towns = [name for name, _ in world["towns"] if name not in (home, near)]
        names = world["lands"]
        foe = names[(land + between(rng, 1, len(names) - 1)) % len(names)]
        winner, loser = shuffled(rng, [names[land], foe])
        self.facts |= {"home": home, "near": near, "county": county, "river": river, "stream": stream}
        self.facts |= {"land": names[land], "landish": names[land] + "n", "sea": world["seas"][land]}
        self.facts |= {"foe": foe, "foeish": foe + "n", "winner": winner, "loser": loser}

    def set_names(self) -> None:
        """Draw people (p, q, r and the subject s) and species. A topic uses the ones that it needs."""
        rng = self.rng
        # More men than women, as in old encyclopedias.
        for role, surname in zip("pqrs", shuffled(rng, self.world["surnames"][:200]), strict=False):
            female = rng.random() < 0.35
            self.people[role] = (pick_skewed(rng, self.world["women" if female else "men"]), surname, female)
        given, surname, female = self.people["s"]
        he, his, him = ("she", "her", "her") if female else ("he", "his", "him")
        spouse = f"{pick(rng, self.world['men' if female else 'women'])} {pick_skewed(rng, self.world['surnames'], 1)}"
        self.facts |= {"full": f"{given} {surname}", "sur": surname, "he": he, "his": his, "him": him, "spouse": spouse}
        self.facts["himself"] = him + "self"
        genus, genus2 = shuffled(rng, self.world["genera"])[:2]
        epithet, epithet2 = shuffled(rng, self.world["epithets"])[:2]
        self.facts |= {"genus": genus, "genus2": genus2, "epithet": epithet, "epithet2": epithet2}
        self.facts |= {"abbr": f"{genus[0]}. {epithet}", "family": re.sub("(ium|a)$", "", genus) + "idae"}
        self.facts["its"] = {"composer": his, "ship": "her"}.get(self.topic, "its")

    def expand(self, text: str) -> str:
        while "[" in text:
            text = re.sub(r"\[([^\[\]]*)\]", lambda match: pick(self.rng, match[1].split("|")), text)
        return re.sub(r"\{([^{}]*)\}", lambda match: self.slot(match[1]), text)

    def slot(self, slot: str) -> str:
        key = slot.rstrip("*")
        if slot in self.facts:
            return self.facts[slot]
        if key in self.lists:
            word = self.expand(self.fresh(key, self.lists[key]))
            return plural(word) if slot.endswith("*") else word
        if slot[0].isupper():
            return " ".join(word[0].upper() + word[1:] for word in self.slot(slot[0].lower() + slot[1:]).split())
        if slot[0] in self.people and slot[1:2] in ("", "."):
            return self.person(slot[0], slot[2:])
        name, *bounds = slot.split()
        return self.call(name, *(int(bound) for bound in bounds))

    def fresh(self, key: str, items: Sequence[str]) -> str:
        """Return an item that differs from the last few of the same list, so that no sentence has "oak and oak"."""
        recent = self.recent.setdefault(key, [])
        while (word := pick_skewed(self.rng, items)) in recent and len(items) > 1:
            pass
        recent.append(word)
        del recent[: -min(4, len(items) // 2) or None]
        return word

    def person(self, role: str, pronoun: str) -> str:
        """Return the full name at the first use, even if the slot wants a pronoun; then the pronoun or the surname."""
        given, surname, female = self.people[role]
        if role not in self.named:
            self.named.add(role)
            return f"{given} {surname}" + ("'s" if pronoun == "his" else "")
        if pronoun:
            return {"he": "she", "his": "her", "him": "her"}[pronoun] if female else pronoun
        return surname

    def pass_years(self, years: int) -> str:
        self.year = min(self.year + years, self.cap)
        return str(self.year)

    def call(self, name: str, low: int = 0, high: int = 0) -> str:
        rng = self.rng
        value = between(rng, low, high)
        if name == "+":  # a later year
            return self.pass_years(1 + int(9 * rng.random() * rng.random()))
        if name in ("jump", "term", "years"):  # years pass: printed not at all, in digits, or in words
            self.pass_years(value)
            return "" if name == "jump" else str(value) if name == "term" else self.lists["numbers"][value - 2]
        if name == "death":  # later sentences are about the years after it
            self.year = int(self.facts["y1"])
            self.cap = self.year + 90
            return self.facts["y1"]
        if name == "day":
            self.day = min(self.day + between(rng, 0, 2), 28)
            return str(self.day)
        if name in ("n", "m", "km"):
            step = 1 if high <= 100 else 10 if high <= 1000 else 100
            value -= value % step
            if name == "n":
                return f"{value:,}"
            other = round(value * 3.28084) if name == "m" else round(value * 0.621371)
            return f"{value:,} {name} ({other - other % step:,} {'ft' if name == 'm' else 'mi'})"
        simple = {
            "=": lambda: str(self.year),
            "ago": lambda: str(int(self.facts["y0"]) - value),
            "later": lambda: str(int(self.facts["y0"]) + value),
            "before": lambda: str(int(self.facts["y0"]) - between(rng, 9, 70)),
            "date": lambda: f"{between(rng, 1, 28)} {pick(rng, self.lists['months'])}",
            "month": lambda: pick(rng, self.lists["months"]),
            "few": lambda: self.fresh("few", self.lists["numbers"]),
            "cm": lambda: f"{value} cm ({value / 2.54:.1f} in)",
            "dec": lambda: f"{value}.{between(rng, 1, 9)}",
            "town": lambda: self.fresh("town", self.towns),
            "someone": lambda: f"{self.slot('given')} {pick_skewed(rng, self.world['surnames'], 1)}",
            "given": lambda: pick_skewed(rng, self.world["women" if rng.random() < 0.35 else "men"]),
            "it": lambda: pick(rng, self.forms),
            "it3": lambda: pick(rng, [form for form in self.forms if form not in ("it", "he", "she")]),
        }
        return simple[name]()


class Section(NamedTuple):
    level: int
    heading: str
    flags: str
    keep: float
    sentences: list[str]


def read_sections(lines: Sequence[str], blocks: dict[str, list[str]], keep: float = KEEP_SENTENCE) -> list[Section]:
    sections: list[Section] = []
    for line in lines:
        if line.startswith("@ "):
            sections += read_sections(blocks[line[2:]], blocks, KEEP_SHARED)
        elif line.startswith("="):
            marks, text = line.split(" ", 1)
            heading = text.rstrip(" ?~")
            sections.append(Section(len(marks), heading, text[len(heading) :], keep, []))
        else:
            sections[-1].sentences.append(line)
    return sections


def write_article(article: Article, sections: Sequence[Section]) -> list[str]:
    """Return the lines of the article, each with a space at both ends, as in WikiText-2."""
    rng, lines = article.rng, []
    skipped = 9  # the level of the section that is being skipped; 9 means none
    for section in sections:
        if section.level > skipped:
            continue
        skipped = 9
        if "?" in section.flags and rng.random() > KEEP_SECTION:
            skipped = section.level
            continue
        kept = [line for line in section.sentences if line.startswith("+") or rng.random() < section.keep]
        if section.sentences and not kept:
            continue
        marks = " ".join("=" * section.level)
        heading = article.facts["name"] if section.level == 1 else article.expand(section.heading)
        lines += [*([] if lines[-1:] == [" "] else [" "]), f" {marks} {finish(heading)} {marks} ", " "]
        paragraph: list[str] = []
        for line in shuffled(rng, kept) if "~" in section.flags else kept:
            if len(paragraph) >= 3 and rng.random() < BREAK_PARAGRAPH:
                lines.append(f" {' '.join(paragraph)} ")
                paragraph = []
            paragraph.append(finish(article.expand(line.lstrip("+"))))
        if paragraph:
            lines.append(f" {' '.join(paragraph)} ")
    return lines


def make_corpus(seed: int) -> dict[str, str]:
    """Return the text of each split."""
    rng = Random(seed)
    lists, blocks = read_grammar(HERE / "sample.grammar")
    world = make_world(rng, lists)
    topics = {header: read_sections(lines, blocks) for header, lines in blocks.items() if " " in header}
    titles: set[str] = set()
    corpus: dict[str, list[str]] = {}
    for split, target in TARGETS.items():
        lines = corpus.setdefault(split, [])
        queue: list[str] = []
        while sum(len(line.split()) + 1 for line in lines) < target:
            queue = queue or shuffled(rng, list(topics))  # every topic appears equally often
            header = queue.pop()
            while True:
                article = Article(rng, world, lists, header)
                article.facts["name"] = article.expand(topics[header][0].heading)
                if article.facts["name"] not in titles:
                    break
            titles.add(article.facts["name"])
            lines += write_article(article, topics[header])
        lines.append(" ")
    counts = Counter(word for line in corpus["train"] for word in line.split())
    known = {word for word, count in counts.items() if count >= MIN_COUNT}
    return {split: "".join(f"{mask(line, known)}\n" for line in lines) for split, lines in corpus.items()}


def mask(line: str, known: set[str]) -> str:
    return f" {' '.join(word if word in known else '<unk>' for word in line.split())} " if line.strip() else line


def write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)  # replaces the file completely or not at all
    finally:
        temporary.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the sample corpus beside this script.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the files differ")
    check = parser.parse_args().check
    files = {HERE / f"{split}.txt": text.encode("utf-8") for split, text in make_corpus(SEED).items()}
    if check:
        stale = [path.name for path, data in files.items() if not path.is_file() or path.read_bytes() != data]
        if stale:
            print(f"make_sample.py: these files differ from its output: {', '.join(stale)}", file=sys.stderr)
        return 1 if stale else 0
    for path, data in files.items():
        write_whole(path, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
