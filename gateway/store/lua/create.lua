-- with lib_lines
-- Writes a new job record, and puts the job everywhere where it belongs: it is never in one place without the others.
-- KEYS[4]: the set of jobs that are to be settled, KEYS[5]: its model's lines ('' = none, for both), KEYS[6]: the jobs of
-- its API key, KEYS[7]: the models with a queue, KEYS[8]: the queue index of its model, KEYS[9]: what the requests of its
-- API key take, see stored.lua.
-- ARGV: job id, its model, bytes of its request, how long it counts as attended in ms (-1 = needs nobody), the last
-- position at which it is taken (0 = any), jobs that the model begins in 1,000 s (0 = not known), a name for what is asked,
-- field, value, ...
-- Again with the same id changes nothing. Returns {when it was created, in ms; 1 if by this call; the fingerprint of the
-- request that it was created for; the queue of a worker that is to be told, which no other call tells before it has
-- asked for jobs, or ''; its position, from 1; 0, or it was not made, and may be asked for again in so many ms; for how
-- many that were told to come back room is kept then; jobs that its key has open, bytes of their requests}.
local id, base, now = ARGV[1], KEYS[5], now_ms()

local coming = 0

local function answer(created_at, is_new, fingerprint, queue, position, wait)
  local open = KEYS[4] ~= '' and redis.call('SCARD', KEYS[4]) or 0
  local stored = redis.call('HGET', KEYS[9], '') or 0
  return {created_at, is_new, fingerprint or '', queue, position, wait, coming, open, stored}
end

local before, known = unpack(redis.call('HMGET', KEYS[1], 'created_at', 'fingerprint'))
if before then
  return answer(tonumber(before) or 0, 0, known, '', 0, 0)
end
local attended = tonumber(ARGV[4])
local flat = {'created_at', now, 'queued_at', now, 'attended_until', attended < 0 and -1 or now + attended,
  'grace_ms', math.max(0, attended), unpack(ARGV, 8)}
local record = fields_of(flat)
local class, member, since = place_of(record, id)
local position, queue = 0, ''

-- Returns 0, or in how many ms there will be room.
local function look_for_room()
  local before_it, within = ahead(base, class, member, since)
  position = before_it + 1
  local wait, others = has_room(base, class, within + 1, tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], now)
  coming = others or 0
  return wait
end

local wait = base == '' and 0 or on_lines(base, look_for_room, ARGV[7])
if wait > 0 then
  return answer(now, 0, record.fingerprint, '', position, wait)
end
redis.call('ZADD', KEYS[6], now, id)
redis.call('SADD', KEYS[7], ARGV[2])
redis.call('ZADD', KEYS[8], now + (record.background == '1' and BACKGROUND or 0), id)
redis.call('HSET', KEYS[1], unpack(flat))
if base ~= '' then
  queue = on_lines(base, function() return opening(base, class, enter_line(base, class, member, since)) end)
end
if KEYS[4] ~= '' then
  redis.call('SADD', KEYS[4], id)
end
count_bytes(KEYS[9], id, tonumber(ARGV[3]))
counting(note, now, 'queued', {position = position})
return answer(now, 1, record.fingerprint, queue, position, 0)
