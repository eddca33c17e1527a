// A small line over time, as SVG.
import { html, number } from "./view.js";

const WIDTH = 240;
const HEIGHT = 40;

export function Sparkline({ values, label }) {
  if (values.length < 2) return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"></svg>`;
  const most = Math.max(...values, 1e-9);
  const x = (index) => (index / (values.length - 1)) * WIDTH;
  const y = (value) => HEIGHT - 2 - (value / most) * (HEIGHT - 4);
  const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
    aria-label=${`${label}: now ${number(values.at(-1), 1)}, at most ${number(most, 1)}`}>
    <polyline points=${points} />
  </svg>`;
}
