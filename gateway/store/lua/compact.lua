-- Replaces the journal of an ended job. ARGV: last seq that the new entries stand for, seq, event, seq, event, ...
-- Returns 1 if it was done; 0 if the job has not ended, or its journal is another one by now.
local state, seq, compacted = unpack(redis.call('HMGET', KEYS[1], 'state', 'seq', 'compacted'))
if compacted or not (state and ended(state)) or seq ~= ARGV[1] then
  return 0
end
local ttl = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[2])
for i = 2, #ARGV, 2 do
  redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 'e', ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('HSET', KEYS[1], 'compacted', '1')
return 1
