// Whose jobs there are.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../../api";
import { may, noticed } from "../../session";

/** The names of all keys by their ids, for an admin; else there are none to tell apart. */
export function useKeyNames(): ReadonlyMap<string, string> {
  const names = useSignal<ReadonlyMap<string, string>>(new Map());
  useEffect(() => {
    if (!may("admin")) return;
    get<{ keys: { id: string; name: string }[] }>("keys").then(({ keys }) => {
      names.value = new Map(keys.map((key) => [key.id, key.name]));
    }, noticed);
  }, []);
  return names.value;
}
