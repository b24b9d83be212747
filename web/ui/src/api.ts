// Requests to the API of this server: the envelope, errors, and the session's header.

/** An error as the API says it; `status` 0: the server could not be reached. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly reason: string,
    readonly retryAfterS: number | null = null,
    /** What else the answer says of it, such as what would fit. */
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** Sends a request with the session's cookie, which counts only beside this header. Throws: ApiError. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { Accept: "application/json", "X-Headrace-Dashboard": "1", ...init.headers };
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(String(error), 0, "unreachable");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** The data of an answer. Throws: ApiError. */
export async function get<T>(path: string, init: RequestInit = {}): Promise<T> {
  return ((await (await send(path, init)).json()) as { data: T }).data;
}

/** The same with a JSON body. */
export function post<T>(path: string, body: unknown, method = "POST"): Promise<T> {
  return get<T>(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

/** A path with a model's id: its slashes stay, as the API's own paths have them. */
export function modelPath(id: string, rest = ""): string {
  return `models/${[...id.split("/").map(encodeURIComponent), rest].filter(Boolean).join("/")}`;
}

/** What every answer is in. An error has a reason. */
export interface Envelope {
  code: number;
  message: string;
  data?: ({ reason?: string } & Record<string, unknown>) | null;
}

/** The error that an envelope holds. */
export function errorOf({ code, message, data }: Envelope, retryAfterS: number | null = null): ApiError {
  return new ApiError(message, code, data?.reason ?? "", retryAfterS, data ?? {});
}

async function failure(response: Response): Promise<ApiError> {
  const after = Number(response.headers.get("Retry-After"));
  const retryAfterS = response.headers.has("Retry-After") && Number.isFinite(after) ? after : null;
  try {
    return errorOf((await response.json()) as Envelope, retryAfterS);
  } catch {
    return new ApiError(`${response.status} ${response.statusText}`, response.status, "", retryAfterS);
  }
}
