// OpenAI's npm client against a server: node openai_npm.mjs URL FOLDER
// FOLDER holds node_modules with the package "openai". Prints one JSON object.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [url, folder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(path.join(folder, "x.js")));
const { OpenAI, NotFoundError } = require("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const question = "Tom has 23 apples and buys 45 more. How many apples does he have now?";
const messages = [{ role: "user", content: question }];
const found = {};

found.models = (await client.models.list()).data.map((model) => model.id);

const whole = await client.chat.completions.create({ model: "builtin", messages });
found.text = whole.choices[0].message.content;
found.finish = whole.choices[0].finish_reason;

found.streamed = "";
const stream = await client.chat.completions.create({
  model: "builtin", messages, stream: true, stream_options: { include_usage: true },
  cf_local: { trace: true },
});
for await (const chunk of stream) {
  found.streamed += chunk.choices[0]?.delta.content ?? "";
  found.usage = chunk.usage ?? found.usage;
  found.answer = chunk.cf_local?.answer ?? found.answer;
}

const aborted = await client.chat.completions.create({
  model: "builtin", messages, stream: true, max_tokens: 400,
});
found.before_abort = 0;
for await (const _ of aborted) {
  found.before_abort += 1;
  if (found.before_abort === 3) aborted.controller.abort();
}

const schema = {
  type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"],
  additionalProperties: false,
};
const formed = await client.chat.completions.create({
  model: "builtin", messages,
  response_format: { type: "json_schema", json_schema: { name: "x", strict: true, schema } },
});
found.formed = JSON.parse(formed.choices[0].message.content);

const completion = await client.completions.create({
  model: "builtin", prompt: "Tom has", max_tokens: 8, n: 2,
});
found.completions = completion.choices.length;

try {
  await client.chat.completions.create({ model: "nonesuch", messages });
} catch (error) {
  found.error = [error instanceof NotFoundError, error.status, error.code];
}
console.log(JSON.stringify(found));
