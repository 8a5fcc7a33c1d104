"""`medr1 ask`: one question about one's own pictures."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from medr1.answers.tags import TAG
from medr1.cli.options import note, print_json, quiet, takes
from medr1.doors import clean
from medr1.flows.settings import AskSettings

if TYPE_CHECKING:
    from medr1.report.tables import Table
    from medr1.results.answered import Asked, Reply


class WordsBehindFlags(TyperCommand):
    """A command whose repeated flags take several words: `--options Lung Liver` is `--options Lung --options Liver`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words as click expects them."""
        repeated = {name for one in self.params if getattr(one, "multiple", False) for name in one.opts}
        return super().parse_args(ctx, list(_repeated(args, repeated)))


def _repeated(words: Sequence[str], flags: set[str]) -> list[str]:
    found: list[str] = []
    flag, first = "", False
    for word in words:
        if word.startswith("--"):
            flag, first = word if word in flags else "", True
        elif flag and not first:
            found.append(flag)
        else:
            first = False
        found.append(word)
    return found


@takes(AskSettings, prints="the answer")
def ask_command(settings: AskSettings, as_json: bool) -> None:
    """Ask a model one question about your own pictures, and see what it says without looking.

    Nothing is written or sent anywhere, unless you name an endpoint.

    \b
    medr1 ask photo.png "What is this?"
    medr1 ask a.dcm b.dcm "Which organ is shown?" --options Lung Liver Heart --model medvlm-r1
    """
    from medr1.flows.ask import ask
    from medr1.report.tables import rich_table

    speech = _Speech()
    with Console(stderr=True, quiet=quiet.get()).status("Reading the picture, then the model …") as status:

        def show(piece: str) -> None:
            status.stop()
            speech.take(piece)

        asked = ask(
            settings,
            show=(lambda piece: None) if as_json else show,
            tell=note,
        )
    if as_json:
        print_json(asked)
        return
    speech.end()
    Console().print(rich_table(_table(asked)))
    typer.echo(_verdict(asked, drawn=settings.temperature > 0))
    note(asked.notice)


class _Speech:
    """What a model says, as it comes, without the tags around thinking and answer."""

    LONGEST_TAG = 12

    def __init__(self) -> None:
        self.held, self.said = "", False

    def take(self, piece: str) -> None:
        """The next piece; what may be the beginning of a tag waits for its end."""
        self.held += piece
        cut = self.held.rfind("<")
        whole = cut < 0 or ">" in self.held[cut:] or len(self.held) - cut > self.LONGEST_TAG
        ready, self.held = (self.held, "") if whole else (self.held[:cut], self.held[cut:])
        self._write(ready)

    def end(self) -> None:
        """Nothing more comes."""
        self._write(self.held)
        if self.said:
            self._write("\n")

    def _write(self, text: str) -> None:
        words = TAG.sub(lambda tag: "\n" if tag["slash"] else "", text)
        self.said |= bool(words)
        sys.stdout.write(clean(words))
        sys.stdout.flush()


def _table(asked: "Asked") -> "Table":
    """Answers and probabilities, with the picture and without."""
    from medr1.report.tables import NONE, Table, percent
    from medr1.types import LETTERS

    replies = [reply for reply in (asked.reply, asked.blank) if reply is not None]
    rows = [("answer", *(clean(_answer(reply, asked)) for reply in replies))]
    if any(reply.probabilities for reply in replies):
        for place, option in enumerate(asked.options):
            shares = [percent(reply.probabilities[place]) if reply.probabilities else NONE for reply in replies]
            rows.append((f"{LETTERS[place]}) {clean(option)}, %", *shares))
    rows.append(("tokens", *(f"{reply.num_tokens:,}" for reply in replies)))
    columns = ("", "your picture" if len(asked.images) == 1 else "your pictures", "grey instead")
    return Table(title="", columns=columns[: 1 + len(replies)], rows=rows)


def _answer(reply: "Reply", asked: "Asked") -> str:
    from medr1.types import LETTERS

    if reply.answer is None:
        return f"unreadable ({reply.parse_status.replace('_', ' ')})"
    if asked.options and reply.answer in LETTERS[: len(asked.options)]:
        return f"{reply.answer}) {asked.options[LETTERS.index(reply.answer)]}"
    return reply.answer


def _verdict(asked: "Asked", *, drawn: bool) -> str:
    """What the two answers say together."""
    if asked.reply.answer is None:
        cut = "" if asked.reply.finished else "; it was cut off: raise --max-new-tokens"
        return f"There is no answer that can be read{cut}."
    if asked.blank is None:
        return "Whether the picture mattered was not checked."
    if asked.blank.answer == asked.reply.answer:
        return "It says the same of a grey picture: nothing shows that this answer came from looking."
    if drawn:
        return "It says something else of a grey picture, which chance does, too; --temperature 0 leaves chance out."
    return "It says something else of a grey picture: the picture mattered, which does not make the answer right."
