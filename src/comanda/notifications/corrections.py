"""Messages that their providers would not take, put right by an operator and sent round again.

What can be put right is whom it goes to, and in which language. What the message was stays: in the first of its
corrections. A message that proves who reads a mailbox (it carries a code) goes to that mailbox or nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from pydantic import TypeAdapter, ValidationError

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.fields import Email, Phone
from comanda.notifications.render import ACCOUNT_KINDS, LANGUAGES, Message, render
from comanda.saga import verbs
from comanda.saga.batch import Result
from comanda.saga.settling import Settling

_sql = twin(__file__)
MESSAGES = _sql["messages"]
CORRECT = _sql["correct"]
KEEP = _sql["keep"]
OF_MESSAGES = _sql["of_messages"]

_RECIPIENTS: Mapping[str, TypeAdapter[str]] = {"email": TypeAdapter(Email), "sms": TypeAdapter(Phone)}


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that a dead letter is about. `is_open`: it is stuck, and nobody has taken care of the letter."""

    letter_id: UUID
    id: UUID
    order_id: UUID | None
    kind: str
    channel: str
    recipient: str
    language: str
    variables: Mapping[str, Any]
    state: str
    error: str | None
    is_open: bool

    @property
    def is_of_an_account(self) -> bool:
        return self.kind in ACCOUNT_KINDS

    @property
    def can_be_corrected(self) -> bool:
        return self.is_open and not self.is_of_an_account and self.state in {"PENDING", "FAILED"}

    def shown(self, language: str) -> Message:
        """As it would go out."""
        return render(self.kind, self.channel, language, self.variables)


@dataclass(frozen=True, slots=True)
class Wish:
    """How the message of a letter should be."""

    letter_id: UUID
    recipient: str
    language: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What a message was, and what it became: its recipient and its language."""

    id: UUID
    notification_id: UUID
    letter_id: UUID
    before: Mapping[str, str]
    after: Mapping[str, str]
    actor: str
    reason: str
    at: datetime


async def messages(tx: Tx, letter_ids: Sequence[UUID]) -> list[Stored | None]:
    """The messages that these letters are about; None where a letter is about none."""
    found = {row["letter_id"]: _stored(row) for row in await MESSAGES.rows(tx, letter_ids)}
    return [found.get(one) for one in letter_ids]


async def of_messages(tx: Tx, message_ids: Sequence[UUID]) -> dict[UUID, list[Correction]]:
    """Every correction of these messages, in order."""
    found: dict[UUID, list[Correction]] = {one: [] for one in message_ids}
    for row in await OF_MESSAGES.rows(tx, message_ids):
        fields = dict(row)
        fields |= {name: msgspec.json.decode(fields[name]) for name in ("before", "after")}
        found[row["notification_id"]].append(Correction(**fields))
    return found


def refused(stored: Stored | None, wish: Wish) -> str | None:
    """Why a message can't be put right so; None: it can."""
    if stored is None:
        return "This letter is about no message: there is nothing in it to change."
    if stored.is_of_an_account:
        return "It carries a code that proves who reads a mailbox: it goes there or nowhere."
    if not stored.can_be_corrected:
        return "It is not stuck any more: there is nothing to put right."
    if wish.language not in LANGUAGES:
        return "There are no messages in this language."
    try:
        _RECIPIENTS[stored.channel].validate_python(wish.recipient)
    except ValidationError:
        return "This is no e-mail address." if stored.channel == "email" else "This is no phone number."
    if (wish.recipient, wish.language) == (stored.recipient, stored.language):
        return "Nothing would change: redrive it as it is."
    return None


async def correct(
    tx: Tx, settling: Settling, wishes: Sequence[Wish], *, actor: str, reason: str
) -> tuple[list[str | None], Result]:
    """Put messages right, close their letters and retry their deliveries, all in this transaction.

    Returns:
        Of each why it was not done (None: it was), and what is to be hinted at after the commit.
    """
    found = await messages(tx, [wish.letter_id for wish in wishes])
    answers = [refused(stored, wish) for stored, wish in zip(found, wishes, strict=True)]
    letters = [wish.letter_id for wish, answer in zip(wishes, answers, strict=True) if answer is None]
    # Whoever comes second finds the letter closed: what was looked at is what is written over.
    acted, _, result = await verbs.redrive(tx, settling, letters, actor=actor, reason=reason, limit=len(letters))
    refusals = {one.subject: one.refusal for one in acted}
    right: list[tuple[Stored, Wish]] = []
    for position, (stored, wish) in enumerate(zip(found, wishes, strict=True)):
        if answers[position] is None and stored is not None:
            answers[position] = refusals.get(stored.id, "It is not stuck any more: there is nothing to put right.")
            if answers[position] is None:
                right.append((stored, wish))
    await _write(tx, right, actor=actor, reason=reason)
    return answers, result


async def _write(tx: Tx, right: Sequence[tuple[Stored, Wish]], *, actor: str, reason: str) -> None:
    if not right:
        return
    await CORRECT.run(
        tx,
        [stored.id for stored, _ in right],
        [wish.recipient for _, wish in right],
        [wish.language for _, wish in right],
    )
    ids = [new_id() for _ in right]
    await KEEP.run(
        tx,
        ids,
        [stored.id for stored, _ in right],
        [stored.letter_id for stored, _ in right],
        [_json(stored.recipient, stored.language) for stored, _ in right],
        [_json(wish.recipient, wish.language) for _, wish in right],
        actor,
        reason,
    )
    details = [
        {"letter": str(stored.letter_id), "correction": str(one), "changed": changed(stored, wish)}
        for one, (stored, wish) in zip(ids, right, strict=True)
    ]
    await acts.record(
        tx,
        [
            Act(actor, "letter.edit", str(stored.id), reason, detail)
            for (stored, _), detail in zip(right, details, strict=True)
        ],
    )


def changed(stored: Stored, wish: Wish) -> list[str]:
    """Which of its fields would be others."""
    return [name for name in ("recipient", "language") if getattr(stored, name) != getattr(wish, name)]


def _json(recipient: str, language: str) -> str:
    return msgspec.json.encode({"recipient": recipient, "language": language}).decode()


def _stored(row: Record) -> Stored:
    return Stored(**{**dict(row), "variables": msgspec.json.decode(row["variables"])})
