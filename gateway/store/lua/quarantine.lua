-- Puts a record that can't be read out of the way, and in its place one of a job that has failed and says so, with the
-- journal as it is behind which this is said. KEYS[4]: where the old record goes.
-- ARGV: for how many ms the old record stays, and the new one; the event; field, value, ... of the new record.
-- Returns {1 if it was done, 0 if there is no record; the journal's last seq; the hubs that watch}.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  return {0, 0, ''}
end
local seq, watch, state = 0, '', ''
if kind == 'hash' then
  seq = tonumber(redis.call('HGET', KEYS[1], 'seq')) or 0
  watch, state = redis.call('HGET', KEYS[1], 'watch') or '', redis.call('HGET', KEYS[1], 'state')
end
if redis.call('TYPE', KEYS[2]).ok == 'stream' then
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  seq = newest and tonumber(string.match(newest[1], '^%d+')) or seq
else
  redis.call('DEL', KEYS[2])
end
if not (seq >= 0 and seq < 2^53) then
  seq = 0
end
seq = seq + 1
if not pcall(redis.call, 'XADD', KEYS[2], string.format('%d-0', seq), 'e', ARGV[3]) then
  redis.call('DEL', KEYS[2])
  redis.call('XADD', KEYS[2], string.format('%d-0', seq), 'e', ARGV[3])
end
redis.call('RENAME', KEYS[1], KEYS[4])
redis.call('PEXPIRE', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'failed', 'finished_at', now_ms(), 'seq', seq, unpack(ARGV, 4))
if not ended(state) then
  counting(count_end, 'failed', {unpack(ARGV, 4)}, now_ms())
  counting(note, now_ms(), 'failed')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1] .. ':timeline', ARGV[2])
redis.call('DEL', KEYS[3])
return {1, seq, watch}
