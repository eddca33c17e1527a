"""From what a step brought a sequence to what its reader is sent."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.detokenizer import Detokenizer
from server.engine.pooling import unit_vector
from server.engine.ports import Tokenizer
from server.engine.request import GenerationDelta, SamplingParams, TokenLogprob
from server.engine.sampled import Sampled
from server.engine.sequence import Sequence


@dataclass(frozen=True)
class DeltaWriter:
    """Takes sampled tokens into their sequences' texts, and finishes a sequence where it ends."""

    tokenizer: Tokenizer

    def detokenizer(self, params: SamplingParams) -> Detokenizer:
        """One sequence's own."""
        tokenizer = self.tokenizer
        decode = tokenizer.decode if params.skip_special_tokens else tokenizer.decode_all
        return Detokenizer(decode, params.stop, params.min_tokens)

    def write(self, sequence: Sequence, choice: Sampled) -> GenerationDelta:
        """What a token says that the sequence has just been given; it may be its last."""
        text = self._read(sequence, choice.token_id)
        if sequence.is_finished:
            text += sequence.detokenizer.flush()
            if sequence.stop_reason is None and sequence.detokenizer.stopped_by is not None:
                sequence.finish("stop", sequence.detokenizer.stopped_by)
        return GenerationDelta(
            text=text,
            token_ids=(choice.token_id,),
            logprobs=() if choice.logprob is None else (self._scored(choice, choice.logprob),),
            prompt_logprobs=self._prompt_logprobs(sequence),
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached,
            num_completion_tokens=sequence.num_generated,
            times=sequence.times if sequence.num_generated == 1 else None,
        )

    def _read(self, sequence: Sequence, token_id: int) -> str:
        """The token's text, as far as it is certain; finishes the sequence if it ends here."""
        params = sequence.params
        if token_id in params.stop_token_ids:
            sequence.finish("stop", token_id)
            return ""
        if token_id in self.tokenizer.eos_token_ids and not params.ignore_eos:
            sequence.finish("stop")
            return ""
        text = sequence.detokenizer.push(token_id)
        if sequence.detokenizer.stopped_by is not None:
            sequence.finish("stop", sequence.detokenizer.stopped_by)
        elif _completes(sequence, token_id):
            sequence.finish("stop")
        elif sequence.num_generated >= params.max_tokens:
            sequence.finish("length")
        return text

    def _prompt_logprobs(self, sequence: Sequence) -> tuple[TokenLogprob, ...]:
        """Those of the whole prompt, with the first token."""
        if sequence.num_generated > 1:
            return ()
        return tuple(
            self._scored(score, score.logprob)
            for score in sequence.scores
            if score.logprob is not None
        )

    def _scored(self, choice: Sampled, logprob: float) -> TokenLogprob:
        text = self.tokenizer.token_text
        top = tuple((token_id, text(token_id), value) for token_id, value in choice.top)
        return TokenLogprob(choice.token_id, text(choice.token_id), logprob, top)


def _completes(sequence: Sequence, token_id: int) -> bool:
    """Whether the token is the last that the sequence's grammar lets come."""
    if sequence.matcher is None:
        return False
    sequence.matcher.take(token_id)
    return sequence.matcher.is_over


def embedding_delta(sequence: Sequence) -> GenerationDelta | None:
    """The only delta of a sequence whose prompt was pooled; None if it has no finite embedding."""
    assert sequence.pooled is not None
    embedding = unit_vector(sequence.pooled)
    if embedding is None:
        return None
    return GenerationDelta(
        text="",
        token_ids=(),
        finish_reason="stop",
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_cached_tokens=sequence.num_cached,
        times=sequence.times,
        embedding=embedding,
    )
