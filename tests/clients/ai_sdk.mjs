// Vercel's AI SDK, with its provider for servers that speak OpenAI's protocol.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

// Modules are looked for beside this file, and the packages are in .clients/node.
const require = createRequire(path.join(process.env.NODE_PATH, "here.js"));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { generateObject, generateText, stepCountIs, streamObject, streamText, tool, APICallError } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const server = JSON.parse(process.argv[2]);
const QUESTION = "What is the capital of France?";
const SAID = "The capital of France is Paris.";
const City = z.object({ name: z.string(), population: z.number().int() });
const scenarios = {};
const scenario = (name, run) => (scenarios[name] = run);

const connect = (model, apiKey = server.key) =>
  createOpenAICompatible({
    name: "headrace",
    baseURL: server.base_url,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  })(model);
const settings = (model = server.model, apiKey = server.key) => ({
  model: connect(model, apiKey),
  prompt: QUESTION,
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: 24,
});

function check(condition, text) {
  if (!condition) throw new Error(text);
}

function checkText(text) {
  check(typeof text === "string" && text.trim(), `no text: ${text}`);
  check(!server.certain || text === SAID, text);
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    check(APICallError.isInstance(error), `${error.name}: ${error.message}`);
    return error;
  }
  throw new Error("it is not refused");
}

scenario("chat", async () => {
  const answer = await generateText(settings());
  checkText(answer.text);
  check(answer.usage.outputTokens > 0, "no usage");
});

scenario("stream", async () => {
  const answer = streamText(settings());
  let text = "";
  for await (const piece of answer.textStream) text += piece;
  checkText(text);
  check((await answer.usage).outputTokens > 0, "no usage");
});

scenario("tools", async () => {
  const calls = [];
  const weather = tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      calls.push(city);
      return `${city}: It rains.`;
    },
  });
  const answer = await generateText({
    ...settings(server.tools_model),
    maxOutputTokens: 200,
    tools: { weather },
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  });
  check(calls.length > 0, "nothing was called");
  checkText(answer.text);
});

scenario("tools_streamed", async () => {
  const weather = tool({ description: "The weather in a city.", inputSchema: z.object({ city: z.string() }) });
  const answer = streamText({
    ...settings(server.tools_model),
    maxOutputTokens: 200,
    tools: { weather },
    toolChoice: { type: "tool", toolName: "weather" },
  });
  for await (const part of answer.fullStream) if (part.type === "error") throw part.error;
  const calls = await answer.toolCalls;
  check(calls.length > 0 && calls[0].toolName === "weather" && "city" in calls[0].input, JSON.stringify(calls));
});

scenario("structured_by_schema", async () => {
  const answer = await generateObject({ ...settings(server.tools_model), maxOutputTokens: 200, schema: City });
  City.parse(answer.object);
});

scenario("structured_streamed", async () => {
  const answer = streamObject({ ...settings(server.tools_model), maxOutputTokens: 200, schema: City });
  for await (const _ of answer.partialObjectStream);
  City.parse(await answer.object);
});

scenario("errors", async () => {
  check((await refused(() => generateText(settings(server.model, "wrong")))).statusCode === 401, "not 401");
  check((await refused(() => generateText(settings("gpt-99")))).statusCode === 404, "not 404");
  const limited = await refused(async () => {
    for (let i = 0; i < 2; i++) await generateText(settings(server.model, server.limited_key));
  });
  check(limited.statusCode === 429 && limited.isRetryable, "not 429");
});

scenario("overflow", async () => {
  const long = { ...settings(), prompt: "word ".repeat(9000) };
  const error = await refused(() => generateText(long));
  check(error.statusCode === 400 && error.data.error.code === "context_length_exceeded", error.message);
  let found;
  const answer = streamText({ ...long, onError: ({ error }) => (found = error) });
  for await (const _ of answer.textStream);
  check(APICallError.isInstance(found) && found.statusCode === 400, `${found}`);
});

const outcomes = {};
const names = process.argv.slice(3);
for (const name of names.length ? names : Object.keys(scenarios)) {
  try {
    await scenarios[name]();
    outcomes[name] = "";
  } catch (error) {
    outcomes[name] = `${error.stack}\n${JSON.stringify(error.responseBody ?? "")}`;
  }
}
console.log(`\n${JSON.stringify(outcomes)}`);
