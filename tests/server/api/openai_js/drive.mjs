// Talks to the server at argv[2] as an application would, and prints what it got as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const ask = (more) => client.chat.completions.create({ model: "sql", messages, ...more });

const refusal = (more) =>
  ask(more).then(
    () => null,
    (error) => ({ kind: error.constructor.name, status: error.status, code: error.code, param: error.param }),
  );

const { data: answer, response } = await ask({ logprobs: true, top_logprobs: 1, n: 2 }).withResponse();

const chunks = [];
for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);

const helper = client.chat.completions.stream({ model: "sql@2", messages });
const deltas = [];
helper.on("content", (delta) => deltas.push(delta));
const final = await helper.finalChatCompletion();

// Leaving the loop closes the connection, which ends the sequence.
for await (const chunk of await ask({ stream: true })) if (chunk.choices[0]?.delta.content) break;

const completion = await client.completions.create({ model: "pirate", prompt: ["a", "b"], logprobs: 1 });
let continued = "";
for await (const chunk of await client.completions.create({ model: "pirate", prompt: "a", stream: true })) {
  continued += chunk.choices[0].text;
}
const embed = (more) => client.embeddings.create({ model: "pirate", input: ["a", "b"], ...more });
const { data: packed, usage: read } = await embed({}); // in base64, unless told otherwise
const { data: plain } = await embed({ encoding_format: "float" });

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);

console.log(
  JSON.stringify({
    texts: answer.choices.map((choice) => choice.message.content),
    logprob: answer.choices[0].logprobs.content[0].top_logprobs[0],
    adapter: response.headers.get("x-hatstand-adapter"),
    streamed: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    usage: chunks.at(-1).usage,
    helped: deltas.join(""),
    final: final.choices[0].message.content,
    completions: completion.choices.map((choice) => choice.text),
    continued,
    vectors: packed.map((entry) => entry.embedding),
    plain: plain.map((entry) => entry.embedding),
    read,
    ids,
    one: (await client.models.retrieve("sql@prod")).id,
    missing: await refusal({ model: "sq1" }),
    wrong: await refusal({ temperature: 9 }),
  }),
);
