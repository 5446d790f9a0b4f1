// OpenAI's package for JavaScript.
import OpenAI from "openai";

const model = process.env.CF_MODEL;
const client = new OpenAI({ baseURL: `${process.env.CF_ADDRESS}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];

async function check(title, work) {
  let ok = true, said = "";
  try { said = (await work()) ?? ""; } catch (error) { ok = false; said = String(error); }
  console.log(JSON.stringify({ check: title, ok, said }));
}

function saysParis(text) {
  if (!text.includes("Paris")) throw new Error(`no Paris: ${text}`);
}

await check("chat", async () => {
  const found = await client.chat.completions.create({ model, messages, max_tokens: 64 });
  saysParis(found.choices[0].message.content);
});

await check("chat stream", async () => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 64, stream: true }))
    text += chunk.choices[0].delta.content ?? "";
  saysParis(text);
});

await check("tools, loop (runTools)", async () => {
  let called = 0;
  const runner = client.chat.completions.runTools({
    model, max_tokens: 64, messages: [{ role: "user", content: "How warm is it in Paris now?" }],
    tools: [{ type: "function", function: {
      name: "get_weather", description: "The weather of a city.", parse: JSON.parse,
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      function: ({ city }) => { called += 1; return `19 degrees Celsius in ${city}`; },
    } }],
  }, { maxChatCompletions: 5 });
  const said = await runner.finalContent();
  if (!called) throw new Error("the tool was not called");
  if (!said.includes("19")) throw new Error(`not 19 degrees: ${said}`);
  return `${said} after ${called} calls`;
});

await check("responses stream", async () => {
  let text = "";
  const stream = await client.responses.create({ model, input: messages[0].content, max_output_tokens: 64, stream: true });
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  saysParis(text);
});
