-- The jobs that a worker runs, among those that it has claimed; the others are forgotten, by their records.
-- KEYS[1]: the set of them; it has the member '' if the worker asks for its own. ARGV: the worker, 1 if it asks itself.
-- Returns {1 if there is such a set: a worker of an older version, or one that has just begun, has none; job, ...}.
if ARGV[2] == '1' then
  redis.call('SADD', KEYS[1], '')
  redis.call('PEXPIRE', KEYS[1], HELD_TTL)
end
local found = {redis.call('EXISTS', KEYS[1])}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local about = redis.pcall('HMGET', 'hr:{' .. id .. '}', 'state', 'owner')
  if about[1] == 'running' and about[2] == ARGV[1] then
    found[#found + 1] = id
  elseif id ~= '' then
    redis.call('SREM', KEYS[1], id)
  end
end
return found
