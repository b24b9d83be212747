-- Shared by all scripts: put before each of them when it is loaded.
-- KEYS[1] is the job hash, KEYS[2] its journal, KEYS[3] its vectors, in all but limit.lua, stored.lua and breaker.lua.

-- What the score of a background job is more than the time in ms that it was made.
local BACKGROUND = 10000000000000
-- How long an ended job stays in ms, where its record does not say.
local DEFAULT_TTL = 600000

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Ends the job: the caller has checked that it has not ended. No TTL is set before this point.
local function finish(state, fields)
  redis.call('HSET', KEYS[1], 'state', state, 'finished_at', now_ms(), 'owner', '', unpack(fields))
  local ttl = tonumber(redis.call('HGET', KEYS[1], 'ttl_ms')) or DEFAULT_TTL
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
  if state == 'done' then
    redis.call('PEXPIRE', KEYS[3], ttl)
  else
    redis.call('DEL', KEYS[3])
  end
end

local function ended(state)
  return state == 'done' or state == 'failed' or state == 'cancelled'
end
