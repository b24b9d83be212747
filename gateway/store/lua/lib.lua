-- Shared by all scripts: put before each of them when it is loaded.
-- KEYS[1] is the job hash, KEYS[2] its journal, KEYS[3] its vectors, in all but limit.lua, stored.lua,
-- breaker.lua and serving.lua.

-- What the score of a background job is more than the time in ms that it was made.
local BACKGROUND = 10000000000000
-- How long the set of the jobs that a worker has claimed is kept in ms after it was last looked at.
local HELD_TTL = 3600000
-- How long an ended job stays in ms, where its record does not say.
local DEFAULT_TTL = 600000

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- What is counted of all jobs, see gateway/store/metrics.py: a word, its labels, then of a histogram a bucket.
local METRICS, KEY_METRICS = 'hr:metrics', 'hr:metrics:keys'

local function ended(state)
  return state == 'done' or state == 'failed' or state == 'cancelled'
end

-- Adds to a counter of a model; its other labels follow.
local function count(by, word, model, ...)
  local field = table.concat({word, model, ...}, '\31')
  if redis.call('HINCRBY', METRICS, field, by) == tonumber(by) and redis.call('HLEN', METRICS) > MOST_METRICS then
    redis.call('HDEL', METRICS, field)
    redis.call('HINCRBY', METRICS, table.concat({word, '', ...}, '\31'), by)
  end
end

