-- Adds events to the journal of a running job, and ends it if `state` is given. The state `queued` gives it to the
-- model that the fields name as its route.
-- ARGV: claim id, seq of the first event, state or '', JSON object of fields for the end, the progress of this claim up to
-- its last event, its token ids up to there, sequences in the batch (0: there is none), number of events, event, ..., then
-- pairs of an offset and the bytes that belong there in the vectors.
-- Returns {verdict, seq, why it is to be cancelled or '', watch}: 'ok' | 'missing' | 'fenced' | 'ended' | 'gap'.
-- A new size of the batch is noted so often at most, in ms.
local BATCH_MS = 2000
local state, claim, seq, cancel, reason, watch, ttl, first_at, ids, batch, batch_at = unpack(redis.call('HMGET', KEYS[1],
  'state', 'claim', 'seq', 'cancel', 'cancel_reason', 'watch', 'ttl_ms', 'first_at', 'claim_ids', 'batch', 'batch_at'))

-- Counts a write of a worker that does not hold the job any more.
local function fenced()
  counting(count, 1, 'refused', '')
  return {'fenced', seq, '', ''}
end

-- Counts how long the first token took.
local function count_first(now)
  local model, kind, created = unpack(redis.call('HMGET', KEYS[1], 'model', 'kind', 'created_at'))
  if kind == 'chat' or kind == 'completion' then
    observe(math.max(0, now - whole(created)), 'first', model or '', kind)
  end
end

if not state then
  return {'missing', 0, '', ''}
end
seq = tonumber(seq) or 0
cancel = cancel == '1' and (reason or 'client_request') or ''
if claim ~= ARGV[1] then
  return fenced()
end
local first = tonumber(ARGV[2])
local behind = 9 + tonumber(ARGV[8])
local last = first + tonumber(ARGV[8]) - 1
local both = math.min(last, seq)
if both >= first then
  -- Sent again: fine if the journal has exactly this. Else another claim has written before this one was restored.
  local held = redis.call('XRANGE', KEYS[2], both .. '-0', both .. '-0')
  if not held[1] or held[1][2][2] ~= ARGV[9 + both - first] then
    return fenced()
  end
end
if last <= seq then
  return {'ok', seq, cancel, watch or ''}
end
if state ~= 'running' then
  return ended(state) and {'ended', seq, '', ''} or fenced()
end
if first > seq + 1 then
  return {'gap', seq, '', ''}
end
for i = seq + 1, last do
  redis.call('XADD', KEYS[2], i .. '-0', 'e', ARGV[9 + i - first])
end
for i = behind, #ARGV, 2 do
  redis.call('SETRANGE', KEYS[3], ARGV[i], ARGV[i + 1])
end
local now = now_ms()
local fields = {'seq', last, 'progress_at', now, 'claim_tokens', ARGV[5]}
if ARGV[6] ~= '0' then
  fields[#fields + 1], fields[#fields + 2] = 'claim_ids', ARGV[6]
end
if not first_at and ARGV[5] ~= '0' and (ARGV[3] == '' or ARGV[3] == 'done') then
  fields[#fields + 1], fields[#fields + 2] = 'first_at', now
  counting(count_first, now)
end
local begins = ARGV[6] ~= '0' and whole(ids) == 0
if begins or ARGV[7] ~= '0' and ARGV[7] ~= batch and now - whole(batch_at) >= BATCH_MS then
  counting(note, now, begins and 'first_token' or 'batch', {batch = whole(ARGV[7])})
  for _, part in ipairs({'batch', ARGV[7], 'batch_at', now}) do
    fields[#fields + 1] = part
  end
end
if ARGV[3] ~= '' then
  add_fields(fields, ARGV[4])
end
if ARGV[3] == '' then
  redis.call('HSET', KEYS[1], unpack(fields))
elseif ARGV[3] == 'queued' then
  counting(note, now, 'handed_over', {model = cjson.decode(ARGV[4]).route})
  redis.call('DEL', KEYS[3])  -- another model's vectors can't be mixed with these
  redis.call('HSET', KEYS[1], 'state', 'queued', 'owner', '', 'claim', '', 'queued_at', now, 'recovered', '1',
    'cause', 'handed_over', unpack(fields))
else
  finish(ARGV[3], ttl, fields)
end
return {'ok', last, cancel, watch or ''}
