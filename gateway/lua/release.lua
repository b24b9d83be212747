-- running -> queued, by the holder of the claim or by the keeper that found it dead.
-- ARGV: claim id that must still hold, 1 if its engine or worker died else 0. Returns 1 if it was released.
-- A crash is counted while the job may be its cause: it was one of the first two, or the job died alone in its
-- first 8 tokens. 64 new tokens under one claim clear its name.
local state, claim, seq, claim_seq, crashes =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'claim', 'seq', 'claim_seq', 'crashes'))
if state ~= 'running' or claim ~= ARGV[1] then
  return 0
end
crashes = tonumber(crashes) or 0
if ARGV[2] == '1' then
  local new = (tonumber(seq) or 0) - (tonumber(claim_seq) or 0)
  if new >= 64 then
    crashes = 1
  elseif crashes < 2 or new <= 8 then
    crashes = crashes + 1
  end
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'owner', '', 'claim', '', 'queued_at', now_ms(), 'crashes', crashes)
return 1
