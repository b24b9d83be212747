-- with lib_lines
-- Puts a job into the index where its record says that it belongs, and takes it out of the others: a job that has not
-- ended is in one of them at every moment. Run behind each script that moves a job and does not do so itself.
-- KEYS[4]: the index of running jobs, KEYS[5]: the models with a queue, KEYS[6]: the queue index of the model ARGV[2],
-- KEYS[7], ...: other queue indexes that may hold it. ARGV: job id, model, how old in ms an entry without a record
-- must be to go: a worker may restore its record. A job that has ended stays until it is settled, see settle.lua.
-- The lines of these models follow their indexes.
-- Returns {where it is now: a state, or 'missing' | 'elsewhere' (it waits for another model, nothing was changed); the
-- queue of a worker that is to be told of it, or ''}.
local id, now = ARGV[1], now_ms()
local state, model, route, created_at, background =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'model', 'route', 'created_at', 'background'))

local function lines_of(index)
  return (string.gsub(index, '^hr:queued:', 'hr:lines:'))
end

local function leave_lines(from)
  local record = from <= #KEYS and read_place(KEYS[1])
  for i = from, #KEYS do
    local base = lines_of(KEYS[i])
    on_lines(base, function() leave(base, id, record) end)
  end
end

local function leave_indexes(from, young_ms)
  for i = from, #KEYS do
    local score = i ~= 5 and tonumber(redis.call('ZSCORE', KEYS[i], id))
    if score and (not young_ms or math.abs(now - score % BACKGROUND) > young_ms) then
      redis.call('ZREM', KEYS[i], id)
    end
  end
end

if not state then
  leave_indexes(4, tonumber(ARGV[3]))
  return {'missing', ''}
end
if state == 'running' then
  redis.call('ZADD', KEYS[4], 'NX', now, id)
  leave_indexes(6)
  leave_lines(6)
elseif state == 'queued' then
  if (route and route ~= '' and route or model) ~= ARGV[2] then
    return {'elsewhere', ''}
  end
  redis.call('SADD', KEYS[5], ARGV[2])
  redis.call('ZADD', KEYS[6], (tonumber(created_at) or now) + (background == '1' and BACKGROUND or 0), id)
  redis.call('ZREM', KEYS[4], id)
  leave_indexes(7)
  leave_lines(7)
  local base = lines_of(KEYS[6])
  return {state, on_lines(base, function() return opening(base, enter(base, id, read_place(KEYS[1]))) end)}
else
  leave_lines(6)
end
return {state, ''}
