#!lua flags=allow-oom
-- Changes fields of an API key's record, in a full Redis, too: revoking must be possible.
-- KEYS: record, index (hash: key id, digest of its secret). ARGV: key id, digest, then field and value, again and again.
-- Returns 'moved' if the key has got another secret meanwhile, so that its record is elsewhere.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 'moved'
end
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
return 'ok'
