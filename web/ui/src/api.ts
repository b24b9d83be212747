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

async function failure(response: Response): Promise<ApiError> {
  const after = Number(response.headers.get("Retry-After"));
  const retryAfterS = response.headers.has("Retry-After") && Number.isFinite(after) ? after : null;
  try {
    const body = (await response.json()) as { message: string; data?: { reason?: string } };
    return new ApiError(body.message, response.status, body.data?.reason ?? "", retryAfterS, body.data ?? {});
  } catch {
    return new ApiError(`${response.status} ${response.statusText}`, response.status, "", retryAfterS);
  }
}
