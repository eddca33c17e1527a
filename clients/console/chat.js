// One prompt, several hats side by side.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import * as api from "./api.js";
import { html, Loaded, number, short, useLoaded } from "./view.js";

const MOST_COLUMNS = 6;
let nextColumn = 0;
const column = (model) => ({ key: nextColumn++, model, turns: [] });

export function ChatPage() {
  const models = useLoaded((signal) => api.models(signal), []);
  return html`<h1>Chat</h1>
    <${Loaded} loaded=${models}>${(found) => html`<${Bench} models=${found.map((model) => model.id)} />`}<//>`;
}

function Bench({ models }) {
  const [columns, change] = useReducer(reduceColumns, models, (names) => names.slice(0, 2).map(column));
  const [settings, setSettings] = useState({ system: "", temperature: "", max_tokens: "256" });
  const [prompt, setPrompt] = useState("");
  const running = useRef(null);
  const isBusy = columns.some((each) => each.turns.at(-1)?.isRunning);
  useEffect(() => () => running.current?.abort(), []);

  const ask = () => {
    const text = prompt.trim();
    if (!text || isBusy) return;
    setPrompt("");
    running.current = new AbortController();
    for (const each of columns) answer(each, text, settings, running.current.signal, change);
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      ask();
    }
  };
  return html`
    <div class="columns">
      ${columns.map(
        (each) => html`<${Column} key=${each.key} column=${each} models=${models} change=${change}
          canLeave=${columns.length > 1} isBusy=${isBusy} />`,
      )}
    </div>
    <form class="ask" onSubmit=${(event) => (event.preventDefault(), ask())}>
      <label class="grow">Prompt
        <textarea rows="3" value=${prompt} onInput=${(e) => setPrompt(e.target.value)} onKeyDown=${onKey}
          placeholder="Enter sends to every hat, Shift+Enter breaks the line" autofocus></textarea>
      </label>
      <div class="buttons">
        ${isBusy
          ? html`<button type="button" onClick=${() => running.current.abort()}>Stop</button>`
          : html`<button disabled=${!prompt.trim()}>Ask</button>`}
        <button type="button" class="plain" disabled=${columns.length >= MOST_COLUMNS || isBusy}
          onClick=${() => change({ do: "add", model: models.at(-1) })}>Add a hat</button>
        <button type="button" class="plain" disabled=${isBusy} onClick=${() => change({ do: "clear" })}>Start over</button>
      </div>
    </form>
    <${Settings} settings=${settings} onChange=${setSettings} />
  `;
}

function Settings({ settings, onChange }) {
  const set = (event) => onChange({ ...settings, [event.target.name]: event.target.value });
  return html`<details>
    <summary>Settings</summary>
    <div class="settings">
      <label class="grow">System prompt <input name="system" value=${settings.system} onInput=${set}
        placeholder="the hat's own" /></label>
      <label>Temperature <input name="temperature" type="number" min="0" max="2" step="0.1"
        value=${settings.temperature} onInput=${set} placeholder="the hat's" /></label>
      <label>Longest answer <input name="max_tokens" type="number" min="1" value=${settings.max_tokens}
        onInput=${set} placeholder="the hat's" /></label>
    </div>
  </details>`;
}

function Column({ column, models, change, canLeave, isBusy }) {
  const id = `hat-${column.key}`;
  const bottom = useRef();
  useEffect(() => bottom.current.scrollTo({ top: bottom.current.scrollHeight }), [column.turns]);
  return html`<section class="column" aria-labelledby=${id}>
    <div class="hat">
      <label id=${id}><span class="unseen">Hat</span>
        <select value=${column.model} disabled=${isBusy}
          onChange=${(e) => change({ do: "choose", key: column.key, model: e.target.value })}>
          ${models.map((name) => html`<option value=${name} selected=${name === column.model}>${name}</option>`)}
        </select>
      </label>
      ${canLeave &&
      html`<button class="plain" aria-label=${`Remove ${column.model}`} disabled=${isBusy}
        onClick=${() => change({ do: "remove", key: column.key })}>×</button>`}
    </div>
    <div class="turns" ref=${bottom} tabindex="0" role="log" aria-live="polite" aria-label=${`Conversation with ${column.model}`}>
      ${column.turns.map((turn) => html`<${Turn} turn=${turn} />`)}
    </div>
  </section>`;
}

function Turn({ turn }) {
  return html`
    <p class="asked">${turn.prompt}</p>
    <div class="answered" aria-busy=${turn.isRunning ? "true" : "false"}>
      <pre>${turn.text}${turn.isRunning && html`<span class="caret" aria-hidden="true"></span>`}</pre>
      ${turn.error && html`<p class="problem" role="alert">${turn.error}</p>`}
      <p class="quiet facts">${facts(turn).join(" · ")}</p>
    </div>
  `;
}

/** Who answered and how fast. */
function facts(turn) {
  const known = [turn.adapter, turn.digest && short(turn.digest)];
  if (turn.firstAt) known.push(`first token ${number(turn.firstAt - turn.askedAt)} ms`);
  const seconds = (turn.lastAt - turn.firstAt) / 1000;
  if (turn.tokens > 1 && seconds > 0) known.push(`${number((turn.tokens - 1) / seconds, 1)} tok/s`);
  if (turn.tokens) known.push(`${turn.tokens} tokens`);
  if (turn.cached) known.push(`${turn.cached} prompt tokens known`);
  if (turn.finish && turn.finish !== "stop") known.push(turn.finish);
  return known.filter(Boolean);
}

/** Stream one column's answer into its last turn. */
async function answer({ key, model, turns }, prompt, settings, signal, change) {
  const update = (values) => change({ do: "update", key, values });
  change({ do: "ask", key, turn: { prompt, text: "", isRunning: true, askedAt: performance.now() } });
  let text = "";
  try {
    for await (const event of api.chat(request(model, turns, prompt, settings), signal)) {
      const now = performance.now();
      if (event.text) update((turn) => ({ text: (text += event.text), firstAt: turn.firstAt ?? now, lastAt: now }));
      else if (event.usage) update(() => counted(event.usage));
      else update(() => event);
    }
  } catch (error) {
    update(() => ({ error: error.name === "AbortError" ? "Stopped." : error.message }));
  }
  update(() => ({ isRunning: false }));
}

const counted = (usage) => ({
  tokens: usage.completion_tokens,
  cached: usage.prompt_tokens_details?.cached_tokens,
});

function request(model, turns, prompt, { system, temperature, max_tokens }) {
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns.filter((each) => each.text))
    messages.push({ role: "user", content: turn.prompt }, { role: "assistant", content: turn.text });
  messages.push({ role: "user", content: prompt });
  return {
    model,
    messages,
    ...(temperature !== "" && { temperature: Number(temperature) }),
    ...(max_tokens !== "" && { max_tokens: Number(max_tokens) }),
  };
}

function reduceColumns(columns, action) {
  const change = (values) => columns.map((each) => (each.key === action.key ? { ...each, ...values(each) } : each));
  switch (action.do) {
    case "add":
      return [...columns, column(action.model)];
    case "remove":
      return columns.filter((each) => each.key !== action.key);
    case "choose":
      return change(() => ({ model: action.model, turns: [] }));
    case "clear":
      return columns.map((each) => ({ ...each, turns: [] }));
    case "ask":
      return change((each) => ({ turns: [...each.turns, action.turn] }));
    case "update":
      return change(({ turns }) => ({ turns: [...turns.slice(0, -1), updated(turns.at(-1), action.values)] }));
  }
}

const updated = (turn, values) => ({ ...turn, ...values(turn) });