-- Adds a time in ms to a histogram.
local function observe(ms, word, ...)
  local labels, bucket, bounds = {...}, 1, BUCKETS[word]
  while bounds[bucket] and bounds[bucket] < ms do
    bucket = bucket + 1
  end
  labels[#labels + 1] = bucket
  count(1, word, unpack(labels))
  labels[#labels] = 'sum'
  count(string.format('%d', math.max(0, 1000 * ms)), word, unpack(labels))
end

-- A whole number of a record or of JSON; 0 if it is none.
local function whole(value)
  value = tonumber(value) or 0
  return value >= 0 and value < 2^53 and math.floor(value) or 0
end

local function object(text)
  local read, found = pcall(cjson.decode, text or '')
  return read and type(found) == 'table' and found or {}
end

-- Whether agents run such jobs, as AGENT_KINDS in gateway/jobs/record.py: they run no model.
local function of_agents(kind)
  return kind == 'deployment' or kind == 'addition'
end

-- Whether a text is a word of ours, such as a reason or a stage.
local function is_word(text)
  return type(text) == 'string' and #text <= 40 and string.match(text, '^[%l_]+$')
end

-- How many entries of a journal are looked at for its stages.
local MOST_ENTRIES = 2000

-- Counts how long each stage took that is complete, of each replica of a deployment.
local function count_stages(model)
  local begun = {}
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', MOST_ENTRIES)) do
    local event = object(entry[2][2])
    if event.type == 'stage' and is_word(event.stage) then
      local name, at = tostring(event.replica) .. '/' .. event.stage, whole(event.at)
      if begun[name] == nil then
        begun[name] = at
      end
      if event.status == 'completed' and begun[name] then
        observe(math.max(0, at - begun[name]), 'stages', model, event.stage)
        begun[name] = false
      end
    end
  end
end

-- Counts the end of a job in this state, with the fields that are set with it.
local function count_end(state, fields, now)
  local model, kind, key, created, started, first, made, tokens, slots, attended, grace, why = unpack(redis.call('HMGET',
    KEYS[1], 'model', 'kind', 'key_id', 'created_at', 'started_at', 'first_at', 'made_ids', 'claim_ids', 'slots',
    'attended_until', 'grace_ms', 'cancel_reason'))
  local given = {}
  for i = 1, #fields, 2 do
    given[fields[i]] = fields[i + 1]
  end
  local reason = object(given.error).reason
  reason = is_word(reason) and reason or 'other'
  model, kind = model or '', kind or 'chat'
  count(1, 'jobs', model, kind, state)
  if state == 'failed' then
    count(1, 'failures', model, reason)
  end
  local took = math.max(0, now - whole(created))
  if of_agents(kind) then
    observe(took, 'deployments', model, kind, state)
    return count_stages(model)
  end
  redis.call('HINCRBY', KEY_METRICS, table.concat({key or '', state}, '\31'), 1)
  observe(took, 'duration', model, kind, state == 'failed' and reason or state == 'cancelled' and state or '')
  local usage = object(given.usage)
  local details = type(usage.prompt_tokens_details) == 'table' and usage.prompt_tokens_details or {}
  local answer = whole(usage.completion_tokens)
  for of, number in pairs({prompt = usage.prompt_tokens, cached = details.cached_tokens, answer = answer}) do
    if whole(number) > 0 then
      count(whole(number), 'tokens', model, of)
    end
  end
  if state == 'done' and first and answer > 1 then
    observe((now - whole(first)) / (answer - 1), 'each', model, kind)
  end
  local lost = whole(made) + whole(tokens) - answer
  if lost > 0 then
    count(lost, 'lost', model)
  end
  if state == 'cancelled' and (given.reason or why) == 'client_gone' and started then
    local since = math.max(whole(started), whole(attended) - whole(grace))
    count(whole(slots) * math.max(0, now - since), 'left', model)
  end
end

-- Counts or notes something, whatever is wrong with it: that ends no job.
local function counting(what, ...)
  local well, problem = pcall(what, ...)
  if not well then
    redis.log(redis.LOG_WARNING, 'not counted or noted: ' .. tostring(type(problem) == 'table' and problem.err or problem))
  end
end

-- How many entries a timeline has; from MANY_NOTES on only those of claims and ends.
local MOST_NOTES, MANY_NOTES = 400, 200

-- Adds an entry to the timeline of the job, see gateway/views/timeline.py: what has happened, when, and more.
local function note(now, what, more)
  local name = KEYS[1] .. ':timeline'
  local length = redis.call('LLEN', name)
  if length < (what == 'batch' and MANY_NOTES or MOST_NOTES) or ended(what) then
    more = more or {}
    more.at, more.what = now, what
    redis.call('RPUSH', name, cjson.encode(more))
  end
end

-- How many jobs that have ended may wait for the export of their traces, and for how many seconds.
local MOST_TRACES, TRACES_S = 10000, 86400

-- Has the trace of the job exported, if its client has asked for it: the last bit of its flags says so.
local function end_trace()
  local trace = redis.call('HGET', KEYS[1], 'traceparent')
  if trace and string.find(trace, '[13579bdf]$') then
    redis.call('RPUSH', 'hr:traces', string.match(KEYS[1], '^hr:{(.*)}$'))
    redis.call('LTRIM', 'hr:traces', -MOST_TRACES, -1)
    redis.call('EXPIRE', 'hr:traces', TRACES_S)
  end
end

-- Ends the job: the caller has checked that it has not ended. No TTL is set before this point. `ttl`: that of its record.
-- `fields`: of the record, which are set with its end.
local function finish(state, ttl, fields)
  local now = now_ms()
  redis.call('HSET', KEYS[1], 'state', state, 'finished_at', now, 'owner', '', unpack(fields))
  counting(count_end, state, fields, now)
  counting(note, now, state)
  counting(end_trace)
  ttl = tonumber(ttl) or DEFAULT_TTL
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
  redis.call('PEXPIRE', KEYS[1] .. ':timeline', ttl)
  if state == 'done' then
    redis.call('PEXPIRE', KEYS[3], ttl)
  else
    redis.call('DEL', KEYS[3])
  end
end

-- Adds a JSON object of fields to a flat list of them.
local function add_fields(fields, object)
  for name, value in pairs(cjson.decode(object)) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end

-- Counts what the request of a job takes, in the hash of its API key: job, bytes; '' = their sum. It may be done again.
local function count_bytes(stored, job, bytes)
  local before = tonumber(redis.call('HGET', stored, job)) or 0
  redis.call('HSET', stored, job, bytes)
  redis.call('HINCRBY', stored, '', bytes - before)
end

-- Sets the tokens that a job is charged, in the hash of its API key; '' = their sum.
local function set_charge(charges, job, tokens)
  local before = tonumber(redis.call('HGET', charges, job)) or 0
  redis.call('HSET', charges, job, tokens)
  redis.call('HSET', charges, '', (tonumber(redis.call('HGET', charges, '')) or 0) + tokens - before)
end
