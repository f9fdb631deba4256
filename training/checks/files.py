"""Whether a recipe's files fit together: tables, folders, questions, indexes, leakage, the base, and the lengths of what will be taught.
Each check yields what it found; what a verb would refuse is raised as the verb raises it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steper_agent.records import Question
from training import collect, dataset, distill, evaluate
from training.checks.opened import Finding, Opened
from training.examples.held_out import HeldOut, near_told
from training.examples.rivals import RIVALS
from training.examples.views import check_template
from training.run_folder import SETTINGS, check_settings
from training.scores.official import RULES

if TYPE_CHECKING:
    from steper_agent.retrieval import IndexRetriever, RemoteRetriever
    from training.recipe import Recipe

Findings = Iterator[Finding]


def agreement(opened: Opened) -> Findings:
    """Whether each table reads what the one before it writes, and the student is asked as it was taught."""
    broken = list(_broken_links(opened.recipe))
    yield from broken
    if not broken:
        yield Finding("ok", f"{', '.join(opened.recipe.tables)}: each reads what the one before it writes")


def _broken_links(recipe: Recipe) -> Findings:
    where = str(recipe.path)
    if recipe.has("collect", "dataset") and recipe.collect.out / collect.JOURNAL not in recipe.dataset.journal:
        yield Finding("warning", "the data set does not read the journal that collect writes", where, f'journal = ["{recipe.collect.out / collect.JOURNAL}"]')
    if recipe.has("dataset", "distill"):
        if recipe.distill.dataset != recipe.dataset.out:
            yield Finding("warning", "distill does not read the data set that is made", where, f'[distill] dataset = "{recipe.dataset.out}"')
        if recipe.distill.base != recipe.dataset.base:
            yield Finding("failed", "the student starts from another base than the data set is made for", where, f'[distill] base = "{recipe.dataset.base}"')
    if recipe.has("distill", "evaluate") and str(recipe.distill.out) not in recipe.evaluate.model:
        yield Finding("warning", "the model that is judged is not the student that is trained", where, f'a model of {recipe.distill.out / "student"}')
    if recipe.has("collect", "evaluate"):
        for key in ("strategy", "k", "steps"):
            taught, asked = getattr(recipe.collect, key), getattr(recipe.evaluate, key)
            if key == "strategy" and recipe.has("dataset") and recipe.dataset.view in RIVALS:
                taught = recipe.dataset.view
            if taught != asked:
                yield Finding("warning", f"the student is taught with {key} = {taught}, and asked with {asked}", where, "give both the same")


def folders(opened: Opened) -> Findings:
    """Whether each verb may write where it wants to, and goes on with no other run there."""
    recipe = opened.recipe
    outs = {name: getattr(recipe, name).out for name in recipe.tables}
    for name, out in outs.items():
        place = next(one for one in (out.absolute(), *out.absolute().parents) if one.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            yield Finding("failed", f"{name} cannot write there", str(out), "give another out, or the right to write")
    if recipe.has("collect") and (recipe.collect.out / SETTINGS).exists():
        collect.claim_folder(recipe.collect)
    if recipe.has("dataset"):
        check_settings(recipe.dataset.out, recipe.dataset, free=dataset.free_of(recipe.dataset))
    if recipe.has("distill"):
        check_settings(recipe.distill.out, recipe.distill, free=distill.FREE)
    begun = [str(out) for out in outs.values() if (out / SETTINGS).exists()]
    yield Finding("ok", f"{', '.join(map(str, outs.values()))}" + (f"; begun before: {', '.join(begun)}" if begun else ""))


def taught_questions(opened: Opened) -> Findings:
    """Whether what the teacher is asked can come to anything."""
    questions, config = opened.questions, opened.recipe.collect
    where = str(config.questions or config.replay)
    yield Finding("ok", _counted(questions), where)
    keeps_wrong = opened.recipe.has("dataset") and opened.recipe.dataset.all_answers
    if (without := sum(not question.answers for question in questions)) and not keeps_wrong:
        yield Finding("warning", f"{without} without an answer: their chains would be paid for and not taught", where, "leave them out, or all_answers = true")
    yield from _unanswerable(questions, where)


def judged_questions(opened: Opened) -> Findings:
    """Whether the student can be judged, and by which rules."""
    config = opened.recipe.evaluate
    yield Finding("ok", f"{_counted(opened.asked)}; {RULES[config.metrics].definition.partition(':')[0]}", str(config.questions))
    if config.metrics == "2wiki" and not config.aliases:
        yield Finding("warning", "without the data set's aliases EM and F1 are below those of its script", str(config.questions), "--aliases id_aliases.json")
    if config.aliases and not any(len(question.answers) > 1 for question in opened.asked):
        yield Finding("warning", "no question has an alias in this file", str(config.aliases), "check that it is the data set's own")
    yield from _unanswerable(opened.asked, str(config.questions))


def _counted(questions: Sequence[Question]) -> str:
    hops = Counter(str(hops) for question in questions if (hops := question.meta.get("hops")))
    told = ", hops: " + ", ".join(f"{count} of {name}" for name, count in sorted(hops.items())) if hops else ""
    return (f"{len(questions):,} questions, {sum(bool(one.answers) for one in questions):,} with answers, "
            f"{sum(bool(one.supporting_ids) for one in questions):,} with supporting passages{told}")


def _unanswerable(questions: Sequence[Question], where: str) -> Findings:
    if count := sum(question.meta.get("answerable") is False for question in questions):
        yield Finding("warning", f"{count} cannot be answered from their passages: MuSiQue's script leaves them out, we do not", where,
                      "give MuSiQue-Ans, the answerable part")


def taught_index(opened: Opened) -> Findings:
    config = opened.recipe.collect
    yield from _index(opened.index(config.index), config.index, opened.questions, config.k)


def judged_index(opened: Opened) -> Findings:
    config = opened.recipe.evaluate
    index = opened.index(config.index)
    if any(question.supporting_ids for question in opened.asked):
        evaluate.check_supports(index, opened.asked, config.index, config)
    yield from _index(index, config.index, opened.asked, config.k)


def _index(index: IndexRetriever | RemoteRetriever, where: Path, questions: Sequence[Question], k: int) -> Findings:
    """Whether it answers, and holds what its questions rest on."""
    start = time.perf_counter()
    hits = index.search(questions[0].text, k)
    yield Finding("ok", f"index {index.digest[:12]}: {len(hits)} of {k} passages in {1000 * (time.perf_counter() - start):.0f} ms", str(where))
    if not hits:
        yield Finding("warning", "the first question finds nothing", str(where), "check that the index is of these questions' corpus")
    supports = [id for question in questions for id in question.supporting_ids]
    if not supports:
        yield Finding("warning", "no question names its supporting passages: recall and most causes of failure will be unknown", str(where),
                      'give "supporting_ids", or a data set\'s own file')
        return
    held = sum(index.find(id) is not None for id in supports)
    if held < len(supports):
        yield Finding("warning" if held else "failed", f"it holds {held:,} of {len(supports):,} supporting passages", str(where),
                      "build it from the questions' own corpus: steper index build SOURCE")
    else:
        yield Finding("ok", f"it holds all {held:,} supporting passages", str(where))


def leakage(opened: Opened) -> Findings:
    """Whether the student would be taught what it is judged by, by id or by words."""
    held_out, where = HeldOut.of(opened.judging), str(opened.recipe.evaluate.questions)
    kept = [question for question in opened.questions if not held_out.holds(question)]
    leaked = len(opened.questions) - len(kept)
    guarded = opened.recipe.has("dataset") and opened.recipe.evaluate.questions in opened.recipe.dataset.held_out
    if leaked and not guarded:
        yield Finding("failed", f"{leaked} of {len(opened.questions)} training questions are evaluation questions", where, f'[dataset] held_out = ["{where}"]')
    elif leaked:
        yield Finding("warning", f"{leaked} training questions are evaluation questions: they would be paid for and left out", where, "leave them out of the questions")
    elif not guarded:
        yield Finding("warning", "no training question is an evaluation question today; the data set does not watch for it", where, f'[dataset] held_out = ["{where}"]')
    else:
        yield Finding("ok", f"none of {len(opened.questions):,} training questions is among {len(opened.judging):,} evaluation questions")
    for words in near_told([like for question in kept for like in held_out.near(question)]):
        yield Finding("warning", words, where, "look at them; whoever shares words need not share the answer")


def student_base(opened: Opened) -> Findings:
    """Whether the base can be read, and ends its turns with a token."""
    from steper_agent.models.loading import open_vocabulary
    from steper_agent.students.fingerprint import read_config

    vocabulary = open_vocabulary(opened.base)
    check_template(vocabulary.tokenizer, opened.base)
    sees = f"sees {vocabulary.window:,} tokens" if vocabulary.window else "sees any length"
    yield Finding("ok", f"{read_config(opened.base).get('model_type')}, {opened.parameters:,} parameters, {sees}", str(opened.base))


def lengths(opened: Opened) -> Findings:
    """Whether what will be taught fits the student's window, tried on a rehearsal."""
    config, told, card = opened.recipe.dataset, opened.rehearsed, opened.card
    if told.failed:
        yield Finding("failed", f"{told.failed} of {told.asked} rehearsed questions failed in the graph", str(told.journal), "ask one of them: steper ask QUESTION --index DIR")
    if not told.right and not config.all_answers:
        yield Finding("failed", f"none of {told.asked} rehearsed chains ({told.lines}) came to an accepted answer: nothing would be taught", str(told.journal),
                      "give questions that this teacher can answer, with their answers")
    made = sum(card.examples.values())
    longest = max(one.longest for one in card.lengths.values())
    who = f"{told.asked} questions rehearsed, lines {told.lines}" + ("" if told.strategy == opened.recipe.collect.strategy else f", as {told.strategy}")
    yield Finding("ok", f"{who}: {made} examples of at most {longest:,} tokens, {card.max_length:,} fit")
    lost = card.examples_too_long / (made + card.examples_too_long)
    if lost:
        yield Finding("failed" if lost > config.max_dropped else "warning", f"{lost:.0%} of the examples are too long and would be dropped", str(config.base),
                      "raise max_length, collect with a smaller k, or allow it with max_dropped")
    if card.examples_trimmed:
        yield Finding("warning", f"{card.examples_trimmed} of {made} examples would lose passages to fit", str(config.base), "raise max_length, or take a smaller k")
