#!lua flags=allow-oom
-- with lib_lines
-- Counts a job that has ended in the ledger of its API key, once, and then takes it out of all indexes and lines. All this
-- goes on in a full Redis, so that jobs can end there.
-- KEYS[4], ...: when each job of its API key was charged, its charges, its jobs that are to be settled, its ledger of the
-- day; then the index of running jobs, the queue index of its model, its model's lines.
-- ARGV: job id, tokens that it has used, field of the ledger, count, ... Again, late or by another process: no change.
local LEDGER_S = 400 * 86400
local id, record = ARGV[1], read_place(KEYS[1])
if record.state and not ended(record.state) then
  return 0  -- Redis has come back without its end, which will come again
end
if redis.call('ZSCORE', KEYS[4], id) then
  set_charge(KEYS[5], id, tonumber(ARGV[2]))
  redis.call('HDEL', KEYS[5], '?' .. id)
end
if redis.call('SREM', KEYS[6], id) == 1 then
  for i = 3, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[7], ARGV[i], ARGV[i + 1])
    local currency, model = string.match(ARGV[i], '^%d+ cost (%S*) (.+)$')
    if model then
      counting(count, ARGV[i + 1], 'cost', model, currency)
    end
  end
  redis.call('EXPIRE', KEYS[7], LEDGER_S)
end
if record.state then  -- else it may be restored, and the keeper waits for that
  redis.call('ZREM', KEYS[8], id)
  redis.call('ZREM', KEYS[9], id)
  on_lines(KEYS[10], function() leave(KEYS[10], id, record) end)
end
return 1
