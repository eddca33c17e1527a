"""What `hatstand evaluate` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from registry.bases import find_base, read_base
from registry.canonical import digest_file
from registry.errors import RegistryError
from registry.hats import Hat
from registry.hosts import open_host
from registry.opening import AnyRegistry, open_registry
from registry.referrers import EVALUATION
from registry.statements import state
from training.errors import BaseError, DataError, ForgetsTooMuch
from training.examples import Example
from training.foundation import prepare
from training.progress import Progressing
from training.provenance import environment

from .comparison import Comparison
from .difficulty import BUCKETS, Bucket, groups
from .forgetting import BUDGET, Forgetting
from .general import read_text, windows
from .pictures import plot_groups
from .report import REPORT_FILE, Report
from .rows import read_rows_like
from .scores import Side, score_group
from .words import bleu_signature

if TYPE_CHECKING:
    from registry.hosts import AnsweringHost
    from registry.lock import Lock
    from registry.versions import Version

    from .likelihood import Likelihood

PLOT_FILE = "evaluation.png"
_MAX_TOKENS = 128  # of an answer, where the hat sets no limit


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation measures beyond its rows."""

    most_rows: int | None = None
    buckets: tuple[Bucket, ...] = BUCKETS
    data: Mapping[str, Any] = field(default_factory=dict)  # keys of a recipe's `data` section
    general: Path | None = None  # text for the forgetting check; None: the one that comes along
    budget: float = BUDGET
    base: str | None = None  # another name or folder of the version's base
    batch_size: int = 8


