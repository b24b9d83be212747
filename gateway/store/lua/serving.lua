-- The heartbeats and the specs of the replicas of one model. KEYS[1]: says that its sets are complete, KEYS[2]: the set
-- of its incarnations, KEYS[3]: that of its specs, each as `{node} {device} {replica id}`.
-- Returns {1 if the sets are complete, {incarnation, heartbeat, ...}, {member, spec, ...}}, with false for what is gone.
-- What can't be read is an error in its place.
local beats, specs = {}, {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  beats[#beats + 1] = name
  beats[#beats + 1] = redis.pcall('GET', 'hr:worker:' .. name)
end
for _, member in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local node, device, replica = string.match(member, '^(%S*) (%S*) (.*)$')
  specs[#specs + 1] = member
  specs[#specs + 1] = node and redis.pcall('HGET', 'hr:desired:' .. node .. '.' .. device, replica) or false
end
return {redis.call('EXISTS', KEYS[1]), beats, specs}
