-- Gives an API key another secret. The record moves to the new secret's key, and in the place of the old one stays who
-- had it, so that its holder can be told. Whether the old secret still holds, the record says.
-- KEYS: record, record of the new secret, index (hash: key id, digest of its secret)
-- ARGV: key id, digest, new digest, new prefix, now, until when the old secret holds (0 = no longer); in seconds.
-- Returns 'ok', 'moved' if the key has got another secret meanwhile, or 'taken' if the new secret is another key's.
local id, digest = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[3], id) ~= digest then
  return 'moved'
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'taken'
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'prefix', ARGV[4], 'rotated_at', ARGV[5], 'old_digest', digest, 'old_secret_until', ARGV[6])
redis.call('HSET', KEYS[3], id, ARGV[3])
redis.call('HSET', KEYS[1], 'replaced_secret_of', id, 'replaced_at', ARGV[5])
return 'ok'
