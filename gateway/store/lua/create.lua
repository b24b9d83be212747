-- with lib_lines
-- Writes a new job record, says that the job is to be settled, in the set KEYS[4], and puts it into its model's lines,
-- KEYS[5]: it is never in one without the others. Those of '' it does without.
-- ARGV: job id, how long it counts as attended in ms (-1 = needs nobody), the last position at which it is taken (0 =
-- any), jobs that the model begins in 1,000 s (0 = not known), a name for what is asked, field, value, ...
-- Again with the same id changes nothing. Returns {when it was created, in ms; 1 if by this call; the fingerprint of the
-- request that it was created for; the queue of a replica that is to be told, which no other call tells before it has
-- asked for jobs, or ''; its position, from 1; 0, or it was not made, and may be asked for again in so many ms; for how
-- many that were told to come back room is kept then}.
local id, base = ARGV[1], KEYS[5]
local before, fingerprint = unpack(redis.call('HMGET', KEYS[1], 'created_at', 'fingerprint'))
if before then
  return {tonumber(before) or 0, 0, fingerprint or '', '', 0, 0, 0}
end
local now = now_ms()
local attended = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'created_at', now, 'queued_at', now, unpack(ARGV, 6))
redis.call('HSET', KEYS[1], 'attended_until', attended < 0 and -1 or now + attended)
fingerprint = redis.call('HGET', KEYS[1], 'fingerprint') or ''
local position, queue, coming = 0, '', 0

-- Returns 0, or in how many ms there will be room.
local function stand_in_line()
  local class, member, since = place_of(KEYS[1], id)
  local before, within = ahead(base, class, member, since)
  position = before + 1
  local wait, others = has_room(base, class, within + 1, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], now)
  coming = others or 0
  if wait == 0 then
    queue = opening(base, class, enter_line(base, class, member, since))
  end
  return wait
end

local wait = base == '' and 0 or on_lines(base, stand_in_line, ARGV[5])
if wait > 0 then
  redis.call('DEL', KEYS[1])
  return {now, 0, fingerprint, '', position, wait, coming}
end
if KEYS[4] ~= '' then
  redis.call('SADD', KEYS[4], id)
end
return {now, 1, fingerprint, queue, position, 0, 0}
