// What needs a model that answers to a shape: talks to the server at argv[2] as an application would,
// and prints what it got as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const model = "caller";
const schema = {
  type: "object",
  properties: { kind: { enum: ["add", "drop"] }, amount: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["kind", "amount"],
  additionalProperties: false,
};
const response_format = { type: "json_schema", json_schema: { name: "step", schema, strict: true } };

const whole = await client.chat.completions.parse({ model, messages, response_format, seed: 1 });
const streamed = client.chat.completions.stream({ model, messages, response_format, seed: 2 });
const pieces = [];
streamed.on("content", (piece) => pieces.push(piece));
const streamedText = (await streamed.finalChatCompletion()).choices[0].message.content;

const calls = [];
const weather = {
  type: "function",
  function: {
    name: "look",
    parameters: schema,
    parse: JSON.parse,
    function: (step) => (calls.push(step), "done"),
  },
};
const tool_choice = { type: "function", function: { name: "look" } };
const runner = client.chat.completions.runTools({ model, messages, tools: [weather], tool_choice, seed: 3 });
await runner.done();
const runnerStream = client.chat.completions.runTools({
  model, messages, tools: [weather], tool_choice, seed: 4, stream: true,
});
await runnerStream.done();

// Several calls at once, streamed: each begins with its id and name, and gains arguments after that.
const tools = [{ type: "function", function: { name: "look", parameters: schema, strict: true } }];
const parallel = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", seed: 5, max_tokens: 400 });
const gains = [];
parallel.on("tool_calls.function.arguments.delta", (gain) => gains.push(gain.arguments_delta));
const called = (await parallel.finalChatCompletion()).choices[0];
const whole_calls = (await client.chat.completions.create({
  model, messages, tools, tool_choice: "required", parallel_tool_calls: false, seed: 6, n: 2,
})).choices.map((choice) => choice.message.tool_calls);

// A call in the newer form, and what it gave back.
const functions = [{ type: "function", name: "look", parameters: schema, strict: true }];
const calling = client.responses.stream({ model, input: "hi", tools: functions, tool_choice: { type: "function", name: "look" } });
let streamed_arguments = "";
calling.on("response.function_call_arguments.delta", (event) => (streamed_arguments += event.delta));
const [asked] = (await calling.finalResponse()).output;
const output = { type: "function_call_output", call_id: asked.call_id, output: "rain" };
const after = await client.responses.create({ model, input: [{ role: "user", content: "hi" }, asked, output], max_output_tokens: 4, store: false });
const not_kept = await client.responses.retrieve(after.id).then(() => 200, (error) => error.status);

const embed = (name, more) => client.embeddings.create({ model: name, input: ["hi", "ho"], ...more });
const [bare, worn, short] = await Promise.all([embed("tiny"), embed(model), embed(model, { dimensions: 8 })]);

const format = { type: "json_schema", name: "step", schema, strict: true };
const answer = await client.responses.parse({ model, input: "hi", text: { format }, max_output_tokens: 64 });
const kinds = [];
const answering = client.responses.stream({ model, input: "again", text: { format }, previous_response_id: answer.id });
for await (const event of answering) kinds.push(event.type);
const final = await answering.finalResponse();
const kept = await client.responses.retrieve(answer.id);
const items = [];
for await (const item of client.responses.inputItems.list(answer.id)) items.push(item.role);
await client.responses.delete(answer.id);

console.log(
  JSON.stringify({
    whole: JSON.parse(whole.choices[0].message.content),
    streamed: [pieces.join(""), streamedText],
    calls,
    results: [...runner.messages, ...runnerStream.messages].filter((m) => m.role === "tool").map((m) => m.content),
    parallel: {
      ending: called.finish_reason,
      arguments: called.message.tool_calls.map((call) => call.function.arguments),
      ids: called.message.tool_calls.map((call) => call.id),
      gains,
    },
    whole_calls: whole_calls.map((calls) => calls.map((call) => JSON.parse(call.function.arguments))),
    asked: [asked.arguments, streamed_arguments],
    not_kept,
    vectors: [bare, worn, short].map((answer) => answer.data[0].embedding),
    answer: JSON.parse(answer.output_text),
    final: JSON.parse(final.output_text),
    kinds: [...new Set(kinds)],
    kept: kept.id === answer.id,
    items,
    gone: await client.responses.retrieve(answer.id).then(() => 200, (error) => error.status),
  }),
);