@dataclass(frozen=True)
class BaseAnswers:
    """What a bare base answered under a hat: asked again, it would say the same."""

    fingerprint: str
    hat: Hat
    examples: tuple[Example, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """One version on some rows, beside its base."""

    registry: AnyRegistry
    version: Version
    files: tuple[Path, ...]
    options: EvaluationOptions
    progress: Progressing
    known: Sequence[BaseAnswers] = ()

    def run(self) -> tuple[Report, BaseAnswers]:
        """Measure everything; raises a `TrainingError` or `RegistryError`.

        The base's answers that are in `known` already are not asked for again.
        """
        from transformers import AutoTokenizer

        from training.rendering import Renderer

        options, lock = self.options, self.registry.lock(self.version)
        hat = self.registry.hat(self.version)
        examples = read_rows_like(lock, self.files, options.data, most=options.most_rows)
        text = read_text(options.general)
        base = self._base(lock)
        tokenizer = AutoTokenizer.from_pretrained(base)
        renderer = Renderer(tokenizer, hat)
        samples = [renderer.sample(example) for example in examples]
        pieces = windows(text, tokenizer)
        measured = self._measure(base, [*samples, *pieces])
        rows = [side[: len(samples)] for side in measured]
        base_answers, adapter_answers = self._ask(base, hat, examples)
        report = self._report(
            examples,
            base=Side(base_answers, tuple(rows[0])),
            adapter=Side(adapter_answers, tuple(rows[1])),
            forgetting=self._forgetting(*(side[len(samples) :] for side in measured)),
        )
        return report, BaseAnswers(lock.base.fingerprint, hat, examples, base_answers)

    def _base(self, lock: Lock) -> Path:
        """The folder of the version's base; raises `BaseError` when it is another."""
        try:
            folder = find_base(self.options.base or lock.base.name)
            found = read_base(folder)
        except RegistryError as error:
            raise BaseError(f"{error.message}\n(or name the base's folder with --base)") from error
        if found.fingerprint != lock.base.fingerprint:
            raise BaseError(
                f"{self.version.ref} was trained on {lock.base.name}, and {folder} is another base."
            )
        return folder

    def _measure(self, base: Path, texts: Sequence[Any]) -> Sequence[Sequence[Likelihood]]:
        from .pair import Pair

        with self.progress.phase("loss", f"reading {len(texts)} texts with base and adapter"):
            pair = Pair.load(base, self.registry, self.version, batch_size=self.options.batch_size)
            return pair.measure(texts)

    def _ask(
        self, base: Path, hat: Hat, examples: Sequence[Example]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The engine's greedy answers: the bare base's under the adapter's hat, the adapter's."""
        host = open_host(self.registry, str(base), what="an evaluation")
        with (
            self.progress.phase("answers", f"asking the engine {len(examples)} questions"),
            host as h,
        ):
            prompts = [h.prompt_ids(hat, example.prompt) for example in examples]
            base_answers = self._known(hat, examples) or self._answers(h, None, prompts, hat)
            return base_answers, self._answers(h, self.version, prompts, hat)

    def _known(self, hat: Hat, examples: Sequence[Example]) -> tuple[str, ...] | None:
        wanted = (self.version.base_fingerprint, hat, tuple(examples))
        for each in self.known:
            if (each.fingerprint, each.hat, each.examples) == wanted:
                return each.answers
        return None

    def _answers(
        self, host: AnsweringHost, version: Version | None, prompts: Any, hat: Hat
    ) -> tuple[str, ...]:
        limit = hat.sampling.max_tokens or _MAX_TOKENS
        return tuple(host.answers(version, prompts, max_tokens=limit, stop=hat.stop))

    def _forgetting(self, base: Sequence[Likelihood], adapter: Sequence[Likelihood]) -> Forgetting:
        from .likelihood import total

        return Forgetting(total(base), total(adapter), self.options.budget)

    def _report(
        self, examples: Sequence[Example], *, base: Side, adapter: Side, forgetting: Forgetting
    ) -> Report:
        found = groups(examples, self.options.buckets)
        return Report(
            subject=self.version.ref,
            digest=self.version.digest,
            base_fingerprint=self.version.base_fingerprint,
            data={path.name: digest_file(path) for path in self.files},
            groups=tuple(
                score_group(name, rows, examples, base, adapter) for name, rows in found.items()
            ),
            forgetting=forgetting,
            how={"bleu": bleu_signature(), "answers": "greedy, by the engine that serves"},
            environment=environment(),
        )


def evaluate(
    references: Sequence[str],
    files: Sequence[Path],
    *,
    registry: Path | str | None = None,
    options: EvaluationOptions | None = None,
    output: Path | None = None,
    post: bool = True,
    console: Console | None = None,
) -> tuple[Report, ...]:
    """Evaluate versions on the rows of `files`, print a table, and state it in the registry.

    `output` is a folder for `evaluation.json` and `evaluation.png`, or of several versions
    `comparison.json` and `comparison.png`. Raises `ForgetsTooMuch` at the end when an adapter is
    over its budget on general text; everything is stated by then. A version that cannot be
    evaluated ends it too: what was measured before is stated and shown first.
    """
    console = console or Console()
    missing = [f"{path}: no such file" for path in files if not path.is_file()]
    if missing:
        raise DataError(missing)
    prepare()
    store, options = open_registry(registry), options or EvaluationOptions()
    versions = [store.resolve(reference) for reference in references]
    reports: list[Report] = []
    known: list[BaseAnswers] = []
    try:
        for version in versions:
            progress = Progressing(console)
            work = Evaluation(store, version, tuple(files), options, progress, known)
            report, answers = work.run()
            reports.append(report)
            known.append(answers)
            if post:
                state(store, version, EVALUATION, report.document())
                console.print(f"stated about [bold]{version.ref}[/bold] in the registry")
    finally:  # a version that fails leaves what was measured before it
        if reports:
            _show(reports, output, console)
    _judge(reports, console)
    return tuple(reports)


def _show(reports: Sequence[Report], output: Path | None, console: Console) -> None:
    """Print the table, and write it and its chart into `output`."""
    comparison = Comparison(tuple(reports))
    is_one = len(reports) == 1
    console.print(reports[0].table() if is_one else comparison.table())
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    if is_one:
        [report] = reports
        report.write(output / REPORT_FILE)
        plot_groups(report.groups, report.sides, output / PLOT_FILE, title=report.subject)
    else:
        comparison.write(output)


def _judge(reports: Sequence[Report], console: Console) -> None:
    """Say what each forgets; too much of it is an error."""
    over = []
    for report in reports:
        kept = report.forgetting
        if kept is not None:
            console.print(f"{report.subject}: {kept}", highlight=False)
            if not kept.is_kept:
                over.append(f"{report.subject} forgets more than it may: {kept}")
    if over:
        raise ForgetsTooMuch("\n".join(over))
