-- queued -> running. ARGV: owner, claim id, model, version that the worker knows. Asked again with the same claim id, it answers the same.
-- Returns {verdict, record}: 'ok' | 'missing' | 'elsewhere' (another model runs it) | 'newer' (a version that the worker
-- does not know) | the state that forbids the claim.
local state, claim, seq, model, route, version =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'claim', 'seq', 'model', 'route', 'v'))
if not state then
  return {'missing', {}}
end
if state == 'running' and claim == ARGV[2] then
  return {'ok', redis.call('HGETALL', KEYS[1])}
end
if state ~= 'queued' then
  return {state, {}}
end
if ARGV[3] ~= (route and route ~= '' and route or model) then
  return {'elsewhere', {}}
end
if (tonumber(version) or 0) > tonumber(ARGV[4]) then
  return {'newer', {}}
end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', 'running', 'owner', ARGV[1], 'claim', ARGV[2], 'progress_at', now,
  'claim_seq', seq or 0, 'claim_tokens', 0)
redis.call('HSETNX', KEYS[1], 'started_at', now)
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
return {'ok', redis.call('HGETALL', KEYS[1])}
