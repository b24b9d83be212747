#!lua flags=allow-oom
-- What the requests of one API key take in Redis. KEYS[1]: hash: job, bytes of its request; '' = their sum. create.lua
-- counts them.
-- ARGV: jobs whose records are gone. It may be called again.
for _, job in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], job) == 1 then
    count_bytes(KEYS[1], job, 0)
    redis.call('HDEL', KEYS[1], job)
  end
end
return 1
