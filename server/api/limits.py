"""How large the parts of a request may be; a body past these is refused by name."""

from registry import hats

MAX_MESSAGES = 2048
MAX_CONTENT_PARTS = 1024
MAX_STOPS = hats.MAX_STOPS
HIGHEST_TEMPERATURE = hats.HIGHEST_TEMPERATURE
HIGHEST_REPETITION_PENALTY = hats.HIGHEST_REPETITION_PENALTY
MAX_CHOICES = 128  # `n` and `best_of`
MAX_STOP_LENGTH = hats.MAX_STOP_LENGTH  # characters
MAX_STOP_TOKENS = 128
MAX_BIASED_TOKENS = 1024
MAX_LOGPROBS = 20
MAX_ADAPTERS = 8  # in one composition
MAX_SCALE = 10  # of an adapter in it, either way
MAX_INPUTS = 2048  # of one request for embeddings; OpenAI's own
MAX_NAME = 256  # characters of a model's or user's name
MAX_TOOLS = 128  # and calls in one message
MAX_TOKENS_TO_TEXT = 1 << 18
