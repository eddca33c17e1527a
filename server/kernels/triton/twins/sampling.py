"""Choose each row's next token by its own parameters: the definition."""

from __future__ import annotations

import torch

from server.kernels.triton.row_sampling import LOWEST_TEMPERATURE, NO_TOKEN, RowSampling

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
WORD = 0xFFFFFFFF


def argmax(logits: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """The largest of each row of `logits` [rows, vocab]: int64 [rows]; of equals the first.

    NO_TOKEN where the largest is not finite or a logit is not a number. out: where it goes.
    """
    largest = logits.amax(-1, keepdim=True)
    tokens = (logits == largest).int().argmax(-1)
    tokens = torch.where(largest[:, 0].isfinite(), tokens, NO_TOKEN)
    return tokens if out is None else out.copy_(tokens)


def sample(logits: torch.Tensor, parameters: RowSampling, positions: torch.Tensor) -> torch.Tensor:
    """One token id for each row of `logits` [rows, vocab]: int64 [rows].

    Greedy rows take `argmax`. Others divide by the temperature, keep what min_p, top_k and top_p
    leave (in this order; tokens that tie with the last one kept stay) and draw by the Gumbel race.
    positions: [rows] int64, where in its sequence the token will stand.
    """
    greedy = parameters.temperature < LOWEST_TEMPERATURE
    scaled = logits.float() / torch.where(greedy, 1.0, parameters.temperature)[:, None]
    lowest = _lowest_kept(scaled, parameters)
    tokens = torch.arange(logits.shape[1], device=logits.device)
    noise = gumbel_noise(parameters.seeds[:, None], tokens[None], positions[:, None])
    drawn = torch.where(scaled >= lowest[:, None], scaled + noise, -torch.inf)
    return torch.where(greedy, argmax(logits), argmax(drawn))


def _lowest_kept(scaled: torch.Tensor, parameters: RowSampling) -> torch.Tensor:
    """The smallest scaled logit of each row that all filters keep: [rows]."""
    vocab = scaled.shape[1]
    best = scaled.amax(-1)
    by_min_p = torch.where(parameters.min_p > 0, best + parameters.min_p.log(), -torch.inf)
    ordered = scaled.sort(descending=True).values
    count = torch.where(parameters.top_k > 0, parameters.top_k, vocab).clamp(max=vocab)
    by_top_k = ordered.gather(1, count.long()[:, None] - 1)[:, 0]
    lowest = torch.maximum(by_min_p, by_top_k)
    mass = torch.where(ordered >= lowest[:, None], (ordered - best[:, None]).exp(), 0.0)
    before = mass.cumsum(-1) - mass
    nucleus = (before < parameters.top_p[:, None] * mass.sum(-1, keepdim=True)) & (mass > 0)
    last = nucleus.int().sum(-1).clamp(min=1) - 1
    by_top_p = ordered.gather(1, last[:, None])[:, 0]
    return torch.where(parameters.top_p < 1, torch.maximum(lowest, by_top_p), lowest)


def gumbel_noise(
    seeds: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Standard Gumbel noise in fp32, a function of its three int64 arguments (broadcast)."""
    word = philox(seeds, tokens, positions)
    folded = torch.where(word >= 1 << 31, WORD - word, word)
    uniform = ((folded.float() + 0.5) * 2.0**-31).clamp(max=1 - 2.0**-24)
    return -(-torch.log1p(-uniform)).log()


def philox(seeds: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The first word of Philox4x32-10 (Salmon et al., SC 2011) at counter (token, position, 0, 0).

    The seed is the 64-bit key. Words are int64 tensors of values below 2**32.
    """
    counter = [tokens & WORD, positions & WORD, torch.zeros_like(tokens), torch.zeros_like(tokens)]
    key = [seeds & WORD, (seeds >> 32) & WORD]
    for _ in range(PHILOX_ROUNDS):
        high0, low0 = _multiply(counter[0], PHILOX_MULTIPLIERS[0])
        high2, low2 = _multiply(counter[2], PHILOX_MULTIPLIERS[1])
        counter = [high2 ^ counter[1] ^ key[0], low2, high0 ^ counter[3] ^ key[1], low0]
        key = [(k + step) & WORD for k, step in zip(key, PHILOX_KEY_STEPS, strict=True)]
    return counter[0]


def _multiply(word: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low words of a 32 × 32 bit product, without overflowing int64."""
    low = word * (factor & 0xFFFF)
    middle = word * (factor >> 16) + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)
