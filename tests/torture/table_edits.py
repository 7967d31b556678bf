"""The catalogue of edits of the other tables: of long texts, and of rows that enter and leave a condition."""

from __future__ import annotations

import random

from tests.torture.edits import WORDS, Edit, Hand

ARTICLES = 40
QUEUES = ["sales", "support", "größer"]
TICKETS = 25
CUSTOMERS = 12
LABELS = 8
STATES = ["open", "open", "waiting", "closed"]
LONG = " " + "x" * 2_640
"""Of a key that is too long for an index of the program's."""
LONGEST = 120
"""Paragraphs of a text that a slow model does not embed within one lease."""
MARK = "§"
"""In every text of these tables: the journal does not know what their chunks call for."""


def _paragraph(hand: Hand) -> str:
    words = hand.rng.choices(WORDS, k=hand.rng.randrange(4, 16))
    return f"{MARK} {' '.join(words)} {hand.name}.{hand.rng.randrange(10**9)}."


def _slug(hand: Hand) -> str:
    number = hand.rng.randrange(ARTICLES)
    return f"article {number}" + (LONG if number % 10 == 0 else "")


def _ticket(hand: Hand) -> list[object]:
    return [hand.rng.choice(QUEUES), hand.rng.randrange(TICKETS)]


def write_article(hand: Hand) -> None:
    paragraphs = [_paragraph(hand) for _ in range(hand.rng.choice([0, 1, 3, 8, 20, 20, LONGEST]))]
    hand.touch(
        "INSERT INTO articles (slug, body) VALUES (%s, %s) ON CONFLICT (slug) DO UPDATE SET body = excluded.body",
        [_slug(hand), "\n\n".join(paragraphs)],
    )


def _change_body(rng: random.Random, paragraphs: list[str], new: str) -> None:
    place = rng.randrange(len(paragraphs) + 1)
    match rng.choice(["insert", "edit", "edit", "drop", "move"]):
        case "insert":
            paragraphs.insert(place, new)
        case "edit" if paragraphs:
            paragraphs[place % len(paragraphs)] = new
        case "drop" if paragraphs:
            del paragraphs[place % len(paragraphs)]
        case "move" if paragraphs:
            paragraphs.insert(0, paragraphs.pop(place % len(paragraphs)))


def edit_article(hand: Hand) -> None:
    """A paragraph of it, with or without the count of its views."""
    slug = _slug(hand)
    row = hand.connection.execute("SELECT body FROM articles WHERE slug = %s", [slug]).fetchone()
    if row:
        paragraphs = [each for each in row[0].split("\n\n") if each]
        _change_body(hand.rng, paragraphs, _paragraph(hand))
        more = hand.rng.randrange(2)
        hand.touch(
            "UPDATE articles SET body = %s, views = views + %s WHERE slug = %s", ["\n\n".join(paragraphs), more, slug]
        )


def title_article(hand: Hand) -> None:
    """Its title is in the header of each of its chunks."""
    hand.touch("UPDATE articles SET title = %s WHERE slug = %s", [hand.rng.choice([None, " ", *WORDS]), _slug(hand)])


def view_articles(hand: Hand) -> None:
    hand.touch("UPDATE articles SET views = views + 1 WHERE slug = %s", [_slug(hand)])


def rename_article(hand: Hand) -> None:
    """Often refused, as there is such a one."""
    hand.touch("UPDATE articles SET slug = %s WHERE slug = %s", [_slug(hand), _slug(hand)])


def delete_article(hand: Hand) -> None:
    hand.touch("DELETE FROM articles WHERE slug = %s", [_slug(hand)])


def write_ticket(hand: Hand) -> None:
    hand.touch(
        """
        INSERT INTO tickets VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (queue, number) DO UPDATE SET body = excluded.body, subject = excluded.subject
        """,
        [*_ticket(hand), hand.rng.choice([None, "", "subject"]), _paragraph(hand), hand.rng.choice(STATES)],
    )


def turn_ticket(hand: Hand) -> None:
    hand.touch(
        "UPDATE tickets SET state = %s WHERE (queue, number) = (%s, %s)", [hand.rng.choice(STATES), *_ticket(hand)]
    )


def move_ticket(hand: Hand) -> None:
    """To another queue: half of its key."""
    hand.touch("UPDATE tickets SET queue = %s WHERE (queue, number) = (%s, %s)",
               [hand.rng.choice(QUEUES), *_ticket(hand)])  # fmt: skip


def delete_ticket(hand: Hand) -> None:
    hand.touch("DELETE FROM tickets WHERE (queue, number) = (%s, %s)", _ticket(hand))


def turn_queue(hand: Hand) -> None:
    hand.touch("UPDATE tickets SET state = %s WHERE queue = %s", [hand.rng.choice(STATES), hand.rng.choice(QUEUES)])


def name_customer(hand: Hand) -> None:
    """A new one, or another name for all of its tickets."""
    hand.touch(
        "INSERT INTO customers VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        [hand.rng.randrange(CUSTOMERS), hand.rng.choice([None, " ", *WORDS])],
    )


def give_ticket(hand: Hand) -> None:
    """To another customer, who need not be there."""
    customer = hand.rng.choice([None, *range(CUSTOMERS)])
    hand.touch("UPDATE tickets SET customer_id = %s WHERE (queue, number) = (%s, %s)", [customer, *_ticket(hand)])


def delete_customer(hand: Hand) -> None:
    hand.touch("DELETE FROM customers WHERE id = %s", [hand.rng.randrange(CUSTOMERS)])


def name_label(hand: Hand) -> None:
    """A new one, another name, hidden or shown: for all tickets that have it."""
    hand.touch(
        """
        INSERT INTO labels VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name, hidden = excluded.hidden
        """,
        [hand.rng.randrange(LABELS), hand.rng.choice(WORDS), hand.rng.random() < 0.2],
    )


def label_ticket(hand: Hand) -> None:
    hand.touch(
        "INSERT INTO ticket_labels VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [*_ticket(hand), hand.rng.randrange(LABELS)],
    )


def move_labels(hand: Hand) -> None:
    """From one ticket to another. Often refused, as that has one of them."""
    hand.touch(
        "UPDATE ticket_labels SET queue = %s, number = %s WHERE (queue, number) = (%s, %s)",
        [*_ticket(hand), *_ticket(hand)],
    )


def unlabel(hand: Hand) -> None:
    """One ticket, or all that have a label."""
    if hand.rng.random() < 0.8:
        hand.touch("DELETE FROM ticket_labels WHERE (queue, number) = (%s, %s)", _ticket(hand))
    else:
        hand.touch("DELETE FROM ticket_labels WHERE label_id = %s", [hand.rng.randrange(LABELS)])


def delete_label(hand: Hand) -> None:
    hand.touch("DELETE FROM labels WHERE id = %s", [hand.rng.randrange(LABELS)])


TABLE_EDITS: dict[Edit, float] = {
    write_article: 6,
    edit_article: 12,
    title_article: 3,
    view_articles: 4,
    rename_article: 1.5,
    delete_article: 1.5,
    write_ticket: 8,
    turn_ticket: 6,
    move_ticket: 2,
    delete_ticket: 2,
    turn_queue: 0.5,
    name_customer: 4,
    give_ticket: 4,
    delete_customer: 1,
    name_label: 4,
    label_ticket: 6,
    move_labels: 1.5,
    unlabel: 1.5,
    delete_label: 1,
}
"""Each with its weight."""
