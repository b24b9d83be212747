-- Ends a job from outside: cancels it, or fails it. A finish that came first wins.
-- ARGV: state, event, JSON object of fields, claim id that may be taken away ('' = only a queued job ends here).
-- A running job of another claim is only marked, if it is to be cancelled. Returns {verdict, seq, watch, usage}:
-- 'ended' = now, by this call; 'cancelling' | 'running' = not now; else the state in which the job is.

-- A number of tokens, if it is one.
local function count(value)
  return type(value) == 'number' and value >= 0 and value < 2^53 and value or nil
end

-- What the journal says was used so far, as JSON. An entry that can't be read says nothing.
local function used()
  local prompt, completion = 0, 0
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
    local read, body = pcall(cjson.decode, entry[2][2])
    if read and type(body) == 'table' then
      prompt = count(body.prompt_tokens) or prompt
      completion = completion + (type(body.ids) == 'table' and #body.ids or 0) + (count(body.completion_tokens) or 0)
    end
  end
  return string.format('{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}', prompt, completion,
    prompt + completion)
end

local state, claim, seq, watch, ttl =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'claim', 'seq', 'watch', 'ttl_ms'))
seq = tonumber(seq) or 0
if not state then
  return {'missing', 0, '', ''}
end
if ended(state) then
  return {state, seq, '', ''}
end
if state == 'running' and claim ~= ARGV[4] then
  if ARGV[1] ~= 'cancelled' then
    return {'running', seq, '', ''}
  end
  if redis.call('HGET', KEYS[1], 'cancel') ~= '1' then
    counting(note, now_ms(), 'cancelling')
  end
  redis.call('HSET', KEYS[1], 'cancel', '1', 'cancel_reason', cjson.decode(ARGV[2]).reason or '')
  return {'cancelling', seq, '', ''}
end
local fields = {}
add_fields(fields, ARGV[3])
if redis.call('TYPE', KEYS[2]).ok ~= 'stream' then
  redis.call('DEL', KEYS[2])
end
local usage, last = used(), seq + 1
for _, part in ipairs({'usage', usage, 'seq', last}) do
  fields[#fields + 1] = part
end
redis.call('XADD', KEYS[2], string.format('%d-0', last), 'e', ARGV[2])
finish(ARGV[1], ttl, fields)
return {'ended', last, watch or '', usage}
