#!lua flags=allow-oom
-- Says that a process watches the job: its events are published there, and it counts as attended.
-- ARGV: hub id, or '' to only refresh the attendance; for how long it counts, in ms. Returns 0 if the job is gone.
-- It takes a few bytes, also of a full Redis: the client is there all the same.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if ARGV[1] ~= '' then
  local watch = redis.call('HGET', KEYS[1], 'watch') or ''
  if not string.find(',' .. watch .. ',', ',' .. ARGV[1] .. ',', 1, true) then
    redis.call('HSET', KEYS[1], 'watch', watch == '' and ARGV[1] or (watch .. ',' .. ARGV[1]))
  end
end
if redis.call('HGET', KEYS[1], 'attended_until') ~= '-1' then
  redis.call('HSET', KEYS[1], 'attended_until', now_ms() + tonumber(ARGV[2]))
end
return 1
