// The conversation of this tab: what was asked, and the answers. It survives a reload, and ends with the session.
import { signal } from "@preact/signals";
import { key } from "../../session";
import { Answer, type AnswerData } from "./answer";
import { body, EMPTY, type Fields, type Message } from "./request";

/** A question, and the answer of each model that was asked. */
export interface Exchange {
  question: string;
  answers: Answer[];
}

interface Kept {
  fields: Fields;
  exchanges: { question: string; answers: AnswerData[] }[];
}

const PLACE = "headrace.playground";

export const fields = signal<Fields>(EMPTY);
export const exchanges = signal<Exchange[]>([]);

restore();
addEventListener("pagehide", keep);

export function change(part: Partial<Fields>): void {
  fields.value = { ...fields.value, ...part };
}

export function isRunning(): boolean {
  return exchanges.value.some((exchange) => exchange.answers.some((answer) => !answer.data.value.ended));
}

/** Asks each model that is chosen. Throws: Error if a field of the form is wrong. */
export function ask(question: string): void {
  const models = fields.value.models.filter(Boolean);
  const answers = models.map((model, side) => Answer.ask(model, body(fields.value, messages(side, question))));
  exchanges.value = [...exchanges.value, { question, answers }];
  keep();
  for (const answer of answers) void answer.follow().then(keep);
}

/** The turns so far, as one of the models has heard them, and a question. */
export function messages(side: number, question: string): Message[] {
  const before = exchanges.value.flatMap(({ question: content, answers }) => {
    const text = answers[side]?.data.value.text;
    const user = { role: "user", content };
    return text ? [user, { role: "assistant", content: text }] : [];
  });
  return [...before, { role: "user", content: question }];
}

export function stop(): void {
  for (const { answers } of exchanges.value)
    for (const answer of answers) if (!answer.data.value.ended) void answer.stop();
}

export function clear(): void {
  stop();
  exchanges.value = [];
  keep();
}

function keep(): void {
  if (key.value === null) return sessionStorage.removeItem(PLACE);
  const kept: Kept = {
    fields: fields.value,
    exchanges: exchanges.value.map(({ question, answers }) => ({ question, answers: answers.map((one) => one.kept) })),
  };
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(kept));
  } catch {
    sessionStorage.removeItem(PLACE); // more than the browser keeps: a reload begins a new conversation
  }
}

function restore(): void {
  const text = sessionStorage.getItem(PLACE);
  if (!text) return;
  const kept = JSON.parse(text) as Kept;
  fields.value = { ...EMPTY, ...kept.fields };
  exchanges.value = kept.exchanges.map(({ question, answers }) => ({
    question,
    answers: answers.map((data) => new Answer(data)),
  }));
  for (const { answers } of exchanges.value) for (const answer of answers) answer.resume();
}
