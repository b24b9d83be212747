// The frame of all pages: who has signed in, where one is, language and theme.
import { useEffect, useRef } from "preact/hooks";
import { t } from "./i18n";
import { Deployments } from "./pages/deployments/deployments";
import { Jobs } from "./pages/jobs/jobs";
import { Keys } from "./pages/keys/keys";
import { Overview } from "./pages/overview/overview";
import { Playground } from "./pages/playground/playground";
import { SignIn } from "./pages/sign_in";
import { address, PAGES, type Page, place } from "./route";
import { key, signOut, version } from "./session";
import { language, type Theme, THEMES, theme } from "./settings";

const VIEWS: Record<Page, () => preact.JSX.Element> = {
  overview: Overview,
  deployments: Deployments,
  playground: Playground,
  jobs: Jobs,
  keys: Keys,
};

export function App() {
  if (key.value === undefined) return <p class="notice">{t("page.loads")}</p>;
  const { page, id } = place.value;
  const View = VIEWS[page];
  return (
    <>
      <a class="skip" href="#content" onClick={toContent}>
        {t("nav.skip")}
      </a>
      <Header />
      <main id="content" tabIndex={-1}>
        {key.value ? <View key={`${page}/${id}`} /> : <SignIn />}
      </main>
      <Title page={page} id={id} />
    </>
  );
}

function Header() {
  return (
    <header class="bar">
      <span class="brand" title={version.value && `Headrace ${version.value}`}>
        <img src="dashboard/icon.svg" alt="" width="20" height="20" />
        Headrace
      </span>
      {key.value && (
        <nav aria-label={t("nav.label")}>
          {PAGES.map((page) => (
            <a key={page} href={address(page)} aria-current={page === place.value.page ? "page" : undefined}>
              {t(`nav.${page}`)}
            </a>
          ))}
          <a href="docs/">{t("nav.api")}</a>
        </nav>
      )}
      <div class="bar-end">
        <button type="button" class="quiet" lang={language.value === "en" ? "zh-CN" : "en"} onClick={otherLanguage}>
          {t("language.other")}
        </button>
        <select
          class="quiet"
          aria-label={t("theme.label")}
          value={theme.value}
          onChange={(event) => (theme.value = event.currentTarget.value as Theme)}
        >
          {THEMES.map((one) => (
            <option key={one} value={one}>
              {t(`theme.${one}`)}
            </option>
          ))}
        </select>
        {key.value && (
          <button
            type="button"
            class="quiet"
            title={t("signedInAs", { name: key.value.name })}
            onClick={() => void signOut()}
          >
            {t("signOut")}
          </button>
        )}
      </div>
    </header>
  );
}

/** The title of the document. A change of page takes the focus to its begin, as a new document would. */
function Title({ page, id }: { page: Page; id: string }) {
  const shown = `${page}/${id}`;
  const before = useRef(shown);
  useEffect(() => {
    document.title = `${id && `${id} · `}${t(`nav.${page}`)} · Headrace`;
    if (before.current !== shown) document.getElementById("content")?.focus();
    before.current = shown;
  });
  return null;
}

function toContent(event: Event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function otherLanguage() {
  language.value = language.value === "en" ? "zh" : "en";
}
