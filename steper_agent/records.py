"""Every fact that crosses a door: disk, network or room. Everyone imports this file; it imports nobody of ours."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Kind = Literal["initialization", "expansion", "aggregation"]
"""The reasoning ability a step trains (StepER, section 3): first step, middle steps, last step."""

KINDS: tuple[Kind, ...] = ("initialization", "expansion", "aggregation")

View = Literal["stepwise", "vanilla", "single_step", "chain_of_note", "sail", "self_rag"]
"""What is taught of a trajectory: one example a step, the last step's only, or the chain retold as one of the rivals would."""

Node = Literal["begin", "form_query", "retrieve", "reason", "answer", "label", "score"]
"""The first five are the run's own. A `label` is what a teacher says where another model's run asked that model; a `score` is how
likely it holds what was said there. Neither changes the run."""

State = Literal["reason", "answer"]
"""Where a run asks a model: for its next turn, or for the answer because nothing more may be read."""

Outcome = Literal["ok", "parse_error", "timeout", "empty_retrieval", "error"]
"""How a node ended. Everything but `ok` is data too: a failed node is recorded, never stored as an answer."""

Stop = Literal["answered", "budget", "error"]
"""Why a run ended: the chain concluded, the step budget was spent, or a node failed."""


class Record(BaseModel):
    """Frozen and closed: an unknown field is an error, a field never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Passage(Record):
    id: str
    title: str
    text: str


class Hit(Record):
    passage: Passage
    score: float
    """Higher is better. Comparable only inside one search."""


class Question(Record):
    id: str
    text: str
    answers: tuple[str, ...] = ()
    """Accepted answers, the canonical one first. Empty when nobody knows."""
    supporting_ids: tuple[str, ...] = ()
    """Ids of the gold passages."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """Whatever the source says besides: hops, type, split. Plain JSON."""


class Call(Record):
    """A tool call of the model's turn and, once it was made, what came back."""

    tool: str
    """`search`, or the name of a tool the caller passed."""
    arguments: dict[str, Any]
    passage_ids: tuple[str, ...] = ()
    """Of a search: the passages it added, best first."""
    result: str = ""
    """Of any other tool: what it returned, as text."""


class Step(Record):
    query: str
    """Several searches side by side are joined by `; `."""
    hits: tuple[Hit, ...]
    """Only the passages this step added, best first; a passage seen in an earlier step is not repeated."""
    rationale: str
    """One line of reasoning, without its line end."""
    calls: tuple[Call, ...] = ()
    """The tool calls that opened the step, where the strategy makes them; elsewhere a step is one search."""


class Likely(Record):
    """How likely a model held the tokens of a turn, and the likeliest in the place of each: lists as long as `tokens`. Natural
    logarithms before temperature, rounded to 4 digits."""

    model: str
    """Version of the model that says so; it need not have written the turn."""
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of `tokens`."""
    top_ids: tuple[tuple[int, ...], ...]
    """The likeliest tokens in each place, the likeliest first."""
    top_logprobs: tuple[tuple[float, ...], ...]


class Label(Record):
    """What a teacher says in a state that another model's run reached."""

    step: int
    """Steps the run had opened by then; 0 is before the first search."""
    of: State
    rationale: str
    """Its turn there; of the state `answer`, the answer. Where it is scored, the run's own turn."""
    calls: tuple[Call, ...] = ()
    """What it asks for next."""
    answer: str = ""
    """If it concludes."""
    scored: bool = False
    """The teacher wrote nothing: `likely` is how likely it holds the run's own turn."""
    taken: bool = False
    """The run went on with it."""
    likely: Likely | None = None
    model: str
    """Version of the teacher."""
    round: int = 1
    """Of DAgger: how many students had been taught from labels before, and one."""


class Trajectory(Record):
    question: Question
    strategy: str
    opening: str = ""
    """What the model said before the first search, in strategies that let it speak first."""
    steps: tuple[Step, ...]
    answer: str
    stop: Stop
    model: str
    """Version of the model that served the whole run."""
    recipe: str
    """Digest of everything that shaped the run: strategy, prompts, k, budget, index."""
    labels: tuple[Label, ...] = ()
    """Of the states of the run, in their order, where a teacher labelled them."""
    likely: dict[int, Likely] = Field(default_factory=dict)
    """By step (0: the opening), how likely its model held the turn it wrote, where it was asked to tell."""


class Usage(Record):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    """Prompt tokens the engine had computed before; None where it does not say."""


