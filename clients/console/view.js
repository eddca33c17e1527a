// htm bound to preact, and the few pieces that every page uses.
import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";

export const html = htm.bind(h);

/** Call `load` when `inputs` change; gives {value, error, isLoading, reload}. */
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ isLoading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    setState((before) => ({ ...before, isLoading: true }));
    load(controller.signal).then(
      (value) => controller.signal.aborted || setState({ value, isLoading: false }),
      (error) => controller.signal.aborted || setState({ error, isLoading: false }),
    );
    return () => controller.abort();
  }, [...inputs, round]);
  return { ...state, reload: () => setRound((n) => n + 1) };
}

/** Call `tick` at once and then every `seconds`, but not while nobody can see the page. */
export function useTicking(tick, seconds) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    let isBusy = false;
    const step = async () => {
      if (document.hidden || isBusy) return;
      isBusy = true;
      await latest.current().finally(() => (isBusy = false));
    };
    step();
    const timer = setInterval(step, seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
}

export function Problem({ error }) {
  return error ? html`<p class="problem" role="alert">${error.message}</p>` : null;
}

/** What a page shows while `loaded` has nothing yet, and afterwards what `children` makes of it. */
export function Loaded({ loaded, children }) {
  if (loaded.error) return html`<${Problem} error=${loaded.error} />`;
  if (loaded.value === undefined) return html`<p class="quiet" aria-busy="true">Loading…</p>`;
  return children(loaded.value);
}

export function Table({ caption, head, rows, empty }) {
  if (!rows.length && empty) return html`<p class="quiet">${empty}</p>`;
  const kinds = head.map((_, column) => (rows.every((cells) => isFigure(cells[column])) ? "figures" : undefined));
  // A wide table is scrolled by the keyboard too, so its frame takes the focus.
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <caption>${caption}</caption>
    <thead><tr>${head.map((name, column) => html`<th scope="col" class=${kinds[column]}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((cells) => html`<tr>${cells.map((cell, column) => html`<td class=${kinds[column]}>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/** Numbers, and nothing, stand on the right of their column. */
const isFigure = (cell) => typeof cell === "number" || (typeof cell === "string" && /^[-–\d.,]*$/.test(cell));

export const short = (digest) => (digest ?? "").replace("sha256:", "").slice(0, 12);

export const number = (value, digits = 0) =>
  Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";

/** Bytes for people, in powers of a thousand. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${number(count / 1000 ** power, power ? 1 : 0)} ${units[power]}`;
}

export const when = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
