"""The official OpenAI client against the whole server: structured answers, tools, choices.

The tiny base says nothing sensible, so whatever is checked here is what grammars hold it to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from registry import Registry
from registry.bases import read_base
from registry.hats import Hat
from server.serve import serving
from server.settings import EngineOptions, Settings
from tests.support.lm_eval import loglikelihood
from tests.support.openai_js import drive
from tests.support.tiny import TinyAdapter, write_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

HI: Any = [{"role": "user", "content": "hi"}]
CALLER = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}"
    "</tool_call>{% endfor %}{% endfor %}<assistant>"
)


class Step(BaseModel):
    kind: Literal["add", "drop"]
    amount: int = Field(ge=0, le=99)


class Plan(BaseModel):
    title: Literal["long", "short"]
    steps: list[Step] = Field(min_length=1, max_length=2)


class GetWeather(BaseModel):
    """Look the weather up."""

    place: Literal["Köln", "Oslo"]
    days: int = Field(ge=1, le=9)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    root = tmp_path_factory.mktemp("openai")
    base = write_tiny_base(root / "tiny", max_position_embeddings=2048, vocab_size=258)
    registry = Registry.open(root / "registry")
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    for name, hat in {
        "caller": Hat(chat_template=CALLER),
        "forms": Hat(response_schema=schema | {"additionalProperties": False}),
        "third": Hat(),
    }.items():
        folder = TinyAdapter(name, seed=len(name)).write(base, root / name)
        hat.write(folder)
        registry.push(folder, name, base=read_base(base))
    engine = EngineOptions(device="cpu", kv_memory=8 << 20, max_rank=8, max_slots=2)
    settings = Settings(base=str(base), registry=Path(root / "registry"), port=0, engine=engine)
    with (
        serving(settings) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_parse_gives_pydantic_models(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="caller", messages=HI, response_format=Plan, temperature=1.0, n=3, seed=1
    )
    assert len(answer.choices) == 3
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Plan)


def test_a_streamed_answer_is_parsed_too(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="caller", messages=HI, response_format=Plan, seed=3
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert isinstance(final.choices[0].message.parsed, Plan)


def test_a_hats_schema_holds(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="forms", messages=HI, seed=4)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"ok"}


def test_vllms_words(client: openai.OpenAI) -> None:
    for extra, allowed in (
        ({"guided_choice": ["yes", "no"]}, ("yes", "no")),
        ({"structured_outputs": {"regex": "a{3}|b{4}"}}, ("aaa", "bbbb")),
    ):
        answer = client.completions.create(model="caller", prompt="hi", extra_body=extra)
        assert answer.choices[0].text in allowed


def test_required_tools_are_parsed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="caller",
        messages=HI,
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
        seed=5,
    )
    [call] = answer.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, GetWeather)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tool_arguments_stream_and_results_go_back(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(GetWeather)]
    choice: Any = {"type": "function", "function": {"name": "GetWeather"}}
    with client.chat.completions.stream(
        model="caller", messages=HI, tools=tools, tool_choice=choice, seed=6
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert kinds.count("tool_calls.function.arguments.delta") > 3
    [call] = message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, GetWeather)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    said: Any = message.model_dump(exclude_none=True)  # with what the client parsed, as it is
    assert said["tool_calls"][0]["function"]["parsed_arguments"]
    said["provider_specific_fields"] = {"refusal": None}  # as LiteLLM sends it back
    answer = client.chat.completions.create(
        model="caller",
        messages=[*HI, said, result],
        tools=tools,
        max_tokens=4,
        extra_body={"return_token_ids": True},
    )
    prompt = bytes_of(answer.model_extra["prompt_token_ids"])
    assert '<tool_call>{"name": "GetWeather", "arguments": {"place":' in prompt
    assert prompt.endswith("<tool>rain<assistant>")


def bytes_of(token_ids: list[int]) -> str:
    from tests.support.bytes import byte_tokenizer

    return str(byte_tokenizer().decode(token_ids))


def test_responses_are_parsed_and_stream(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model="caller", input="hi", text_format=Plan)
    assert isinstance(answer.output_parsed, Plan)
    with client.responses.stream(
        model="caller", input="more", text_format=Plan, previous_response_id=answer.id
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.created", "response.output_text.delta", "response.completed"} <= kinds
    assert isinstance(final.output_parsed, Plan)
    assert final.previous_response_id == answer.id
    back: Any = [*HI, *answer.output, *HI]  # with what the client parsed
    assert client.responses.create(model="caller", input=back, max_output_tokens=2).output_text


def test_the_async_client_does_the_same(client: openai.OpenAI) -> None:
    async def everything() -> None:
        async with openai.AsyncOpenAI(
            base_url=client.base_url, api_key="none", max_retries=0
        ) as asked:
            chats = asked.chat.completions
            whole = await chats.parse(model="caller", messages=HI, response_format=Plan, seed=1)
            assert isinstance(whole.choices[0].message.parsed, Plan)
            async with chats.stream(
                model="caller", messages=HI, response_format=Plan, seed=2
            ) as stream:
                kinds = {event.type async for event in stream}
                final = await stream.get_final_completion()
            assert {"content.delta", "content.done"} <= kinds
            assert isinstance(final.choices[0].message.parsed, Plan)
            answer = await asked.responses.parse(model="caller", input="hi", text_format=Plan)
            assert isinstance(answer.output_parsed, Plan)
            many = [
                chats.create(model="caller", messages=HI, max_tokens=4, seed=seed)
                for seed in range(8)
            ]
            assert all(one.choices for one in await asyncio.gather(*many))

    asyncio.run(everything())


def test_the_javascript_client_shapes_calls_and_responds(client: openai.OpenAI) -> None:
    found = drive("converse.mjs", str(client.base_url).removesuffix("/v1/"))
    steps = [found["whole"], found["answer"], found["final"], *found["calls"]]
    steps += [json.loads(text) for text in found["streamed"]]
    assert len(steps) == 7
    for step in steps:
        assert step.keys() == {"kind", "amount"}
        assert Step.model_validate(step)
    parallel, [asked, streamed] = found["parallel"], found["asked"]
    arguments = [*map(json.loads, parallel["arguments"]), json.loads(asked)]
    for step in [*arguments, *(call for [call] in found["whole_calls"])]:
        assert Step.model_validate(step)
    assert parallel["ending"] == "tool_calls"
    assert "".join(parallel["gains"]) == "".join(parallel["arguments"])
    assert len(parallel["gains"]) > len(parallel["arguments"]) > 1
    assert len(set(parallel["ids"])) == len(parallel["ids"])
    assert (asked, found["not_kept"]) == (streamed, 404)
    bare, worn, short = found["vectors"]
    assert len(worn) == len(bare)
    assert worn != pytest.approx(bare, abs=1e-3)
    assert len(short) == 8
    assert found["results"] == ["done", "done"]  # of the tool runner, whole and streamed
    assert {"response.created", "response.output_text.delta", "response.completed"} <= {
        *found["kinds"]
    }
    assert (found["kept"], found["items"], found["gone"]) == (True, ["user"], 404)


def test_answers_to_one_prompt_share_its_cache(client: openai.OpenAI) -> None:
    prompt = "The quick brown fox jumps over the lazy dog, again and again."
    answer = client.completions.create(
        model="caller", prompt=prompt, n=4, seed=7, max_tokens=12, temperature=1.0
    )
    assert len({choice.text for choice in answer.choices}) == 4
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt)
    best = client.completions.create(
        model="caller", prompt=prompt, best_of=4, seed=7, max_tokens=12, temperature=1.0
    )
    assert best.choices[0].text in {choice.text for choice in answer.choices}


def test_lm_evals_requests_are_answered(client: openai.OpenAI) -> None:
    """A continuation's probability, as `local-completions` asks for it: echo with log-probs."""
    whole = client.completions.create(
        model="caller",
        prompt=[72, 73, 74],
        max_tokens=12,
        temperature=0,
        logprobs=0,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    choice = whole.choices[0]
    assert choice.logprobs is not None
    said: Any = choice.model_extra["token_ids"]
    expected = sum(value or 0 for value in choice.logprobs.token_logprobs or [])
    found, is_greedy = loglikelihood(client, "caller", [72, 73, 74], said)
    assert found == pytest.approx(expected, abs=0.05)
    assert is_greedy
    worse, is_greedy = loglikelihood(client, "caller", [72, 73, 74], [90, 90, 90, 90])
    assert worse < found
    assert not is_greedy


def test_embeddings_come_packed_or_plain(client: openai.OpenAI) -> None:
    texts = ["How many orders are open?", "x", "How many orders are open?"]
    packed = client.embeddings.create(
        model="caller", input=texts
    )  # in base64 unless told otherwise
    plain = client.embeddings.create(model="caller", input=texts, encoding_format="float")
    vectors = [entry.embedding for entry in packed.data]
    for vector, entry in zip(vectors, plain.data, strict=True):
        assert vector == pytest.approx(entry.embedding, abs=1e-6)
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
    assert vectors[0] == vectors[2] != vectors[1]
    assert packed.usage.prompt_tokens == 25 + 1 + 25
    others = {"forms": {}, "tiny": {}, "caller": {"pooling": "last"}}
    for model, extra in others.items():
        other = client.embeddings.create(model=model, input=texts[0], extra_body=extra)
        assert other.data[0].embedding != pytest.approx(vectors[0], abs=1e-3)
    short = client.embeddings.create(model="caller", input=texts[0], dimensions=8)
    assert len(short.data[0].embedding) == 8


def test_several_adapters_at_once(client: openai.OpenAI) -> None:
    def say(model: str, **scales: float) -> tuple[Any, str]:
        adapters = [{"name": name, "scale": scale} for name, scale in scales.items()]
        reply = client.completions.with_raw_response.create(
            model=model,
            prompt="hi",
            max_tokens=12,
            temperature=0,
            extra_body={"adapters": adapters, "return_token_ids": True, "ignore_eos": True},
        )
        tokens: Any = reply.parse().choices[0].model_extra["token_ids"]
        return tokens, reply.headers["x-hatstand-adapter"]

    both, label = say("tiny", caller=0.5, forms=0.5)
    assert label == "caller@1*0.5+forms@1*0.5"
    assert say("tiny", forms=0.5, caller=0.5) == (both, label)
    assert say("caller", caller=1.0) == say("caller")
    assert say("tiny", caller=0.0, forms=0.0)[0] == say("tiny")[0]
    for other in (say("caller"), say("tiny"), say("tiny", caller=0.5), say("tiny", forms=2.0)):
        assert other[0] != both
    vector = client.embeddings.create(
        model="tiny", input="hi", extra_body={"adapters": [{"name": "caller", "scale": 0.0}]}
    )
    bare = client.embeddings.create(model="tiny", input="hi")
    assert vector.data[0].embedding == pytest.approx(bare.data[0].embedding, abs=1e-6)


def test_ranks_that_do_not_fit_together_are_refused(client: openai.OpenAI) -> None:
    adapters = [{"name": name} for name in ("caller", "forms", "third")]
    with pytest.raises(openai.BadRequestError, match="rank 12 together") as refused:
        client.completions.create(model="tiny", prompt="hi", extra_body={"adapters": adapters})
    assert refused.value.param == "adapters"