class NodeRecord(Record):
    """One line of the journal: one node of one run."""

    line: Literal["node"] = "node"
    run: str
    question_id: str
    node: Node
    step: int
    """Counted from 1; what comes before the first search is step 0."""
    key: str
    """Digest of what the node was given; equal keys mean equal work, so a resumed run recalls instead of repeating."""
    of: State | None = None
    """Of a label or a score: which kind of state it is about."""
    input: str
    """The prompt, as text, or the query."""
    output: str
    """What the node made of it: question, query, rationale or answer; empty for `retrieve`."""
    hits: tuple[Hit, ...] = ()
    calls: tuple[Call, ...] = ()
    """Of `reason`: what the turn asks for next. Of `retrieve`: the tool calls made, with their results."""
    answer: str = ""
    """Of `reason`: the answer, if the turn concludes."""
    prompt_ids: tuple[int, ...] = ()
    """Token ids sent to the model, where we hold its tokenizer."""
    output_ids: tuple[int, ...] = ()
    likely: Likely | None = None
    """How likely the model held `output_ids`, where it was asked to tell."""
    model: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Decoding parameters or search settings."""
    usage: Usage | None = None
    seconds: float
    """Wall clock of this node."""
    outcome: Outcome
    note: str = ""
    """For an outcome other than `ok`: what happened, in words."""


class Finished(Record):
    """The journal line that closes a run; its steps are the node lines before it."""

    line: Literal["finished"] = "finished"
    run: str
    question: Question
    strategy: str
    answer: str
    stop: Stop
    model: str
    recipe: str
    seconds: float
    """Wall clock of the whole run."""


class Swapped(Record):
    """The journal line of a swap: which version new runs got from then on, or why not."""

    line: Literal["swap"] = "swap"
    time: AwareDatetime
    """UTC, at its end."""
    before: str
    after: str
    """The same as `before` where the swap failed."""
    ok: bool
    reason: str = ""
    seconds: dict[str, float]
    """Of every phase that began, in their order."""


class Exchange(Record):
    """A question of a conversation, and what came of it."""

    time: AwareDatetime
    """UTC, when it was asked."""
    asked: str
    """As a person wrote it; the trajectory has the question that stands alone."""
    trajectory: Trajectory
    rests_on: tuple[tuple[str, ...], ...] = ()
    """For every step, the ids of the passages that its rationale rests on."""
    supported: bool = False
    """Whether a passage that was read states the answer."""
    seconds: float
    usage: Usage | None = None
    note: str = ""
    """Of a run that failed or was stopped: what happened."""


class Conversation(Record):
    id: str
    title: str
    """The first question, until somebody names it."""
    created: AwareDatetime
    updated: AwareDatetime
    exchanges: int


class Example(Record):
    """One training sequence: what the model sees and what it is asked to learn."""

    trajectory: int
    """Row of the trajectory in the data set."""
    kind: Kind
    step: int
    ids: tuple[int, ...]
    """Prompt and target, token ids."""
    learn: tuple[int, ...]
    """1 where the token is a target, 0 elsewhere; as long as `ids`."""
    turn: int
    """Where in `ids` the step's own turn begins: before it stands what the graph sends at this step."""
    likely: Likely | None = None
    """How likely a teacher held the tokens from `turn` on, where it told; the token that ends a turn may lie behind them."""


class Score(Record):
    em: float
    f1: float
    acc: float
    """Share of predictions that contain a gold answer."""
    n: int
    ci: tuple[float, float]
    """95 % bootstrap interval of `em`."""


class StudentCard(Record):
    """What travels with a student's adapter."""

    name: str
    """`student@` and the first 12 hex digits of the content hash."""
    content: str
    """SHA-256 over the adapter's files."""
    base: str
    """Fingerprint of the base model: architecture, sizes, tokenizer, weights."""
    form: Literal["adapter", "full"]
    target: Literal["cumulative", "incremental"]
    view: View
    data: str
    """Digest of the data set it was trained on."""
    sigma: dict[Kind, float]
    weighting: str
    scores: dict[str, float] = Field(default_factory=dict)
    parameters: int
    """Trainable parameters."""
    created_by: str
    """The command that made it."""


Mode = Literal["auto", "adapter", "merged", "full"]
"""How a student is served: as an adapter beside its base, merged into a copy of its base, or as the full weights it is.
The latter two stand up a second model and need its memory for as long as the old one drains. `auto` is what its card says."""


class Golden(Record):
    """What a student's trainer saw it say to one step's prompt; a served student must say the same."""

    kind: Kind
    step: int
    prompt: tuple[int, ...]
    """Token ids."""
    output: tuple[int, ...]
    """Greedy token ids."""
    logprobs: tuple[float, ...]
    """Natural logarithms, one a token of `output`."""
    margins: tuple[float, ...]
    """By how much each token's log-probability is above that of the next likeliest; small ones may tip in another engine."""
    rivals: tuple[int, ...]
    """Those next likeliest tokens."""

    @model_validator(mode="after")
    def _one_of_each_a_token(self) -> Self:
        if not len(self.output) == len(self.logprobs) == len(self.margins) == len(self.rivals):
            raise ValueError("not as many logprobs, margins and rivals as tokens of output")
        return self


Action = Literal["added", "promoted", "rolled_back", "pruned", "refused"]
"""What happened to a student. `refused`: a serving process could not take what was promoted; it changes no state."""


class StudentEvent(Record):
    """One line of a registry's history."""

    time: AwareDatetime
    """UTC."""
    action: Action
    student: str | None = Field(pattern=r"^student@[0-9a-f]{12}$")
    """None is the bare base: gone back to by `rolled_back`, or `refused`."""
    base: str
    """Fingerprint of the base it is a student of."""
    by: str
    """The command or process that did it."""
    reason: str = ""
    scores: dict[str, FiniteFloat] = Field(default_factory=dict)
    """What was known of its quality then: the card's figures, or a gate's."""
