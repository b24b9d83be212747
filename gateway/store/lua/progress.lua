-- Says that the holder of a claim works on the job, though it has no event for it. ARGV: claim id.
-- Returns 1, or 0 if the claim does not hold any more.
local state, claim = unpack(redis.call('HMGET', KEYS[1], 'state', 'claim'))
if state ~= 'running' or claim ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'progress_at', now_ms())
return 1
