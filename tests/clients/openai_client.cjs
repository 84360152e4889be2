// What OpenAI's own JavaScript client gets from two servers: one with the bundled model, one with a scripted one.
const { OpenAI } = require("openai");

const QUESTION = [{ role: "user", content: "What is 347 + 685?" }];
const GREEDY = { model: "pocket", messages: QUESTION, temperature: 0 };
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER = { type: "function", function: { name: "weather", description: "Tell the weather.", parameters: PARAMETERS } };
const SCHEMA = { type: "object", properties: { sum: { type: "integer" } }, required: ["sum"], additionalProperties: false };

const connect = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, message: error.message };
  }
  return null;
}

const steps = {
  async models(client) {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return names;
  },
  async chat(client) {
    const reply = await client.chat.completions.create(GREEDY);
    const { content, reasoning_content: thought } = reply.choices[0].message;
    return { content, thought, reason: reply.choices[0].finish_reason, usage: reply.usage };
  },
  async stream(client) {
    let content = "", thought = "", usage = null;
    const options = { ...GREEDY, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(options)) {
      content += chunk.choices[0]?.delta.content ?? "";
      thought += chunk.choices[0]?.delta.reasoning_content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { content, thought, usage };
  },
  async budget(client) {
    const reply = await client.chat.completions.create({ ...GREEDY, thinking_budget: 12 });
    return reply.usage.completion_tokens_details.reasoning_tokens;
  },
  async structured(client) {
    const format = { type: "json_schema", json_schema: { name: "sum", strict: true, schema: SCHEMA } };
    const reply = await client.chat.completions.create({ ...GREEDY, response_format: format, max_completion_tokens: 400 });
    return JSON.parse(reply.choices[0].message.content);
  },
  async response(client) {
    const reply = await client.responses.create({ model: "pocket", input: QUESTION[0].content, temperature: 0 });
    return { text: reply.output_text, status: reply.status };
  },
  async responseStream(client) {
    let text = "", last = null;
    const options = { model: "pocket", input: QUESTION[0].content, temperature: 0, stream: true };
    for await (const event of await client.responses.create(options)) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event.type;
    }
    return { text, last };
  },
  async embeddings(client) {
    return refused(client.embeddings.create({ model: "pocket", input: "x" }));
  },
  async unknownModel(client) {
    return refused(client.chat.completions.create({ ...GREEDY, model: "nosuch" }));
  },
  async badTemperature(client) {
    return refused(client.chat.completions.create({ ...GREEDY, temperature: -1 }));
  },
  async tools(_, scripted) {
    const messages = [{ role: "user", content: "How is it in Oslo?" }];
    const first = await scripted.chat.completions.create({ model: "pocket", messages, tools: [WEATHER] });
    const [call] = first.choices[0].message.tool_calls;
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "-3" });
    const second = await scripted.chat.completions.create({ model: "pocket", messages, tools: [WEATHER] });
    return { call, reason: first.choices[0].finish_reason, answer: second.choices[0].message.content };
  },
  async toolStream(_, scripted) {
    const messages = [{ role: "user", content: "How is it in Oslo?" }];
    const stream = scripted.chat.completions.stream({ model: "pocket", messages, tools: [WEATHER] });
    const final = await stream.finalChatCompletion();
    return final.choices[0].message.tool_calls[0].function;
  },
};

(async () => {
  const [live, scripted] = process.argv.slice(2).map(connect);
  const told = {};
  for (const [name, step] of Object.entries(steps)) told[name] = await step(live, scripted);
  process.stdout.write(JSON.stringify(told));
})();
