-- Writes a new job record, and says that the job is to be settled, in the set KEYS[4], if there is one: it is never
-- in one without the other. ARGV: job id, how long it counts as attended in ms (-1 = needs nobody), field, value, ...
-- Again with the same id changes nothing.
-- Returns {when it was created, in ms; 1 if by this call; the fingerprint of the request that it was created for}.
local before, fingerprint = unpack(redis.call('HMGET', KEYS[1], 'created_at', 'fingerprint'))
if before then
  return {tonumber(before) or 0, 0, fingerprint or ''}
end
local now = now_ms()
local attended = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'created_at', now, 'queued_at', now, unpack(ARGV, 3))
redis.call('HSET', KEYS[1], 'attended_until', attended < 0 and -1 or now + attended)
if KEYS[4] then
  redis.call('SADD', KEYS[4], ARGV[1])
end
return {now, 1, redis.call('HGET', KEYS[1], 'fingerprint') or ''}
