// The console: three pages behind the address's hash, and the dialog that asks for keys.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ChatPage } from "./chat.js";
import { KeyDialog } from "./key_dialog.js";
import { MachinePage } from "./machine.js";
import { RegistryPage } from "./registry.js";
import { html } from "./view.js";

const PAGES = { chat: ChatPage, registry: RegistryPage, machine: MachinePage };

const place = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);

function App() {
  const [path, setPath] = useState(place);
  const [round, setRound] = useState(0); // a new key starts the page afresh
  useEffect(() => {
    const follow = () => setPath(place());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const name = path[0] in PAGES ? path[0] : "chat";
  useEffect(() => {
    document.title = `Hatstand · ${name}`;
  }, [name]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <header>
      <span class="brand"><img src="console/icon.svg" alt="" width="22" height="22" /> Hatstand</span>
      <nav aria-label="Pages">
        ${Object.keys(PAGES).map(
          (page) => html`<a href="#/${page}" aria-current=${page === name ? "page" : undefined}>${page}</a>`,
        )}
      </nav>
      <${KeyDialog} onChange=${() => setRound((n) => n + 1)} />
    </header>
    <main id="main" tabindex="-1"><${PAGES[name]} key=${`${name} ${round}`} path=${path.slice(1)} /></main>
  `;
}

function skip(event) {
  event.preventDefault(); // the hash is the address of a page
  document.getElementById("main").focus();
}

render(html`<${App} />`, document.getElementById("app"));
