"""Teach a student from a data set: python -m training.distill --dataset DIR --base DIR --out DIR

Trains a LoRA adapter (or all weights) with the step-wise, difficulty-aware objective, shows loss and σ of each kind as
it goes, and leaves a student with its card. Killed at any moment, the same command goes on from the last checkpoint and
comes to the same student.

  python -m training.distill inspect --dataset DIR    shows what is learned of an example; see inspect --help
  python -m training.distill merge --student DIR …    adds an adapter into a copy of its base; see merge --help
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from steper_agent.config import Config, command_line
from steper_agent.durable import write_atomic
from steper_agent.errors import ConfigError, DataError
from steper_agent.records import Kind, Record, StudentCard
from training.disk import held, needed, refuse_too_little, room_for
from training.examples.dataset_folder import Dataset, DatasetCard, load_dataset, read_card
from training.loop.allocator import keep_memory
from training.loop.curve import Curve, CurvePoint
from training.loop.ranks import first_goes_ahead, is_first, meet, world
from training.loop.reporters import reporters
from training.loop.watch import Watch, Watched
from training.objective import parse_weighting
from training.run_folder import SETTINGS, claim
from training.verb import quiet_libraries, versions

if TYPE_CHECKING:
    from training.trees.pieces import Packing

CURVE, REPORT, STUDENT = "curve.jsonl", "report.json", "student"

OnUpdate = Callable[[CurvePoint, int], None]
"""Called with the newest point and the number of updates there will be."""


class DistillConfig(Config):
    dataset: Path = Field(description="folder made by training.dataset")
    base: Path = Field(description="folder of the base model; the one the data set was made for")
    out: Path = Field(description="run folder: checkpoints, curve, plots, report and student/")
    method: Literal["lora", "full"] = Field("lora", description="lora: adapter on all linear layers; full: all weights")
    rank: int = Field(32, gt=0, description="of the LoRA matrices")
    alpha: int = Field(64, gt=0, description="LoRA scale: alpha / rank")
    learning_rate: float = Field(2e-3, gt=0, description="peak; a large base wants 1e-4 (lora) or 5e-6 (full)")
    epochs: int = Field(1, gt=0, description="passes over the data set")
    max_steps: int = Field(0, ge=0, description="stop after so many updates instead; 0: go by epochs")
    batch: int = Field(16, gt=0, description="trajectories in one update")
    accumulate: int = Field(1, gt=0, description="micro-batches of an update on each process; changes memory, not the result")
    piece_tokens: int = Field(0, ge=0, description="most tokens of one forward and backward pass, of a token tree up to four times as many where "
                                                   "its examples share most of theirs: bounds memory, changes no result; a GPU with memory to spare "
                                                   "is quicker with more; 0: 4,096")
    packing: Literal["auto", "trees", "rows"] = Field(
        "auto", description="trees: what examples share is computed once; rows: one by one; auto: trees where the base allows it. "
                            "Changes time and memory, not the result")
    weighting: str = Field("learned", description="learned, ema, uniform, or fixed:a,b,c (first, middle, last step)")
    kl: float = Field(0.0, ge=0, description="weight of the divergence from the teacher's log-probabilities, which the data set must have")
    sigma_rate: float = Field(0.02, gt=0, description="learning rate of log σ²")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the updates with a rising rate")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no limit")
    bf16: bool = Field(False, description="compute in bfloat16, keep weights in float32")
    seed: int = Field(0, description="of the adapter's first weights and of the data's order")
    save_every: int = Field(50, gt=0, description="updates between checkpoints")
    report_to: str = Field("none", description="also send every update's figures to tensorboard, wandb (Weights & Biases) or both, parted by a comma")
    dry_run: bool = Field(False, description="print what the run will take (tokens, updates, memory, time, disk) and write nothing")


FREE = ("dataset", "base", "out", "save_every", "report_to", "packing", "piece_tokens", "dry_run")
"""Settings that may change between a run and its resumption: what lies at the two paths is compared by digest."""


class Begun(DistillConfig):
    """What a run folder was begun with."""

    data: str
    """Digest of the data set."""
    fingerprint: str
    """Of the base."""


class Distilled(Record):
    """What a run came to; also its report.json."""

    student: Path
    name: str
    steps: int
    sigma: dict[Kind, float]
    seconds: float
    tokens: int
    parameters: int
    """Trained."""
    settings: dict[str, Any]
    versions: dict[str, str]
    curve: list[CurvePoint]
    warnings: list[str] = Field(default_factory=list)
    """What the run tells against itself (training.loop.watch)."""


def main(argv: Sequence[str] | None = None) -> int:
    from training.loop.live import Live

    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["inspect"]:
        from training.examples.inspect_example import main as inspect

        return inspect(words[1:])
    if words[:1] == ["merge"]:
        from training.student.merge import main as merge

        return merge(words[1:])
    config = command_line(DistillConfig, "distill", __doc__ or "", words)
    if config.dry_run:
        if is_first():
            print(dry_run(config))
        return 0
    if not is_first():
        run(config)
        return 0
    with Live() as live:
        done = run(config, on_update=live.show, on_note=live.note, command=shlex.join(["python", "-m", "training.distill", *words]))
    print(f"{done.name} after {done.steps} updates, {done.seconds:.0f} s of training")
    print(f"student: {done.student}\nplots:   {config.out / 'loss.png'}, {config.out / 'sigma.png'}")
    return 0


def run(config: DistillConfig, *, on_update: OnUpdate | None = None, on_note: Callable[[str], None] = print,
        command: str = "distill.run") -> Distilled:  # fmt: skip
    """Train to the end, from the newest checkpoint if there is one; a finished run is only read. Every process of a run calls it.

    Raises:
        ConfigError: the run folder was made with other settings, or the work of another program.
        DataError: the data set was made for another base, or is damaged; or a checkpoint does not come back as it was saved.
        DiskFull: there is no room for what the run writes.
        Diverged: a loss or a gradient is no number.
    """
    card = _checked(config)
    with first_goes_ahead():
        _refuse_others_work(config.out)
        claim(config.out, Begun(**config.model_dump(), data=card.digest, fingerprint=card.base), free=FREE)
    if not (config.out / REPORT).is_file():
        watch = Watch(Watched(config.weighting, config.sigma_rate, config.clip, card), on_note if is_first() else lambda _words: None)
        trainer = _train(config, watch, on_update, on_note)
        weights = trainer.whole_weights()
        if is_first():
            _finish(config, card, trainer, weights, watch, command)
        meet()
    return Distilled.model_validate_json((config.out / REPORT).read_bytes())


def dry_run(config: DistillConfig) -> Any:
    """What `run` would take (training.loop.plan.Plan); nothing is written.

    Raises:
        ConfigError, DataError: as `run` does, but for what the run folder holds.
    """
    import torch

    from training.loop.plan import Planned, plan
    from training.loop.trainer import budget_of
    from training.trees.pieces import TOKENS

    _checked(config)
    model, data, packing, reason, pad = _prepare(config)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return plan(Planned(
        model=model, data=data, packing=packing, reason=reason, budget=budget_of(model, config.piece_tokens or TOKENS), pad=pad, batch=config.batch,
        micro=config.batch // config.accumulate // world(), processes=world(), epochs=config.epochs, max_steps=config.max_steps,
        save_every=config.save_every, bf16=config.bf16, seed=config.seed, out=config.out,
    ))  # fmt: skip


def _refuse_others_work(out: Path) -> None:
    """Once the folder is claimed, a checkpoint without our mark and a student without a report count as cut short by a crash, and are
    removed."""
    other = next((path for pattern in ("checkpoint-*", STUDENT) for path in out.glob(pattern)), None)
    if other and not (out / SETTINGS).exists():
        raise ConfigError(f"there is work of another program here ({other.name})", where=out, fix="give another --out")


def _checked(config: DistillConfig) -> DatasetCard:
    parse_weighting(config.weighting)
    reporters(config.report_to)
    if config.batch % (config.accumulate * world()):
        raise ConfigError(f"{config.batch} trajectories do not split into {config.accumulate} micro-batches on {world()} processes each",
                          where="batch and accumulate", fix="choose a multiple of both")
    card = read_card(config.dataset)
    _refuse_other_base(config, card)
    _refuse_silence(config, card)
    return card


def _refuse_silence(config: DistillConfig, card: DatasetCard) -> None:
    """A term that has nothing to work on, or examples that only that term could teach."""
    if config.kl and not card.examples_with_likely:
        raise ConfigError("the data set has none of the teacher's log-probabilities", where=config.dataset,
                          fix="collect with --logprobs or --score, and make the data set with --teacher; or leave --kl out")
    if not config.kl and not card.learned_tokens:
        raise ConfigError("nothing in this data set is learned as text: its turns were scored by a teacher", where="kl",
                          fix="give --kl 1")


def _refuse_other_base(config: DistillConfig, card: DatasetCard) -> None:
    from steper_agent.students.fingerprint import base_fingerprint

    found = base_fingerprint(config.base)
    if found != card.base:
        raise DataError(f"the data set was made for base {card.base[:12]}, this one is {found[:12]}",
                        where=config.dataset, fix=f"make it again: python -m training.dataset --base {config.base} …")


class Prepared(NamedTuple):
    model: Any
    data: Dataset
    packing: Packing
    reason: str
    """Why not trees, where they were wanted."""
    pad: int


def _prepare(config: DistillConfig) -> Prepared:
    from transformers import set_seed

    from steper_agent.models.loading import open_tokenizer
    from training.loop.student_model import open_for_training, packing_for, with_adapter

    quiet_libraries()
    keep_memory()
    data = load_dataset(config.dataset)
    tokenizer = open_tokenizer(config.base)
    pad = next(id for id in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if id is not None)
    set_seed(config.seed)
    model = open_for_training(config.base)
    packing, reason = packing_for(model, config.packing, data.trajectories)
    if config.method == "lora":
        model = with_adapter(model, config.rank, config.alpha)
    return Prepared(model, data, packing, reason, pad)


def _train(config: DistillConfig, watch: Watch, on_update: OnUpdate | None, on_note: Callable[[str], None]) -> Any:
    from training.loop.resume import newest_checkpoint
    from training.loop.trainer import Objective, StepERTrainer
    from training.trees.pieces import TOKENS

    arguments = _arguments(config)
    model, data, packing, reason, pad = _prepare(config)
    if reason:
        on_note(f"every example is trained by itself, not as a token tree: {reason}")
    refuse_too_little("the checkpoints and the student", config.out, needed(_trained(model)), taken=held(config.out),
                      or_else="; --method lora needs far less")
    objective = Objective(config.weighting, config.sigma_rate, packing, pad, config.kl, config.piece_tokens or TOKENS)
    trainer = StepERTrainer(model, arguments, data, objective, Curve(config.out / CURVE))
    watch.begin()

    def show(point: CurvePoint) -> None:
        watch.look(point.step, trainer.state.max_steps, trainer.clipped)
        if on_update:
            on_update(point, trainer.state.max_steps)

    trainer.on_update = show
    with first_goes_ahead():
        checkpoint = newest_checkpoint(config.out)
    trainer.train_from(checkpoint)
    return trainer


def _trained(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _arguments(config: DistillConfig) -> Any:
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(config.out), seed=config.seed, learning_rate=config.learning_rate, weight_decay=0.0,
        num_train_epochs=config.epochs, max_steps=config.max_steps or -1, warmup_steps=config.warmup,
        per_device_train_batch_size=config.batch // config.accumulate // world(), gradient_accumulation_steps=config.accumulate,
        max_grad_norm=config.clip, bf16=config.bf16, use_cpu=not torch.cuda.is_available(), save_strategy="steps",
        save_steps=config.save_every, save_total_limit=2, logging_steps=1,
        logging_strategy="steps" if reporters(config.report_to) else "no", report_to=reporters(config.report_to) or "none", disable_tqdm=True, remove_unused_columns=False,
        dataloader_num_workers=0, dataloader_pin_memory=torch.cuda.is_available(), eval_strategy="no", ddp_find_unused_parameters=False,
    )  # fmt: skip


def _finish(config: DistillConfig, card: DatasetCard, trainer: Any, weights: Any, watch: Watch, command: str) -> None:
    from steper_agent.models.loading import open_tokenizer
    from steper_agent.students.golden import write_golden
    from steper_agent.students.student import save_student
    from training.loop.plots import draw_curves
    from training.student.card import Taught, write_model_card
    from training.student.goldens import goldens_of

    folder = config.out / STUDENT
    # A crash while it was being written may have left half a student.
    shutil.rmtree(folder, ignore_errors=True)
    curve = trainer.curve.read()
    watch.end(curve, trainer.clipped)
    with room_for("the student", folder):
        trainer.model.save_pretrained(folder, state_dict=weights)
        (folder / "README.md").unlink(missing_ok=True)
        if config.method == "full":
            open_tokenizer(config.base).save_pretrained(folder)
        write_golden(folder, goldens_of(config.base, folder, trainer.data.trajectories))
        student = save_student(folder, StudentCard(
            name="", content="", base=card.base, form="full" if config.method == "full" else "adapter", target=card.target,
            view=card.view, data=card.digest, sigma=trainer.difficulty.told(), weighting=config.weighting, parameters=_trained(trainer.model),
            created_by=command,
        ))  # fmt: skip
        settings = config.model_dump(mode="json")
        write_model_card(folder, Taught(student, config.base, card, settings, curve, watch.warnings))
    with room_for("the report", config.out / REPORT):
        draw_curves(curve, config.out)
        done = Distilled(student=folder, name=student.name, steps=curve[-1].step, sigma=student.sigma, seconds=curve[-1].seconds,
                         tokens=curve[-1].tokens, parameters=student.parameters, settings=settings, versions=versions(), curve=curve,
                         warnings=watch.warnings)
        write_atomic(config.out / REPORT, done.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    from training.verb import run as run_verb

    sys.exit(run_verb(main))
