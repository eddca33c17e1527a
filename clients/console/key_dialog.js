// Asks for API keys when a server wants them, or when the user does.
import { useEffect, useRef, useState } from "preact/hooks";
import { keyOf, rememberKey } from "./keys.js";
import { html } from "./view.js";

export function KeyDialog({ onChange }) {
  const dialog = useRef();
  const [asking, setAsking] = useState("");
  useEffect(() => {
    const ask = ({ detail }) => {
      setAsking(detail);
      if (!dialog.current.open) dialog.current.showModal();
    };
    addEventListener("key-needed", ask);
    return () => removeEventListener("key-needed", ask);
  }, []);
  const keep = (event) => {
    const form = new FormData(event.target);
    rememberKey("server", form.get("server").trim());
    rememberKey("registry", form.get("registry").trim());
    setAsking("");
    onChange();
  };
  return html`
    <button class="plain" onClick=${() => dialog.current.showModal()}>Keys</button>
    <dialog ref=${dialog} aria-labelledby="keys-title">
      <form method="dialog" onSubmit=${keep}>
        <h2 id="keys-title">Keys</h2>
        <p>${asking ? `This ${asking} wants a key.` : "Sent to this server alone; forgotten with this tab."}</p>
        <label>Server <input type="password" name="server" autocomplete="off" value=${keyOf("server")} /></label>
        <label>Registry <input type="password" name="registry" autocomplete="off" value=${keyOf("registry")} /></label>
        <menu>
          <button type="button" class="plain" onClick=${() => dialog.current.close()}>Cancel</button>
          <button>Use</button>
        </menu>
      </form>
    </dialog>
  `;
}
