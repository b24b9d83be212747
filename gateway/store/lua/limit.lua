#!lua flags=allow-oom
-- What one API key may use and has used. All keys of it share a slot, which is another than the jobs'.
-- KEYS: window (sorted set: job, when it was charged),
-- charges (hash: job, its tokens; ?job, 1 while they are only reserved; '' = their sum; '!' = what a minute allows),
-- open (set: jobs that the ledger has not counted yet). settle.lua counts those that have ended.
-- ARGV: 'reserve', job, tokens, requests a minute, tokens a minute (0 = no limit)
--       'look', '', 0, requests a minute, tokens a minute: nothing is asked for
--       'refused', a name, 0, requests a minute, tokens a minute: a request that was not even one counts as one
--       'correct', job, tokens: its tokens were counted, and are more than was reserved. Returns {over, wait}, as below
--       'refund', job: it was discarded before any client knew of it
--       'reserved', age: the jobs that have been only reserved for at least `age` ms
--       'expire', job: the process that reserved for it died before it made the job.
-- A charge counts for 60 s from when it was made, whatever happens, so that no reservation can leak; one from the
-- future, where Redis' clock went back, from now on. All this goes on in a full Redis, so that jobs can end there. Each call sets a
-- job's charge to a value and never adds to it, so that it may be made again; the ledger counts who closes the job.
local MINUTE = 60000
local what, job = ARGV[1], ARGV[2]

local function charge(id, tokens)
  set_charge(KEYS[2], id, tokens)
end

local function discharge(id)
  charge(id, 0)
  redis.call('HDEL', KEYS[2], id, '?' .. id)
  redis.call('ZREM', KEYS[1], id)
end

-- How long until the oldest `requests` charges, or the oldest that hold `tokens`, have left the window.
local function leaves_in(now, requests, tokens)
  local at = now
  local oldest = redis.call('ZRANGE', KEYS[1], 0, math.min(math.max(requests, 64), 1000) - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if requests <= 0 and tokens <= 0 then
      break
    end
    requests = requests - 1
    tokens = tokens - (tonumber(redis.call('HGET', KEYS[2], oldest[i])) or 0)
    at = tonumber(oldest[i + 1]) + MINUTE
  end
  return at - now
end

-- Where the clock went back, charges would count for as long as it did.
local function mend(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
    redis.call('ZADD', KEYS[1], now, id)
  end
end

if what == 'refund' or what == 'expire' then
  discharge(job)
  if what == 'refund' then
    redis.call('SREM', KEYS[3], job)
  end
  return 1
end

if what == 'reserved' then
  local jobs, now = {}, now_ms()
  mend(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))) do
    if redis.call('HEXISTS', KEYS[2], '?' .. id) == 1 then
      jobs[#jobs + 1] = id
    end
  end
  return jobs
end

if what == 'correct' then
  local limit = tonumber(redis.call('HGET', KEYS[2], '!')) or 0
  local now, before = now_ms(), redis.call('HGET', KEYS[2], job)
  if not before or limit == 0 then
    return {'', 0}  -- its minute is over
  end
  charge(job, tonumber(ARGV[3]))
  local more = tonumber(redis.call('HGET', KEYS[2], '')) - limit
  if more <= 0 then
    return {'', 0}
  end
  charge(job, tonumber(before))
  return {'tokens', math.max(0, leaves_in(now, 0, more))}
end

-- Returns {what is over: '' | 'requests' | 'tokens', requests used, tokens used, ms until all of the window has left,
-- ms until the request would fit}, with this request counted if it was taken.
local now = now_ms()
mend(now)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - MINUTE)) do
  discharge(id)
end
local tokens, max_requests, max_tokens = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local used_requests = redis.call('ZCARD', KEYS[1])
local used_tokens = tonumber(redis.call('HGET', KEYS[2], '')) or 0
local over, wait = '', 0
if what ~= 'look' and not redis.call('ZSCORE', KEYS[1], job) then
  local more_requests, more_tokens = used_requests + 1 - max_requests, used_tokens + tokens - max_tokens
  if max_requests > 0 and more_requests > 0 then
    over, wait = 'requests', leaves_in(now, more_requests, 0)
  end
  if max_tokens > 0 and more_tokens > 0 then
    over, wait = over == '' and 'tokens' or over, math.max(wait, leaves_in(now, 0, more_tokens))
  end
  if over == '' then
    redis.call('ZADD', KEYS[1], now, job)
    charge(job, tokens)
    redis.call('HSET', KEYS[2], '!', max_tokens)
    if what == 'reserve' then
      redis.call('HSET', KEYS[2], '?' .. job, 1)
    end
    used_requests, used_tokens = used_requests + 1, used_tokens + tokens
    redis.call('PEXPIRE', KEYS[1], MINUTE)
    redis.call('PEXPIRE', KEYS[2], MINUTE)
  end
end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
return {over, used_requests, used_tokens, newest and tonumber(newest) + MINUTE - now or 0, wait}
