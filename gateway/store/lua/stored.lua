#!lua flags=allow-oom
-- What the requests of one API key take in Redis. KEYS[1]: hash: job, bytes of its request; '' = their sum.
-- ARGV: 'add', job, bytes; or 'drop', job, ... whose records are gone. Each may be made again. Returns the sum.
local function add(job, bytes)
  local before = tonumber(redis.call('HGET', KEYS[1], job)) or 0
  redis.call('HSET', KEYS[1], job, bytes)
  return redis.call('HINCRBY', KEYS[1], '', bytes - before)
end

if ARGV[1] == 'add' then
  return add(ARGV[2], tonumber(ARGV[3]))
end
local sum = tonumber(redis.call('HGET', KEYS[1], '')) or 0
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    sum = add(ARGV[i], 0)
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return sum
