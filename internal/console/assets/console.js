// What moves by itself. Everything else works without it.
"use strict";

const said = document.getElementById("said");
const say = (text) => { said.textContent = text; };
const parse = (html) => new DOMParser().parseFromString(html, "text/html");

// The part that shows who is there is exchanged card by card, where a card has changed, so that nothing else loses its place.
function showSpace(html) {
  const focused = document.activeElement && document.activeElement.id;
  const next = parse(html);
  for (const card of next.querySelectorAll("[data-live]")) {
    const old = document.getElementById(card.id);
    if (old && old.innerHTML !== card.innerHTML) {
      old.replaceChildren(...card.childNodes);
    }
  }
  for (const select of next.querySelectorAll("[data-switch]")) {
    const old = document.getElementById(select.id);
    if (old && old !== document.activeElement) {
      old.value = select.value;
    }
  }
  if (focused && document.activeElement === document.body) {
    const again = document.getElementById(focused);
    if (again) {
      again.focus();
    }
  }
}

function follow(log) {
  const list = log.querySelector("ol");
  const none = document.getElementById("none");
  const pause = document.getElementById("pause");
  const waiting = [];
  let latest = "";
  let paused = false;
  const add = (html) => {
    const line = parse(`<ol>${html}</ol>`).querySelector("li");
    if (!line || list.querySelector(`[data-number="${line.dataset.number}"]`)) {
      return;
    }
    line.classList.add("new");
    list.prepend(line);
    none.hidden = true;
    while (list.children.length > Number(log.dataset.most)) {
      list.lastElementChild.remove();
    }
  };
  const source = new EventSource(`/events?after=${Number(log.dataset.next) - 1}&start=${log.dataset.start}`);
  source.addEventListener("space", (event) => {
    latest = event.data;
    if (!paused) {
      showSpace(latest);
    }
  });
  source.addEventListener("restart", () => location.reload());
  source.addEventListener("error", () => {
    say(source.readyState === EventSource.CLOSED ? "Not live: too many pages look on. Close some, and load this one again." : "The sandbox does not answer. Trying again.");
  });
  source.addEventListener("decision", (event) => {
    if (!paused) {
      add(event.data);
      return;
    }
    waiting.push(event.data);
    if (waiting.length > Number(log.dataset.most)) {
      waiting.shift();
    }
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      waiting.splice(0).forEach(add);
      showSpace(latest);
    }
  });
}

const log = document.getElementById("log");
if (log) {
  follow(log);
}

// Switches are turned in place.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.said) {
    return;
  }
  event.preventDefault();
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
    const done = answer.type === "opaqueredirect" || answer.ok;
    say(done ? form.dataset.said : `That did not work: status ${answer.status}`);
  } catch {
    say("That did not work: the sandbox does not answer");
  }
});

for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      say("Copied");
    } catch {
      say("The browser does not allow that: select the text and copy it");
    }
  });
}

const text = document.getElementById("text");
if (text) {
  const over = (event) => {
    event.preventDefault();
    text.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "dragend"]) {
    document.addEventListener(kind, over);
  }
  document.addEventListener("drop", async (event) => {
    over(event);
    const file = event.dataTransfer.files[0];
    text.value = file ? await file.text() : event.dataTransfer.getData("text");
    text.focus();
    say("Dropped. Explain it when you are ready");
  });
}

// What was made stands above what it was made of: it is read first.
const result = document.getElementById("result");
if (result) {
  result.focus();
}
