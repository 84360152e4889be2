// Markdown to elements. Nothing is ever parsed as HTML: what a model writes becomes text nodes.

const RULES = [
  [/^`([^`]+)`/, (m) => element("code", [m[1]])],
  [/^\*\*(?=\S)(.+?)\*\*/, (m) => element("strong", inline(m[1]))],
  [/^\*(?=[^\s*])(.+?)\*/, (m) => element("em", inline(m[1]))],
  [/^~~(?=\S)(.+?)~~/, (m) => element("s", inline(m[1]))],
  [/^\[([^\]]+)\]\((https?:[^)\s]+)\)/, (m) => link(m[2], inline(m[1]))],
  [/^https?:\/\/[^\s<>)]+[^\s<>).,;:!?]/, (m) => link(m[0], [m[0]])],
];

/** Return the elements of a text in Markdown. */
export function markdown(text) {
  const lines = text.split("\n");
  const blocks = [];
  let at = 0;
  const until = (test) => {
    const found = [];
    while (at < lines.length && test(lines[at])) found.push(lines[at++]);
    return found;
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = line.match(/^\s*(```+|~~~+)\s*(\S*)/);
    const heading = line.match(/^(#{1,6})\s+(.*)/);
    if (!line.trim()) {
      at++;
    } else if (fence) {
      at++;
      const code = until((next) => !next.trim().startsWith(fence[1]));
      at++;
      blocks.push(codeBlock(code.join("\n")));
    } else if (heading) {
      at++;
      blocks.push(element(`h${Math.min(6, heading[1].length + 1)}`, inline(heading[2])));
    } else if (/^\s*(---+|\*\*\*+|___+)\s*$/.test(line)) {
      at++;
      blocks.push(element("hr"));
    } else if (/^\s*>/.test(line)) {
      const quoted = until((next) => /^\s*>/.test(next)).map((next) => next.replace(/^\s*> ?/, ""));
      blocks.push(element("blockquote", markdown(quoted.join("\n"))));
    } else if (isItem(line)) {
      blocks.push(list(until((next) => isItem(next) || /^\s+\S/.test(next))));
    } else if (line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[at + 1] ?? "")) {
      blocks.push(table(until((next) => next.includes("|"))));
    } else {
      const rest = until((next) => next.trim() && !/^\s*(```|~~~|#{1,6}\s|>)/.test(next) && !isItem(next));
      blocks.push(element("p", inline((rest.length ? rest : [lines[at++]]).join("\n"))));
    }
  }
  return blocks;
}

function inline(text) {
  const found = [];
  let plain = "";
  while (text) {
    const rule = RULES.find(([pattern]) => pattern.test(text));
    if (!rule) {
      plain += text[0];
      text = text.slice(1);
      continue;
    }
    const match = text.match(rule[0]);
    if (plain) found.push(plain);
    plain = "";
    found.push(rule[1](match));
    text = text.slice(match[0].length);
  }
  return plain ? [...found, plain] : found;
}

const isItem = (line) => /^\s*([-*+]|\d+[.)])\s+/.test(line);

function list(lines) {
  const indent = lines[0].match(/^\s*/)[0].length;
  const number = lines[0].match(/^\s*(\d+)[.)]/);
  const items = [];
  for (const line of lines) {
    if (isItem(line) && line.match(/^\s*/)[0].length <= indent) items.push([line.replace(/^\s*([-*+]|\d+[.)])\s+/, "")]);
    else items.at(-1).push(line);
  }
  const found = element(number ? "ol" : "ul", items.map(([first, ...rest]) => {
    const inner = rest.length ? markdown(unindented(rest)) : [];
    return element("li", [...inline(first), ...inner]);
  }));
  if (number) found.start = Number(number[1]);
  return found;
}

function unindented(lines) {
  const least = Math.min(...lines.map((line) => line.match(/^\s*/)[0].length));
  return lines.map((line) => line.slice(least)).join("\n");
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, kind) => element("tr", cells(line).map((cell) => element(kind, inline(cell))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  return element("table", [element("thead", [row(lines[0], "th")]), element("tbody", body)]);
}

function codeBlock(text) {
  const copy = element("button", ["copy"]);
  copy.type = "button";
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "copied";
  });
  return element("pre", [element("code", [text]), copy]);
}

function link(address, children) {
  const found = element("a", children);
  found.href = address;
  found.target = "_blank";
  found.rel = "noopener noreferrer";
  return found;
}

/** Make an element of children, which are elements or texts. */
export function element(name, children = [], className = "") {
  const made = document.createElement(name);
  made.append(...children);
  if (className) made.className = className;
  return made;
}
