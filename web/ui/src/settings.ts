// What somebody has chosen for this browser: language and theme.
import { effect, signal } from "@preact/signals";

export type Language = "en" | "zh";
export type Theme = "auto" | "light" | "dark";

export const THEMES: readonly Theme[] = ["auto", "light", "dark"];

export const language = signal<Language>(
  stored("language", ["en", "zh"]) ?? (navigator.language.startsWith("zh") ? "zh" : "en"),
);
export const theme = signal<Theme>(stored("theme", THEMES) ?? "auto");

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(prefersDark.matches);
prefersDark.addEventListener("change", (event) => (systemDark.value = event.matches));

/** Whether the page is dark now. */
export function isDark(): boolean {
  return theme.value === "auto" ? systemDark.value : theme.value === "dark";
}

/** Keeps the document and the browser's storage as chosen. */
export function follow(): void {
  effect(() => {
    document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    localStorage.setItem("headrace.language", language.value);
    localStorage.setItem("headrace.theme", theme.value);
  });
}

function stored<T extends string>(name: string, allowed: readonly T[]): T | undefined {
  const value = localStorage.getItem(`headrace.${name}`);
  return allowed.find((one) => one === value);
}
