// API keys, kept for as long as the browser's tab lives and sent to this server alone.
const NAMES = { server: "hatstand.key", registry: "hatstand.registry-key" };

export const keyOf = (whose) => sessionStorage.getItem(NAMES[whose]) ?? "";

export function rememberKey(whose, key) {
  if (key) sessionStorage.setItem(NAMES[whose], key);
  else sessionStorage.removeItem(NAMES[whose]);
}
