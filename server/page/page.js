// The chat page: one conversation, kept in this browser, over the server's OpenAI dialect.

import { element, markdown } from "./markdown.js";

const by = (id) => document.getElementById(id);
const KEPT = ["think", "think-tokens", "temperature", "seed", "max-tokens", "system", "model"];

let messages = JSON.parse(localStorage.getItem("mull.messages") ?? "[]");
let running = null; // the reply under way: its id, and what aborts it

/** Ask the server; throws an Error with its own words if it refuses. */
async function ask(path, options = {}) {
  const key = by("api-key").value;
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error?.message ?? said.error ?? `${answer.status} ${answer.statusText}`);
}

async function loadModels() {
  const { models } = await (await ask("/api/tags")).json();
  const wanted = localStorage.getItem("mull.model");
  by("model").replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === wanted)));
  if (!models.length) throw new Error("there is no model yet: llm pull NAME gets one");
}

function settings() {
  const number = (id) => (by(id).value === "" ? undefined : Number(by(id).value));
  const think = by("think").value;
  return {
    model: by("model").value,
    think: think === "tokens" ? number("think-tokens") : think === "auto" ? undefined : think,
    temperature: number("temperature"),
    seed: number("seed"),
    max_completion_tokens: number("max-tokens"),
  };
}

function save() {
  localStorage.setItem("mull.messages", JSON.stringify(messages));
  for (const id of KEPT) localStorage.setItem(`mull.${id}`, by(id).value);
}

function showAll() {
  by("messages").replaceChildren();
  for (const message of messages) {
    if (message.role === "user") showUser(message.content);
    else new View().show(message).end(message.facts ?? "");
  }
  scroll(true);
}

function showUser(text) {
  by("messages").append(element("article", [text], "user"));
}

function showError(text) {
  by("messages").append(element("article", [text], "error"));
  scroll(true);
}

/** Keep the end in sight, unless the reader has gone up. */
function scroll(always = false) {
  const pane = by("messages");
  if (always || pane.scrollHeight - pane.scrollTop - pane.clientHeight < 160) pane.scrollTop = pane.scrollHeight;
}

/** One reply on the page: its thought, folded, with how much of the budget is used; and its answer. */
class View {
  constructor() {
    this.meter = element("meter");
    this.label = element("span", ["Thinking"]);
    this.thought = element("div", [], "thought");
    this.fold = element("details", [element("summary", [this.label, this.meter]), this.thought]);
    this.answer = element("div", [], "answer");
    this.facts = element("div", [], "facts quiet");
    this.fold.hidden = this.meter.hidden = true;
    this.article = element("article", [this.fold, this.answer, this.facts], "assistant");
    by("messages").append(this.article);
  }

  show({ thinking = "", content = "" }, used = 0, budget = 0) {
    this.fold.hidden = !thinking;
    this.thought.textContent = thinking;
    this.meter.hidden = !budget;
    if (budget) Object.assign(this.meter, { max: budget, value: used, high: 0.9 * budget });
    if (used) this.label.textContent = budget ? `Thinking ${used} / ${budget}` : `Thinking ${used}`;
    if (this.shown !== content) this.answer.replaceChildren(...markdown(content));
    this.shown = content;
    return this;
  }

  end(facts) {
    this.facts.textContent = facts;
    return this;
  }
}

/** Yield the objects of a stream of server-sent events. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

async function reply() {
  const view = new View();
  const conversation = messages;
  const message = { role: "assistant", content: "", thinking: "" };
  const system = by("system").value.trim();
  const sent = messages.map(({ role, content, thinking }) => ({ role, content, ...(thinking && { reasoning_content: thinking }) }));
  const abort = new AbortController();
  const chosen = settings();
  let budget = typeof chosen.think === "number" ? chosen.think : 0;
  let used = 0;
  let painted = 0;
  const end = {}; // what the last events tell
  running = { id: null, abort };
  setBusy(true);
  try {
    const body = {
      ...chosen,
      messages: system ? [{ role: "system", content: system }, ...sent] : sent,
      stream: true,
      stream_options: { include_usage: true },
    };
    const answer = await ask("/v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal: abort.signal });
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      running.id ??= event.id;
      const delta = event.choices?.[0]?.delta ?? {};
      if (delta.reasoning_content) {
        message.thinking += delta.reasoning_content;
        used++;
      }
      message.content += delta.content ?? "";
      by("answer-now").hidden = !message.thinking || Boolean(message.content);
      for (const name of ["usage", "thinking", "truncated"]) end[name] = event[name] ?? end[name];
      if (event.thinking) ({ tokens: used, budget } = { budget, ...event.thinking });
      if (end.usage) message.facts = facts(end);
      if (event.usage || performance.now() - painted > 50) {
        view.show(message, used, budget);
        scroll();
        painted = performance.now();
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") showError(error.message);
    else message.facts = "stopped";
  } finally {
    running = null;
    setBusy(false);
  }
  if (messages !== conversation) return; // a new chat was begun meanwhile
  view.show(message, used, budget).end(message.facts ?? "");
  if (message.content || message.thinking) messages.push(message);
  else view.article.remove();
  save();
}

function facts({ usage, thinking, truncated }) {
  const parts = [`${usage.completion_tokens} tokens`];
  if (thinking?.tokens) parts.push(`thinking ${thinking.tokens}/${thinking.budget} ${thinking.reason ?? ""}`.trim());
  if (truncated) parts.push(`${truncated.messages} earlier messages left out`);
  by("context").textContent = `${usage.total_tokens} tokens so far`;
  return parts.join(" · ");
}

function setBusy(busy) {
  by("send").disabled = busy;
  by("stop").hidden = !busy;
  if (!busy) by("answer-now").hidden = true;
}

async function send() {
  const text = by("input").value.trim();
  if (!text || running) return;
  by("input").value = "";
  grow();
  messages.push({ role: "user", content: text });
  showUser(text);
  scroll(true);
  save();
  await reply();
  by("input").focus();
}

function grow() {
  const input = by("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

by("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
by("input").addEventListener("input", grow);
by("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
by("stop").addEventListener("click", () => running?.abort.abort());
by("answer-now").addEventListener("click", () => {
  by("answer-now").hidden = true;
  const body = JSON.stringify({ id: running?.id, action: "reasoning_end" });
  if (running?.id) ask("/v1/chat/completions/control", { method: "POST", body }).catch(() => {});
});
by("new").addEventListener("click", () => {
  running?.abort.abort();
  messages = [];
  by("context").textContent = "";
  save();
  showAll();
});
by("settings-open").addEventListener("click", () => {
  by("settings").hidden = !by("settings").hidden;
  by("settings-open").setAttribute("aria-expanded", String(!by("settings").hidden));
});
for (const id of KEPT) {
  by(id).value = localStorage.getItem(`mull.${id}`) ?? by(id).value;
  by(id).addEventListener("change", save);
}
by("api-key").addEventListener("change", () => loadModels().catch((error) => showError(error.message)));

showAll();
loadModels().catch((error) => showError(error.message));
