-- with lib_lines
-- queued -> running, in the record, the indexes and the lines. KEYS[4]: the index of running jobs, KEYS[5]: the queue index
-- of the model, KEYS[6]: its lines, KEYS[7]: the jobs that the owner has claimed. ARGV: owner, claim id, model, version
-- that the worker knows, job id. Asked again with the same claim id, it answers the same.
-- Returns {verdict, record}: 'ok' | 'missing' | 'elsewhere' (another model runs it) | 'newer' (a version that the worker
-- does not know) | the state that forbids the claim. A job that is not claimed stays where it is: see track.lua.
local id = ARGV[5]
local state, claim, seq, model, route, version, started_at, epoch, attempts, kind, cause, made, tokens, counted, created,
  first_at = unpack(redis.call('HMGET', KEYS[1], 'state', 'claim', 'seq', 'model', 'route', 'v', 'started_at', 'epoch',
    'attempts', 'kind', 'cause', 'made_ids', 'claim_ids', 'counted_claim', 'created_at', 'first_at'))

-- Counts how long it waited first, or why it goes on, and behind how much.
local function count_claim(now)
  if of_agents(kind) then
    return
  end
  if not started_at then
    observe(math.max(0, now - whole(created)), 'waited', model or '')
  elseif first_at then
    count(1, 'resumes', model or '', cause or 'other')
    if made > 0 then
      count(made, 'replayed', model or '')
    end
  end
end

if not state then
  return {'missing', {}}
end
local now = now_ms()
if state == 'queued' then
  if ARGV[3] ~= (route and route ~= '' and route or model) then
    return {'elsewhere', {}}
  end
  if (tonumber(version) or 0) > tonumber(ARGV[4]) then
    return {'newer', {}}
  end
  made, tokens = whole(made), whole(tokens)
  if counted ~= ARGV[2] then -- else it was taken from this claim, whose worker still has it, and goes on as it was
    made, tokens = made + tokens, 0
    counting(count_claim, now)
  end
  counting(note, now, 'claimed', {worker = ARGV[1], claim = ARGV[2], model = ARGV[3], behind_tokens = made + tokens})
  redis.call('HSET', KEYS[1], 'state', 'running', 'made_ids', made, 'claim_ids', tokens, 'counted_claim', ARGV[2],
    'owner', ARGV[1], 'claim', ARGV[2], 'progress_at', now, 'claim_seq', seq or 0, 'claim_tokens', 0,
    'started_at', started_at or now, 'epoch', (tonumber(epoch) or 0) + 1, 'attempts', (tonumber(attempts) or 0) + 1)
elseif state ~= 'running' or claim ~= ARGV[2] then
  return {state, {}}
end
local flat = redis.call('HGETALL', KEYS[1])
redis.call('ZADD', KEYS[4], 'NX', now, id)
redis.call('SADD', KEYS[7], id)
redis.call('PEXPIRE', KEYS[7], HELD_TTL)
redis.call('ZREM', KEYS[5], id)
on_lines(KEYS[6], function() leave(KEYS[6], id, fields_of(flat)) end)
return {'ok', flat}
