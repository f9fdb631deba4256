"""Why an answer is wrong: the first thing that went wrong in its trajectory, by comparing each step with the right chain. Pure.

    not_retrieved   step s: the passage of the next hop was not found, though the query named what it is about, or was not the model's
                    to choose (the question, or in IRCoT the line before, which was right)
    not_used        step s: the passage had been found, and the line says neither what it states nor anything else in its place
    wrong_entity    step s: the line, the query or the conclusion names another thing than the right chain does
    stopped_early   step s: it concluded, all lines right, before the last hop
    never_stopped   step s: from there on it repeats itself, or went on though all was known, until the budget was spent
    format          the answer cannot be read, or is the right one in another form
    wrong_gold      the answer is what the right chain comes to; what the data set accepts is not
    error           a node failed

A mistake that a later line mends (the hop is stated after all) is none. A hop that was never stated is what went wrong; it is looked
at in the first step that could have stated it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from graphs.evidence import PLAIN_ANSWERS, words
from graphs.strategies.reading import find_answer
from steper_agent.errors import DataError
from steper_agent.records import Step, Trajectory
from training.attribution.gold import gold_of, names_in
from training.attribution.records import Fault, FaultLabel, Gold, Link
from training.attribution.walk import Walked, contradicts, unstated, walk
from training.scores.metrics import acc, best, em, normalise

_GIVES_UP = frozenset(["unknown", "none", "unclear", "cannot", "can", "t", "determined", "told", "tell", "information", "insufficient", "unanswerable", "noanswer", "possible", "given", "mentioned", "stated", "known", "enough", "be", "n", "no", "not"])
"""An answer of nothing but these words claims that the passages do not say."""
_CONCLUDES = frozenset(["answer", "therefore", "thus", "hence", "conclusion", "final"])
"""A last line with one of these and the right answer meant to conclude."""


def first_fault(trajectory: Trajectory, gold: Gold | None = None) -> Fault | None:
    """None for a right answer (exact match). `gold`: the right chain; by default what the question's own record says of it.

    Raises:
        DataError: the question has no answer.
    """
    question = trajectory.question
    if not question.answers:
        raise DataError("a question without an answer cannot be scored", where=f"question {question.id}",
                        fix="give it an answer in the questions file, or leave it out")
    if best(em, trajectory.answer, question.answers) == 1:
        return None
    return _Case(trajectory, gold or gold_of(question)).fault()


class _Case:
    """One wrong answer."""

    def __init__(self, trajectory: Trajectory, gold: Gold) -> None:
        self.trajectory, self.gold, self.steps = trajectory, gold, trajectory.steps
        self.walked: list[Walked] = walk(trajectory, gold)
        self.said, self.accepted = trajectory.answer, trajectory.question.answers

    def fault(self) -> Fault:
        last = len(self.steps) or None
        if self.trajectory.stop == "error":
            return self._fault("error", None, "a node failed")
        if self.said.strip() and in_another_form(self.said, self.accepted):
            return self._fault("format", last, f"`{self.said}` is `{self.accepted[0]}` in another form")
        if self._is_right_by_the_chain():
            return self._fault("wrong_gold", last, f"the chain comes to `{self.gold.answer}`, not `{self.accepted[0]}`")
        missing = self._missing()
        if missing and self.steps:
            return self._of_missing(missing)
        return self._of_the_end()

    def _is_right_by_the_chain(self) -> bool:
        own = (self.gold.answer,)
        return bool(own[0]) and best(em, own[0], self.accepted) < 1 and (best(em, self.said, own) == 1 or in_another_form(self.said, own))

    def _missing(self) -> list[int]:
        """The hops that no line states; of mere supports, which have no order, those that were never found before the others."""
        left = unstated(self.gold, self.walked)
        if self.gold.certainty == "supports":
            left.sort(key=lambda place: bool(self.walked) and place in self.walked[-1].read)
        return left

    def _of_missing(self, missing: Sequence[int]) -> Fault:
        """Of the steps that could have stated the first missing hop (of mere supports: any of them), the first that states nothing
        right. While its passage is not found, a line that says so may be mended yet; one that says something else is not."""
        place, candidates = missing[0], missing if self.gold.certainty == "supports" else missing[:1]
        link, idle = self.gold.links[place], self._idle_from(self._turn_of(place))
        if not idle:
            return self._ended(place)
        for step in idle:
            seen = self.walked[step - 1]
            here = next((one for one in candidates if one in seen.read), None)
            if here is not None:
                return self._of_reading(step, here)
            if seen.strange:
                return self._of_search(step, link)
        return self._of_search(idle[0], link)

    def _turn_of(self, place: int) -> int:
        """The step that should have stated a hop: behind those that stated the hops before it."""
        if self.gold.certainty == "supports":
            return 1
        return 1 + max((step for step, seen in enumerate(self.walked, start=1) if any(one < place for one in seen.stated)), default=0)

    def _idle_from(self, first: int) -> list[int]:
        return [step for step in range(first, len(self.steps) + 1) if not self.walked[step - 1].stated]

    def _of_search(self, step: int, link: Link) -> Fault:
        """The passage is not there. A query of the model's own that names another thing, and not what the hop is about, is why."""
        query, before = self.steps[step - 1].query, self.steps[step - 2].rationale if step > 1 else ""
        is_own = query not in (self.trajectory.question.text, before)
        named = [name for name in names_in(query) if name != words(link.subject)]
        is_right = words(link.subject) in names_in(query) if self.gold.closed else words(link.subject) <= words(query)
        if is_own and link.subject and named and not is_right:
            return self._fault("wrong_entity", step, f"the query asks for `{' '.join(sorted(named[0]))}`, not `{link.subject}`")
        return self._fault("not_retrieved", step, f"{told(link)} was not found by `{query}`")

    def _of_reading(self, step: int, place: int) -> Fault:
        """The passage is there; the line does not say what it states."""
        link, seen, taken = self.gold.links[place], self.walked[step - 1], self.steps[step - 1]
        if seen.strange:
            return self._fault("wrong_entity", step, f"the line says `{seen.strange}`, not {told(link)}")
        if seen.again and self._is_stuck_from(step):
            return self._fault("never_stopped", step, "repeats what it had said, until the budget was spent")
        if not seen.again and (other := contradicts(taken.rationale, link)):
            return self._fault("wrong_entity", step, f"the line says `{other}`, not {told(link)}")
        if step == len(self.steps) and self.trajectory.stop == "answered":
            return self._of_conclusion(step, place)
        return self._fault("not_used", step, f"{told(link)} had been found")

    def _is_stuck_from(self, step: int) -> bool:
        return self.trajectory.stop == "budget" and not any(seen.stated for seen in self.walked[step - 1 :])

    def _of_conclusion(self, step: int, place: int) -> Fault:
        """It concludes in a line that does not state the hop, though it could have."""
        said = frozenset(normalise(self.said).split())
        # A question of yes or no may be answered with a plain no.
        is_plain = said <= PLAIN_ANSWERS and any(words(answer) <= PLAIN_ANSWERS for answer in self.accepted)
        if said <= _GIVES_UP and not is_plain:
            return self._fault("not_used", step, f"gave up, though {told(self.gold.links[place])} had been found")
        before = words(" ".join([self.trajectory.question.text, *(one.rationale for one in self.steps[: step - 1])]))
        if words(self.said) <= before | PLAIN_ANSWERS:
            return self._ended(place)
        return self._fault("wrong_entity", step, f"concludes `{self.said}` without {told(self.gold.links[place])}")

    def _ended(self, place: int) -> Fault:
        """Every line was right, and there were too few of them."""
        step, link = len(self.steps), self.gold.links[place]
        if self.trajectory.stop == "budget":
            return self._fault("never_stopped", step, f"the budget was spent before {told(link)}")
        return self._fault("stopped_early", step, f"concluded before {told(link)}")

    def _of_the_end(self) -> Fault:
        """The chain is right as far as anybody knows; what it came to is not."""
        step = len(self.steps) or None
        meant = self._meant_to_conclude() if self.trajectory.stop == "budget" else None
        if meant or not self.said.strip():
            return self._fault("format", meant or step, "no answer could be read")
        if self.trajectory.stop == "budget":
            idle = self._idle_from(1 + max((at for at, seen in enumerate(self.walked, start=1) if seen.stated), default=0))
            return self._fault("never_stopped", idle[0] if idle else step, "went on until the budget was spent")
        if self.gold.certainty == "supports" and self._is_right_by_the_supports():
            return self._fault("wrong_gold", step, f"the supporting passages say `{self.said}` and do not say `{self.accepted[0]}`")
        over = next((at for at, seen in enumerate(self.walked, start=1) if seen.strange and not seen.stated), None)
        why = "went on behind the last hop, and " if over and self.gold.certainty == "chain" else ""
        return self._fault("wrong_entity", over or step, f"{why}concludes `{self.said}`")

    def _meant_to_conclude(self) -> int | None:
        """The first step whose line says the right answer in words that conclude, but not in those the graph reads."""
        right = [words(answer) for answer in self.accepted]
        for number, step in enumerate(self.steps, start=1):
            line, concludes = step.rationale, _CONCLUDES & frozenset(normalise(step.rationale).split())
            if concludes and not find_answer(line) and any(one <= words(line) for one in right):
                return number
        return None

    def _is_right_by_the_supports(self) -> bool:
        """The answer stands in a supporting passage that was read, and no accepted one in any, though all of them were."""
        held = _held(self.steps, self.trajectory.question.supporting_ids)
        accepted, said = [words(answer) for answer in self.accepted], words(self.said)
        is_plain = any(not one or one <= PLAIN_ANSWERS for one in [*accepted, said])
        return not is_plain and any(said <= one for one in held) and not any(right <= one for right in accepted for one in held)

    def _fault(self, label: FaultLabel, step: int | None, detail: str) -> Fault:
        return Fault(label=label, step=step, detail=detail, certainty=self.gold.certainty)


