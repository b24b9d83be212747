-- Puts a job into the index where its record says that it belongs, and takes it out of the others: a job that has not
-- ended is in one of them at every moment. Run behind each script that moves a job. The one script that also touches
-- keys of no job, which all lie in one Redis.
-- KEYS[4]: the index of running jobs, KEYS[5]: the models with a queue, KEYS[6]: the queue index of the model ARGV[2],
-- KEYS[7], ...: other queue indexes that may hold it. ARGV: job id, model, how old in ms an entry without a record
-- must be to go: a record is made after its entry, the set of jobs of its API key that are not settled. A job that has
-- ended leaves all when it is not in that set; if the set is not known (''), it stays for the keeper to settle.
-- Returns where it is now: a state, or 'missing' | 'elsewhere' (it waits for another model, nothing was changed).
local id, now = ARGV[1], now_ms()
local state, model, route, created_at, background =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'model', 'route', 'created_at', 'background'))

local function leave(from, young_ms)
  for i = from, #KEYS do
    local score = i ~= 5 and tonumber(redis.call('ZSCORE', KEYS[i], id))
    if score and (not young_ms or math.abs(now - score % BACKGROUND) > young_ms) then
      redis.call('ZREM', KEYS[i], id)
    end
  end
end

if not state then
  leave(4, tonumber(ARGV[3]))
  return 'missing'
end
if state == 'running' then
  redis.call('ZADD', KEYS[4], 'NX', now, id)
  leave(6)
elseif state == 'queued' then
  if (route and route ~= '' and route or model) ~= ARGV[2] then
    return 'elsewhere'
  end
  redis.call('SADD', KEYS[5], ARGV[2])
  redis.call('ZADD', KEYS[6], (tonumber(created_at) or now) + (background == '1' and BACKGROUND or 0), id)
  redis.call('ZREM', KEYS[4], id)
  leave(7)
elseif ARGV[4] ~= '' and redis.call('SISMEMBER', ARGV[4], id) == 0 then
  leave(4)
end
return state
