-- Shared by all scripts: put before each of them when it is loaded.
-- KEYS[1] is the job hash, KEYS[2] its journal, KEYS[3] its vectors, in all but limit.lua, stored.lua and breaker.lua.

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

-- Ends the job: the caller has checked that it has not ended. No TTL is set before this point. `ttl`: that of its record.
-- `fields`: of the record, which are set with its end.
local function finish(state, ttl, fields)
  redis.call('HSET', KEYS[1], 'state', state, 'finished_at', now_ms(), 'owner', '', unpack(fields))
  ttl = tonumber(ttl) or DEFAULT_TTL
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
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

local function ended(state)
  return state == 'done' or state == 'failed' or state == 'cancelled'
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
