-- The circuit breaker of one provider. KEYS[1]: hash (opened_at, probe_until), KEYS[2]: sorted set of failures.
-- ARGV: what to do, failures that open it, window in ms, how long it stays open in ms, a unique name for a failure, and
-- of a call that is reported, which are counted: the provider, how it ended, how many ms it took.
-- 'allow' asks for leave to call (half open: one caller at a time has it), 'success', 'failure' and 'cancelled' report a
-- call, 'state' only looks. Returns {'closed' | 'half_open' | 'open', ms until the next try}.
-- What happened in the future, where the clock of Redis' host went back, is over.
local what, limit, window, pause = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local opened_at, probe_until = unpack(redis.call('HMGET', KEYS[1], 'opened_at', 'probe_until'))
opened_at, probe_until = tonumber(opened_at), tonumber(probe_until) or 0
if opened_at and opened_at > now then
  opened_at = now - pause
end
if ARGV[6] then
  counting(observe, tonumber(ARGV[8]), 'calls', ARGV[6], ARGV[7])
end
if what == 'success' then
  if opened_at then
    redis.call('DEL', KEYS[1], KEYS[2])
  end
  return {'closed', 0}
end
if what == 'failure' then
  redis.call('ZADD', KEYS[2], now, ARGV[5])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - window)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
  redis.call('PEXPIRE', KEYS[2], window)
  local half_open = opened_at and now >= opened_at + pause
  if half_open or (not opened_at and redis.call('ZCARD', KEYS[2]) >= limit) then
    opened_at = now
    redis.call('HSET', KEYS[1], 'opened_at', now, 'probe_until', 0)
  end
end
if not opened_at then
  return {'closed', 0}
end
local rest = opened_at + pause - now
if rest > 0 then
  return {'open', rest}
end
rest = math.max(0, probe_until - now)
if rest > pause then
  rest = 0
end
if what == 'allow' and rest == 0 then
  redis.call('HSET', KEYS[1], 'probe_until', now + pause)
end
return {'half_open', rest}
