"""Other words for the micro-world's facts and questions, held out from pre-training, and sentences that state no fact. Only data."""

from __future__ import annotations

FACTS: dict[str, tuple[str, str]] = {
    "birthplace": ("{s} first saw the light in {o}.", "{s} hails from {o}."),
    "mother": ("{s} was brought up by {o}.", "{s} is the child of {o}."),
    "spouse": ("{s} exchanged vows with {o}.", "{s} is wedded to {o}."),
    "employer": ("{s} is on the payroll of {o}.", "{s} draws a salary from {o}."),
    "alma mater": ("{s} graduated from {o}.", "{s} took lectures at {o}."),
    "birth year": ("{s} arrived as a baby in {o}.", "{s} counts every birthday from {o}."),
    "profession": ("{s} makes a living as a {o}.", "{s} learned the trade of a {o}."),
    "director": ("{s} was filmed under the eye of {o}.", "{s} carries the vision of {o}."),
    "star": ("{s} casts as its hero {o}.", "{s} gives its main part to {o}."),
    "studio": ("{s} was financed by {o}.", "{s} left the lots of {o}."),
    "release year": ("{s} premiered in {o}.", "{s} was first screened in {o}."),
    "author": ("{s} was penned by {o}.", "{s} sprang from the mind of {o}."),
    "publisher": ("{s} was brought out by {o}.", "{s} bears the imprint of {o}."),
    "publication year": ("{s} reached the bookshops in {o}.", "{s} was first read in {o}."),
    "founder": ("{s} was started by {o}.", "{s} goes back to {o}."),
    "headquarters": ("{s} is run from {o}.", "{s} takes its orders from {o}."),
    "founding year": ("{s} was registered in {o}.", "{s} served its first customer in {o}."),
    "campus": ("{s} holds its classes in {o}.", "{s} houses its scholars in {o}."),
    "rector": ("{s} answers to {o}.", "{s} put at its head {o}."),
    "singer": ("{s} has at the microphone {o}.", "{s} lends its songs the voice of {o}."),
    "hometown": ("{s} first rehearsed in {o}.", "{s} came together in {o}."),
    "label": ("{s} brings out its music with {o}.", "{s} is under contract to {o}."),
    "country": ("{s} is found on the map of {o}.", "{s} pays its taxes to {o}."),
    "mayor": ("{s} takes its rules from {o}.", "{s} gave its town hall to {o}."),
    "river": ("{s} is crossed by {o}.", "{s} built its bridges over {o}."),
    "capital": ("{s} is governed from {o}.", "{s} seats its ministers in {o}."),
    "president": ("{s} is represented by {o}.", "{s} swore in {o}."),
    "language": ("{s} teaches its children {o}.", "{s} prints its newspapers in {o}."),
    "mouth": ("{s} flows out at {o}.", "{s} reaches the coast at {o}."),
    "architect": ("{s} was planned by {o}.", "{s} stands as imagined by {o}."),
    "site": ("{s} opens its halls in {o}.", "{s} shows its pieces in {o}."),
}
"""Label → phrasings without the label's words. `{s}` may be a name or, behind the passage's first sentence, `This TYPE`."""

QUESTIONS: dict[str, tuple[str, str]] = {
    "chain": ("Name {one}.", "What is {owned}?"),
    "earlier": ("Of {one} and {two}, which has the earlier {label}?", "Whose {label} comes first, that of {one} or that of {two}?"),
    "same": ("Is the {label} of {one} also the {label} of {two}?", "Do {one} and {two} share one {label}?"),
}
"""Form → other ways to ask. `{owned}` is a chain told from its start: `X's director's mother`."""

NOISE = (
    "A letter about {s} was once sent to {o}.",
    "Nobody has asked {o} about the {label} of {s}.",
    "{s} and {o} appear on the same page of an old album.",
    "The {label} of {s} is a matter that {o} left open.",
    "Much has been written about {o}.",
    "Visitors often speak of {o} instead.",
    "Whoever looks for the {label} of {o} has to look elsewhere.",
    "An old song praises {o}.",
)
"""Sentences that state no fact. `{o}` is any other entity, `{label}` a relation that things of the passage's type have."""