def in_another_form(said: str, accepted: Sequence[str]) -> bool:
    """The right answer with more around it, its words in another order (a date), or its letters without their accents."""
    return any(_is_within(said, answer) or _bag(said) == _bag(answer) for answer in accepted)


def told(link: Link) -> str:
    """A hop in words."""
    about = f"the {link.relation} of {link.subject}" if link.relation else link.subject
    known = f"{about} ({', '.join(link.objects)})" if about and link.objects else about or ", ".join(link.objects)
    source = ", ".join(link.passages) or ", ".join(link.titles)
    return f"{known} [{source}]" if known and source else known or f"passage {source}"


def _is_within(said: str, answer: str) -> bool:
    """A plain yes or no must come first or last: `there is no such thing` does not say no."""
    wanted, tokens = normalise(answer), normalise(said).split()
    return bool(wanted) and (wanted in (*tokens[:1], *tokens[-1:]) if wanted in PLAIN_ANSWERS else acc(said, answer) == 1)


def _bag(text: str) -> list[str]:
    bare = unicodedata.normalize("NFKD", text.replace("-", " "))
    return sorted(normalise("".join(letter for letter in bare if not unicodedata.combining(letter))).split())


def _held(steps: Sequence[Step], ids: Sequence[str]) -> list[frozenset[str]]:
    """The words of the passages with these ids that were read; nothing if one of them was not."""
    read = {hit.passage.id: words(f"{hit.passage.title} {hit.passage.text}") for step in steps for hit in step.hits}
    return [read[id] for id in ids] if all(id in read for id in ids) else []
